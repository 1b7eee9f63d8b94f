"""Steps and DAGs: which tasks start when, what they are given, and what their ends make of the whole."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.kube.expressions import Scope, Unresolved, decide, evaluate
from tests.kube.nodes import BAD, COMPLETED, ManifestError, is_done, known
from tests.kube.objects import Object
from tests.kube.templating import substitute

if TYPE_CHECKING:
    from tests.kube.workflow import Operation

TASK = ("name", "template", "arguments", "depends", "when", "withParam")
STEP = ("name", "template", "arguments", "when", "withParam", "continueOn")
RESULTS = ("Succeeded", "Failed", "Errored", "Skipped", "Omitted", "Daemoned", "AnySucceeded", "AllFailed")


class Context(NamedTuple):
    """Where a template is executed."""

    name: str
    boundary: str
    on_exit: bool
    depth: int
    inputs: dict[str, str]


def run_dag(operation: Operation, template: Object, context: Context) -> Object:
    """Start every task whose dependencies are done; settle the DAG when its last tasks are."""
    known(f"{template['name']}.dag", template["dag"], "tasks", "failFast")
    nodes = operation.nodes
    node = nodes.find(context.name)
    if node is None:
        node = nodes.start(context.name, "DAG", template["name"], context.boundary, phase="Running")
        node["inputs"] = {"parameters": [{"name": key, "value": value} for key, value in context.inputs.items()]}
    dag = _Dag(operation, template, context)
    for task in dag.targets:
        dag.advance(task)
    # An exit handler's own DAG fails at once too before Argo 3.7.17 and 4.0.8, so manifests must not have one.
    phase = "Failed" if operation.shutdown else dag.phase(node)
    if phase != "Running":
        ends = [found for task in dag.targets if (found := dag.node(task))]
        node["outboundNodes"] = [nodes.id_of(name) for end in ends for name in nodes.outbound(end)]
        if phase == "Succeeded":
            _set_outputs(node, template, dag.outputs())
        nodes.mark(node, phase)
    return node


class _Dag:
    def __init__(self, operation: Operation, template: Object, context: Context) -> None:
        self.operation, self.template, self.context = operation, template, context
        self.tasks: dict[str, Object] = {task["name"]: task for task in template["dag"]["tasks"]}
        for task in self.tasks.values():
            known(f"{template['name']}.{task['name']}", task, *TASK)
        self.after = {name: _names(task.get("depends", ""), self.tasks) for name, task in self.tasks.items()}
        waited_for = {name for names in self.after.values() for name in names}
        self.targets = sorted(self.tasks.keys() - waited_for)
        self.visited: set[str] = set()

    def node(self, task: str) -> Object | None:
        return self.operation.nodes.find(f"{self.context.name}.{task}")

    def advance(self, task: str) -> None:
        """Bring a task and what it waits for further."""
        if task in self.visited:
            return
        self.visited.add(task)
        found = self.node(task)
        if is_done(found):
            return
        for other in self.after[task]:
            self.advance(other)
        if found is None and not self._is_ready(task):
            return
        try:
            bound = substitute(self.tasks[task], {**self.operation.scope, **self.scope(task)}, keep=True)
            self._expand(task, bound)
        except (Unresolved, ValueError) as error:
            raise ManifestError(f"{self.template['name']}.{task}: {error}") from error

    def _is_ready(self, task: str) -> bool:
        """Whether all dependencies are done and `depends` holds; when it does not, the task is omitted."""
        before = {name: self.node(name) for name in self.after[task]}
        if not all(is_done(node) for node in before.values()) or not self.operation.starting:
            return False
        if before and not _depends(self.tasks[task]["depends"], before, self.operation):
            self._skip(task, task, "Omitted", "omitted: depends condition not met")
            return False
        return True

    def _expand(self, task: str, bound: Object) -> None:
        """Execute a task, or each of its items below a TaskGroup node."""
        if "withParam" not in bound:
            self._one(task, task, bound)
            return
        items = json.loads(bound["withParam"])
        nodes, name = self.operation.nodes, f"{self.context.name}.{task}"
        if not isinstance(items, list):
            raise ManifestError(f"withParam value could not be parsed as a JSON list: {bound['withParam']}")
        if not items:
            self._skip(task, task, "Skipped", "Skipped, empty params")
            return
        if nodes.find(name) is None:
            nodes.start(name, "TaskGroup", bound["template"], self.boundary, phase="Running")
            self._link(task, name)
        bare = {key: value for key, value in bound.items() if key != "withParam"}
        children = []
        for number, item in enumerate(items):
            label, values = item_scope(item)
            child = f"{task}({number}:{label})"
            children.append(self._one(task, child, substitute(bare, {**self.operation.scope, **values}, keep=True)))
        if all(is_done(child) for child in children):
            bad = [child["phase"] for child in children if child and child["phase"] in BAD]
            nodes.mark(nodes.by_id[nodes.id_of(name)], bad[-1] if bad else "Succeeded")

    def _one(self, task: str, place: str, bound: Object) -> Object | None:
        name = f"{self.context.name}.{place}"
        if self.operation.nodes.find(name) is None and "when" in bound and not decide(bound["when"]):
            return self._skip(task, place, "Skipped", f"when '{bound['when']}' evaluated false")
        arguments = substitute(bound.get("arguments", {}), self.operation.scope)
        depth, on_exit = self.context.depth + 1, self.context.on_exit
        node = self.operation.execute(name, bound["template"], arguments, self.boundary, on_exit=on_exit, depth=depth)
        if node is not None:
            self._link(task, name)
        return node

    @property
    def boundary(self) -> str:
        return self.operation.nodes.id_of(self.context.name)

    def _skip(self, task: str, place: str, phase: str, why: str) -> Object:
        name = f"{self.context.name}.{place}"
        template = self.tasks[task]["template"]
        node = self.operation.nodes.start(name, "Skipped", template, self.boundary, phase=phase, message=why)
        self._link(task, name)
        return node

    def _link(self, task: str, name: str) -> None:
        """Link a node below its group, what its task waited for, or the DAG itself."""
        nodes = self.operation.nodes
        group = f"{self.context.name}.{task}"
        if name != group:
            nodes.link(group, name)
        elif not self.after[task]:
            nodes.link(self.context.name, name)
        for other in self.after[task] if name == group else []:
            for end in nodes.outbound(self.node(other) or {}):
                nodes.link(end, name)

    def scope(self, task: str) -> Scope:
        """Return the outputs and phases of everything that ran before a task."""
        names, todo = set(), list(self.after[task])
        while todo:
            name = todo.pop()
            if name not in names:
                names.add(name)
                todo += self.after[name]
        return self.outputs(names)

    def outputs(self, names: set[str] | None = None) -> Scope:
        found: dict[str, Any] = {}
        for name in self.tasks if names is None else names:
            found.update(outputs_of(f"tasks.{name}", self.node(name)))
        return found

    def phase(self, dag: Object) -> str:
        """Return the DAG's phase: that of its last tasks, where one left out takes the phase of what was before it."""
        ends: dict[str, str] = {self.operation.nodes.id_of(f"{self.context.name}.{task}"): "" for task in self.targets}
        queue, seen = [(child, "Succeeded") for child in dag.get("children", [])], set()
        while queue:
            place = queue.pop(0)
            if place in seen:
                continue
            seen.add(place)
            node, branch = self.operation.nodes.by_id[place[0]], place[1]
            if not is_done(node):
                return "Running"
            branch = node["phase"] if node["phase"] in COMPLETED else branch
            if node["id"] in ends and ends[node["id"]] not in BAD:
                ends[node["id"]] = branch
            children = node.get("children", [])
            queue += [(child, branch) for child in (children[-1:] if node["type"] == "Retry" else children)]
        if any(phase == "" for phase in ends.values()):
            return "Running"
        return next((phase for phase in ends.values() if phase in BAD), "Succeeded")


def run_steps(operation: Operation, template: Object, context: Context) -> Object:
    """Run groups of steps one after the other."""
    nodes = operation.nodes
    node = nodes.find(context.name)
    if node is None:
        node = nodes.start(context.name, "Steps", template["name"], context.boundary, phase="Running")
        node["inputs"] = {"parameters": [{"name": key, "value": value} for key, value in context.inputs.items()]}
    scope: dict[str, Any] = {}
    before = [context.name]
    for number, group in enumerate(template["steps"]):
        name = f"{context.name}[{number}]"
        found = nodes.find(name)
        if found is None and not operation.starting:
            return node
        if found is None:
            found = nodes.start(name, "StepGroup", "", node["id"], phase="Running")
            for end in before:
                nodes.link(end, name)
        steps = [_step(operation, template, step, name, context, scope) for step in group]
        if not all(is_done(step) for step in steps):
            if operation.shutdown and not context.on_exit:
                nodes.mark(found, "Failed")
                return nodes.mark(node, "Failed")
            return node
        done = [step for step in steps if step]
        bad = [
            made for step, made in zip(group, done, strict=True) if made["phase"] in BAD and not _goes_on(step, made)
        ]
        nodes.mark(found, bad[0]["phase"] if bad else "Succeeded")
        if bad:
            return nodes.mark(node, bad[0]["phase"], f"child '{bad[0]['id']}' failed")
        for step, made in zip(group, done, strict=True):
            scope.update(outputs_of(f"steps.{step['name']}", made))
        before = [end for step in done for end in nodes.outbound(step)]
        node["outboundNodes"] = [nodes.id_of(end) for end in before]
    _set_outputs(node, template, scope)
    return nodes.mark(node, "Succeeded")


def _step(
    operation: Operation, template: Object, step: Object, group: str, context: Context, scope: Scope
) -> Object | None:
    known(f"{template['name']}.{step['name']}", step, *STEP)
    if "withParam" in step:
        raise ManifestError(f"{template['name']}.{step['name']}: withParam in steps is not known here")
    name = f"{group}.{step['name']}"
    bound = substitute(step, {**operation.scope, **scope})
    nodes = operation.nodes
    if nodes.find(name) is None and "when" in bound and not decide(bound["when"]):
        why = f"when '{bound['when']}' evaluated false"
        boundary = nodes.id_of(context.name)
        nodes.start(name, "Skipped", bound["template"], boundary, phase="Skipped", message=why)
    else:
        operation.execute(
            name, bound["template"], bound.get("arguments", {}), nodes.id_of(context.name),
            on_exit=context.on_exit, depth=context.depth + 1,
        )  # fmt: skip
    found = nodes.find(name)
    if found is not None:
        nodes.link(group, name)
    return found


def _goes_on(step: Object, node: Object) -> bool:
    """Whether the steps after a failed one run all the same."""
    known("continueOn", step.get("continueOn", {}), "failed", "error")
    return bool(step.get("continueOn", {}).get({"Failed": "failed", "Error": "error"}[node["phase"]]))


def item_scope(item: Any) -> tuple[str, Scope]:
    """Return an item's label in node names, and the variables it sets."""
    if isinstance(item, dict):
        values = {key: _item_text(value) for key, value in item.items()}
        label = ",".join(sorted(f"{key}:{value}" for key, value in values.items()))
        scope = {f"item.{key}": value for key, value in values.items()}
        return re.sub(r"[()]", "", label), {**scope, "item": _compact(item)}
    return re.sub(r"[()]", "", _item_text(item)), {"item": _item_text(item)}


def _item_text(value: Any) -> str:
    """Return compact JSON; of a string its JSON form without the quotes around it, so escapes stay (issue 16061)."""
    text = _compact(value)
    return text[1:-1] if isinstance(value, str) else text


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def outputs_of(prefix: str, node: Object | None) -> dict[str, Any]:
    """Return a node's outputs and phase as variables."""
    if node is None:
        return {}
    listed = node.get("outputs", {}).get("parameters", [])
    found = {f"{prefix}.outputs.parameters.{one['name']}": one["value"] for one in listed}
    return {**found, f"{prefix}.status": node["phase"], f"{prefix}.id": node["id"], f"{prefix}.name": node["name"]}


def _set_outputs(node: Object, template: Object, scope: Scope) -> None:
    """Give a flow the outputs that its template takes from its tasks."""
    known(f"{template['name']}.outputs", template.get("outputs", {}), "parameters")
    made = []
    for one in template.get("outputs", {}).get("parameters", []):
        source = one["valueFrom"]
        known(f"{template['name']}.outputs.{one['name']}.valueFrom", source, "parameter", "expression", "default")
        try:
            value = (
                substitute(source["parameter"], scope)
                if "parameter" in source
                else evaluate(source["expression"], scope)
            )
        except Unresolved:
            if "default" not in source:
                raise
            value = source["default"]
        made.append({"name": one["name"], "value": value})
    if made:
        node["outputs"] = {"parameters": made}


def _words(text: str) -> list[tuple[str, str]]:
    return re.findall(r"([A-Za-z0-9_][\w-]*)(?:\.(\w+))?", text)


def _names(depends: str, tasks: dict[str, Object]) -> list[str]:
    """Return the tasks that `depends` names, in order."""
    found = list(dict.fromkeys(name for name, _ in _words(depends)))
    for name in found:
        if name not in tasks:
            raise ManifestError(f"depends {depends!r}: there is no task {name!r}")
    return found


def _depends(text: str, before: dict[str, Object | None], operation: Operation) -> bool:
    """Return what a `depends` says of finished tasks; a bare name means succeeded, skipped or daemoned."""

    def spell(word: re.Match[str]) -> str:
        name, result = word[1].replace("-", "_"), word[2]
        if result and result not in RESULTS:
            raise ManifestError(f"depends {text!r}: {result} is no task result")
        return f"{name}.{result}" if result else f"({name}.Succeeded || {name}.Skipped || {name}.Daemoned)"

    scope = {}
    for name, node in before.items():
        assert node is not None
        children = [operation.nodes.by_id[child]["phase"] for child in node.get("children", [])]
        group = children if node["type"] == "TaskGroup" else []
        phase = {"Error": "Errored"}.get(node["phase"], node["phase"])
        found = {result: phase == result for result in RESULTS}
        found["AnySucceeded"] = "Succeeded" in group
        found["AllFailed"] = bool(group) and all(one == "Failed" for one in group)
        scope.update({f"{name.replace('-', '_')}.{key}": value for key, value in found.items()})
    value = evaluate(re.sub(r"([A-Za-z0-9_][\w-]*)(?:\.(\w+))?", spell, text), scope)
    return bool(value)


FLOWS = {"dag": run_dag, "steps": run_steps}
