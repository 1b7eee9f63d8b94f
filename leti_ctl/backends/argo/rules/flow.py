"""Rules of the control flow: which template calls which, with what arguments, after what."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from leti_ctl.backends.argo.rules.manifest import DEPENDS_TERM, Manifest, Problem, Rule, Task, Template, terms

RESULTS = ("Succeeded", "Failed", "Errored", "Skipped", "Omitted", "Daemoned", "AnySucceeded", "AllFailed")
LOOP_RESULTS = ("AnySucceeded", "AllFailed")
STACK_DEPTH = 100
"""Templates inside one another at which the controller gives up (`maxStackDepth`)."""
ITERATIONS = 90


def unknown_template(manifest: Manifest) -> Iterator[Problem]:
    """Every template that is named exists: by tasks, as entrypoint and as exit handler."""
    known = _known(manifest)
    if known is None:
        return
    for path, name in _entries(manifest):
        if name not in known:
            yield Problem(path, f"no template is named {name!r}", f"name one of {_listed(known)}")
    for _, task in _tasks(manifest):
        if "template" in task.body and task.body["template"] not in known:
            what = f"no template is named {task.body['template']!r}"
            yield Problem(f"{task.path}.template", what, f"name one of {_listed(known)}")


def unreachable_template(manifest: Manifest) -> Iterator[Problem]:
    """Every template is reached from the entrypoint or the exit handler."""
    if manifest.is_reference:
        return
    reached = set().union(*(reach(manifest, name) for _, name in _entries(manifest)))
    for template in manifest.all_templates:
        if template.name not in reached:
            yield Problem(template.path, "nothing leads to this template", "call it from a task, or remove it")


def duplicate_name(manifest: Manifest) -> Iterator[Problem]:
    """Template names differ from one another, and names of tasks, inputs and outputs within a template."""
    yield from _twice([(template.name, template.path) for template in manifest.all_templates])
    for template in manifest.all_templates:
        yield from _twice([(task.name, task.path) for task in template.tasks])
        for what in ("inputs", "outputs"):
            found = template.body.get(what, {}).get("parameters") or ()
            yield from _twice([(str(one.get("name")), f"{template.path}.{what}.parameters") for one in found])
    found = manifest.spec.get("arguments", {}).get("parameters") or ()
    yield from _twice([(str(one.get("name")), "spec.arguments.parameters") for one in found])


def missing_argument(manifest: Manifest) -> Iterator[Problem]:
    """A task hands its template every input that has no default."""
    for _, task in _tasks(manifest):
        called = manifest.templates.get(str(task.body.get("template")))
        for name, given in (called.inputs if called else {}).items():
            if not given.keys() & {"value", "default", "valueFrom"} and name not in task.arguments:
                what = f"template {called.name if called else ''} needs the parameter {name!r}"
                yield Problem(f"{task.path}.arguments.parameters", what, f"add {{name: {name}, value: ...}}")
        for name, argument in task.arguments.items():
            if not argument.keys() & {"value", "valueFrom"}:
                yield Problem(f"{task.path}.arguments.parameters[{name}]", "has no value", "add a value, or remove it")
    yield from _missing_at_entry(manifest)


def extra_argument(manifest: Manifest) -> Iterator[Problem]:
    """A task hands its template no parameter that the template does not declare."""
    for _, task in _tasks(manifest):
        called = manifest.templates.get(str(task.body.get("template")))
        for name in task.arguments.keys() - called.inputs.keys() if called else ():
            what = f"template {called.name if called else ''} declares no parameter {name!r}"
            yield Problem(f"{task.path}.arguments.parameters[{name}]", what, "remove it, or declare it as an input")


def unknown_dependency(manifest: Manifest) -> Iterator[Problem]:
    """`depends` and `dependencies` name tasks of the same DAG, and results that exist."""
    for template, task in _tasks(manifest):
        known = {other.name: other for other in template.tasks}
        for name in task.body.get("dependencies") or ():
            yield from _dependency(f"{task.path}.dependencies", name, "", known)
        for name, result in terms(str(task.body.get("depends", ""))):
            yield from _dependency(f"{task.path}.depends", name, result, known)


def depends_syntax(manifest: Manifest) -> Iterator[Problem]:
    """`depends` is tasks joined by &&, || and !, with balanced parentheses."""
    for _, task in _tasks(manifest):
        depends = str(task.body.get("depends", ""))
        skeleton = re.sub(r"\s+", "", DEPENDS_TERM.sub("t", depends))
        while (shorter := re.sub(r"!t|t(&&|\|\|)t|\(t\)", "t", skeleton)) != skeleton:
            skeleton = shorter
        if depends and skeleton != "t":
            yield Problem(f"{task.path}.depends", f"cannot read {depends!r}", "join tasks with &&, ||, ! and ()")


def dependency_cycle(manifest: Manifest) -> Iterator[Problem]:
    """No task waits for itself, directly or through others."""
    for _, task in _tasks(manifest):
        if task.name in task.before:
            yield Problem(task.path, "waits for itself through its dependencies", "take one edge of the circle out")


def endless_recursion(manifest: Manifest) -> Iterator[Problem]:
    """A template that leads back to itself does so through a task with `when`."""
    for template, task in _tasks(manifest):
        called = str(task.body.get("template"))
        if called == template.name and "when" not in task.body:
            yield Problem(task.path, "calls its own template and never stops", "add `when` with the condition to go on")


def recursion_depth(manifest: Manifest) -> Iterator[Problem]:
    """90 iterations fit into the controller's stack of 100 templates, so a round may pass through one only."""
    for template in manifest.all_templates:
        rounds = _shortest_round(manifest, template)
        if rounds is not None and rounds * ITERATIONS > STACK_DEPTH:
            what = f"each iteration goes {rounds} templates deeper; the controller stops at a depth of {STACK_DEPTH}"
            yield Problem(template.path, what, "let the template call itself directly")


RULES: tuple[Rule, ...] = (
    unknown_template, unreachable_template, duplicate_name, missing_argument, extra_argument, unknown_dependency,
    depends_syntax, dependency_cycle, endless_recursion, recursion_depth,
)  # fmt: skip


def reach(manifest: Manifest, start: str) -> set[str]:
    """Return the names of the templates that `start` leads to, itself included."""
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            template = manifest.templates.get(name)
            waiting += [str(task.body.get("template")) for task in template.tasks] if template else []
    return reached


def _tasks(manifest: Manifest) -> Iterator[tuple[Template, Task]]:
    return ((template, task) for template in manifest.all_templates for task in template.tasks)


def _known(manifest: Manifest) -> list[str] | None:
    """Return the template names to choose from; None where the templates are in an object we do not have."""
    if not manifest.is_reference:
        return list(manifest.templates)
    other = manifest.others.get(manifest.spec["workflowTemplateRef"].get("name", ""))
    return list(other.templates) if other else None


def _entries(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield path and name of the templates that the workflow itself starts."""
    keys = ("entrypoint", "onExit")
    yield from ((f"spec.{key}", str(manifest.spec[key])) for key in keys if key in manifest.spec)
    if "entrypoint" not in manifest.spec and not manifest.is_reference:
        yield "spec.entrypoint", ""


def _missing_at_entry(manifest: Manifest) -> Iterator[Problem]:
    for path, name in _entries(manifest):
        inputs = manifest.templates[name].inputs if name in manifest.templates else {}
        for missing in inputs.keys() - manifest.parameters.keys():
            if not inputs[missing].keys() & {"value", "default", "valueFrom"}:
                what = f"template {name} needs the parameter {missing!r}, which the workflow does not have"
                yield Problem(path, what, "add it to spec.arguments.parameters, or give the input a value")


def _dependency(path: str, name: str, result: str, known: dict[str, Task]) -> Iterator[Problem]:
    if name not in known:
        yield Problem(path, f"no task is named {name!r}", f"name one of {_listed(known)}")
    elif result and result not in RESULTS:
        yield Problem(path, f"{name}.{result} is no result of a task", f"use one of {_listed(RESULTS)}")
    elif result in LOOP_RESULTS and not known[name].is_loop:
        yield Problem(path, f"{name}.{result} exists only where {name} is a loop", "use Succeeded or Failed")


def _twice(places: list[tuple[str, str]]) -> Iterator[Problem]:
    for name, count in Counter(name for name, _ in places).items():
        if count > 1:
            path = next(path for other, path in places if other == name)
            yield Problem(path, f"{count} are named {name!r}", "rename all but one")


def _shortest_round(manifest: Manifest, start: Template) -> int | None:
    """Return how many templates deep one goes from `start` to `start` again; None if one does not come back."""
    depth, level, seen = 0, {start.name}, {start.name}
    while level:
        depth += 1
        tasks = [task for name in level if name in manifest.templates for task in manifest.templates[name].tasks]
        level = {str(task.body.get("template")) for task in tasks}
        if start.name in level:
            return depth
        level -= seen
        seen |= level
    return None


def _listed(names: object) -> str:
    return ", ".join(sorted(map(str, names)))  # type: ignore[call-overload]
