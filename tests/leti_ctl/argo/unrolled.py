"""What a rendered WorkflowTemplate would run, and in which order, for a run with nothing done: its DAGs unrolled.

The plan step's outputs come from the step itself (`leti_ctl.steps.pending`), everything else from the manifest alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from leti_ctl import steps
from stages.contract.run import Run
from tests.kube.expressions import decide
from tests.kube.flows import item_scope
from tests.kube.templating import substitute

Command = tuple[str, ...]
PLAN = re.compile(r"\{\{tasks\.plan\.outputs\.parameters\.([\w-]+)\}\}")


class Step(NamedTuple):
    """One pod with a stage command, and the commands that must have ended before it starts."""

    command: Command
    after: frozenset[Command]


class Unrolled:
    """Walks the templates of one manifest for one run."""

    def __init__(self, manifest: Mapping[str, Any], run: Run, parameters: Mapping[str, str]) -> None:
        self.templates = {one["name"]: one for one in manifest["spec"]["templates"]}
        self.run = run
        self.globals = {f"workflow.parameters.{name}": value for name, value in parameters.items()}

    def steps(self) -> list[Step]:
        """Return every stage pod of the whole run."""
        return list(self._template("run", {}, frozenset()))

    def _template(self, name: str, given: Mapping[str, str], before: frozenset[Command]) -> Iterator[Step]:
        template = self.templates[name]
        scope = {**self.globals, **{f"inputs.parameters.{key}": value for key, value in given.items()}}
        if "dag" in template:
            yield from self._dag(template["dag"]["tasks"], scope, before)
        elif "container" in template:
            words = [*template["container"]["command"], *template["container"]["args"]]
            yield Step(tuple(substitute(words, scope)), before)

    def _dag(self, tasks: list[dict[str, Any]], scope: Mapping[str, str], before: frozenset[Command]) -> Iterator[Step]:
        ended: dict[str, frozenset[Command]] = {}
        planned: dict[str, str] = {}
        for task in tasks:  # rendered in an order in which every task follows what it depends on
            waits = set(re.findall(r"([\w-]+)\.Succeeded", task.get("depends", "")))
            assert waits <= ended.keys(), f"{task['name']} comes before what it depends on"
            start = before.union(*(ended[name] for name in waits))
            if task["name"] == "plan":
                planned = steps.pending(self.run, self.run.spec, int(scope["inputs.parameters.iteration"]))
                ended["plan"] = start
                continue
            here = {**scope, **{f"tasks.plan.outputs.parameters.{key}": value for key, value in planned.items()}}
            made = list(self._task(task, here, start))
            ended[task["name"]] = start.union(step.command for step in made)
            yield from made

    def _task(self, task: dict[str, Any], scope: Mapping[str, str], start: frozenset[Command]) -> Iterator[Step]:
        if "when" in task and not decide(substitute(task["when"], scope)):
            return
        items = json.loads(substitute(task["withParam"], scope)) if "withParam" in task else [{}]
        for item in items:
            inner = {**scope, **item_scope(item)[1]}
            listed = substitute(task.get("arguments", {}).get("parameters", []), inner)
            yield from self._template(task["template"], {one["name"]: one["value"] for one in listed}, start)
