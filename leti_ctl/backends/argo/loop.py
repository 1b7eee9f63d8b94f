"""The loop as Argo DAGs, derived from the graph: every edge here is an edge of `leti_ctl.pipeline.GRAPH`.

    run        prepare -> iteration(start)
    iteration  plan -> the missing units of one iteration -> the same template for the next
    pass       one held-out pass: its parts, then its scores
    chain      one part: generate -> execute, with no barrier between parts

Tail recursion makes one manifest serve any number of iterations. The next iteration waits for what the edges into the
previous one name (training), so held-out passes go on beside it; with `stop.patience` it waits for those too, because
its plan step is what decides from the scores whether there is a next iteration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from leti_ctl.pipeline import GRAPH, PATIENT, Node

Template = dict[str, Any]
PLAN_OUTPUTS = {
    "chains": "[]",
    "passes": "[]",
    "builds": "[]",
    "train": "false",
    "evaluate-train": "false",
    "next": "false",
    "patient": "false",
}
"""What the plan step says, each with the value that makes nothing happen."""
_BY_NAME = {node.name: node for node in GRAPH}
_CHAINED = {name for node in GRAPH for edge in node.after if edge.join == "part" for name in (node.name, edge.node)}
_ITERATION = "{{inputs.parameters.iteration}}"


def templates(*, clears: bool) -> list[Template]:
    """Return the four DAGs; `clears` adds the removal of JobSets that an earlier workflow of the run left."""
    return [_run(clears), _iteration(), _pass(), _chain()]


def arguments(**values: str) -> dict[str, Any]:
    """Return an `arguments` (or `inputs`) block with parameters."""
    return {"parameters": [{"name": name, "value": value} for name, value in values.items()]}


def inputs(*names: str) -> dict[str, Any]:
    """Return an `inputs` block with parameters."""
    return {"parameters": [{"name": name} for name in names]}


def _run(clears: bool) -> Template:
    once = [node for node in GRAPH if node.scope == "run"]
    start = {"when": "'{{workflow.parameters.start}}' == '0'"}
    tasks: list[dict[str, Any]] = [{"name": node.name, "template": node.stage, **start} for node in once]
    before = _done(node.name for node in once)
    if clears:
        tasks.insert(0, {"name": "clear", "template": "clear"})
        before = f"clear.Succeeded && {before}"
    first = arguments(iteration="{{workflow.parameters.start}}")
    return _dag("run", [*tasks, {"name": "iteration", "template": "iteration", "depends": before, "arguments": first}])


def _iteration() -> Template:
    repeated = [node for node in GRAPH if node.scope != "run"]
    waits = _waits(repeated, _task)
    tasks = [{"name": "plan", "template": "plan", "arguments": arguments(iteration=_ITERATION)}]
    for name, before in waits.items():
        depends = _done(before) if before else "plan.Succeeded"
        tasks.append({"name": name, "depends": depends, **_step(name)})
    trained = [_task(_BY_NAME[edge.node]) for node in repeated for edge in node.after if edge.join == "previous"]
    tasks.append(_next("next", "false", trained))
    tasks.append(_next("next-patient", "true", [*trained, _task(_BY_NAME[PATIENT.node])]))
    return _dag("iteration", tasks, "iteration")


def _pass() -> Template:
    held_out = [node for node in GRAPH if node.scope == "held_out"]
    split = "{{inputs.parameters.split}}"
    steps: dict[str, dict[str, Any]] = {
        "chains": _fan_out("{{inputs.parameters.chains}}"),
        "evaluate-test": {"template": "evaluate", "arguments": arguments(iteration=_ITERATION, split=split)},
    }
    tasks = [
        {"name": name, **({"depends": _done(before)} if before else {}), **steps[name]}
        for name, before in _waits(held_out, lambda node: "chains" if node.name in _CHAINED else node.name).items()
    ]
    return _dag("pass", tasks, "iteration", "split", "chains")


def _chain() -> Template:
    """One part. The plan step says whether it is still to be generated, so that no accelerator starts to find out."""
    given = {name: f"{{{{inputs.parameters.{name}}}}}" for name in ("iteration", "split", "part")}
    linked = [node for node in GRAPH if node.name in _CHAINED and node.scope == "train"]
    tasks = []
    for name, before in _waits(linked, lambda node: node.stage).items():
        first = {"when": "'{{inputs.parameters.generate}}' == 'true'"} if not before else {"depends": _done(before)}
        tasks.append({"name": name, "template": name, **first, "arguments": arguments(**given)})
    return _dag("chain", tasks, "iteration", "split", "part", "generate")


def _task(node: Node) -> str:
    """Return the task of the iteration's DAG that holds a node."""
    if node.scope == "held_out":
        return "passes"
    return "chains" if node.name in _CHAINED else node.name


def _step(name: str) -> dict[str, Any]:
    """Return what a task of the iteration's DAG runs, and which output of the plan step says whether and how often."""
    if name == "chains":
        return _fan_out(_planned("chains"))
    if name == "passes":
        given = arguments(iteration=_ITERATION, split="{{item.split}}", chains="{{item.chains}}")
        return {"template": "pass", "withParam": _planned("passes"), "arguments": given}
    if name == "build":
        given = arguments(iteration=_ITERATION, part="{{item.part}}")
        return {"template": "build", "withParam": _planned("builds"), "arguments": given}
    node = _BY_NAME[name]
    given = arguments(iteration=_ITERATION, **({"split": "train"} if node.stage == "evaluate" else {}))
    return {"template": node.stage, "when": f"'{_planned(name)}' == 'true'", "arguments": given}


def _fan_out(items: str) -> dict[str, Any]:
    item = {name: f"{{{{item.{name}}}}}" for name in ("split", "part", "generate")}
    return {"template": "chain", "withParam": items, "arguments": arguments(iteration=_ITERATION, **item)}


def _next(name: str, patient: str, before: Iterable[str]) -> dict[str, Any]:
    return {
        "name": name,
        "template": "iteration",
        "depends": _done(before),
        "when": f"'{_planned('next')}' == 'true' && '{_planned('patient')}' == '{patient}'",
        "arguments": arguments(iteration="{{=asInt(inputs.parameters.iteration) + 1}}"),
    }


def _waits(nodes: Iterable[Node], task: Callable[[Node], str]) -> dict[str, list[str]]:
    """Return, for each task, the tasks it waits for: the edges between its nodes and others of the same iteration."""
    nodes = list(nodes)
    here = {node.name for node in nodes}
    waits: dict[str, list[str]] = {task(node): [] for node in nodes}
    for node in nodes:
        for edge in node.after:
            if edge.join != "previous" and edge.node in here and task(_BY_NAME[edge.node]) != task(node):
                waits[task(node)].append(task(_BY_NAME[edge.node]))
    return waits


def _done(tasks: Iterable[str]) -> str:
    """Return the condition that all tasks succeeded or had nothing to do; a failed one leaves its followers undone."""
    return " && ".join(f"({task}.Succeeded || {task}.Skipped)" for task in dict.fromkeys(tasks))


def _planned(output: str) -> str:
    return f"{{{{tasks.plan.outputs.parameters.{output}}}}}"


def _dag(name: str, tasks: list[dict[str, Any]], *parameters: str) -> Template:
    # Not failFast: the other parts' work is committed and kept, and held-out passes do not depend on training.
    declared = {"inputs": inputs(*parameters)} if parameters else {}
    return {"name": name, **declared, "dag": {"failFast": False, "tasks": tasks}}
