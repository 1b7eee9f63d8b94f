"""Rules of `{{...}}`: what may be named where, so that nothing reaches a pod as literal text.

The controller leaves a variable it cannot resolve as it stands, or fails hours later when the task is reached.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from leti_ctl.backends.argo.rules.flow import reach
from leti_ctl.backends.argo.rules.manifest import TAG, Manifest, Problem, Rule, Task, Template, nodes

WORKFLOW = {"name", "namespace", "uid", "serviceAccountName", "mainEntrypoint", "priority", "duration", "scheduledTime"}
AT_EXIT = {"status", "failures"}
TASK_FIELDS = {"id", "ip", "status", "exitCode", "startedAt", "finishedAt", "hostNodeName", "name", "outputs"}
LAST_RETRY = {"exitCode", "status", "duration", "message"}
BARE = ("expression",)
"""Keys whose value is an expression without braces."""
ROOTS = r"(?:workflow|inputs|outputs|tasks|steps|item|retries|lastRetry|pod|node)"
REFERENCE = re.compile(rf"(?<![\w.'\"\x01])({ROOTS}(?:\.[\w\x01]+)*)(-[A-Za-z][\w-]*)?")
BRACKETS = re.compile(r"\[\s*(['\"])([^'\"]*)\1\s*\]")
LITERAL = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")


class Scope(NamedTuple):
    """Where a string stands, which decides what it may name."""

    manifest: Manifest
    template: Template | None
    task: Task | None
    at_exit: bool


def unknown_variable(manifest: Manifest) -> Iterator[Problem]:
    """Every variable names something that exists where it stands."""
    for path, text, scope in _strings(manifest):
        for tag in TAG.findall(text):
            references = _references(tag[1:]) if tag.startswith("=") else [(tag.strip(), "")]
            yield from _unresolved(path, references, scope)
        if path.rpartition(".")[2] in BARE:
            yield from _unresolved(path, _references(text), scope)


def unbalanced_braces(manifest: Manifest) -> Iterator[Problem]:
    """Every `{{` has its `}}`."""
    for path, text, _ in _strings(manifest):
        if "{{" in TAG.sub("", text):
            yield Problem(path, "a {{ is never closed", "close it with }}")


def expression_hyphen(manifest: Manifest) -> Iterator[Problem]:
    """A name with a hyphen stands in brackets inside an expression, where a hyphen subtracts."""
    for path, text, _ in _strings(manifest):
        found = [tag[1:] for tag in TAG.findall(text) if tag.startswith("=")]
        for expression in found + ([text] if path.rpartition(".")[2] in BARE else []):
            for name, rest in _references(expression):
                if rest and "." in name:
                    stem, _, last = name.rpartition(".")
                    remedy = f"write {stem}['{last}{rest}']"
                    yield Problem(path, f"{name}{rest} subtracts instead of naming {last}{rest}", remedy)


RULES: tuple[Rule, ...] = (unknown_variable, unbalanced_braces, expression_hyphen)


def _strings(manifest: Manifest) -> Iterator[tuple[str, str, Scope]]:
    """Yield every string of the spec with its path and scope."""
    at_exit = reach(manifest, str(manifest.spec["onExit"])) if "onExit" in manifest.spec else set()
    outside = {key: value for key, value in manifest.spec.items() if key != "templates"}
    yield from _leaves(outside, "spec", Scope(manifest, None, None, at_exit=False))
    for template in manifest.all_templates:
        exits = template.name in at_exit
        without = {key: value for key, value in template.body.items() if key not in ("dag", "steps")}
        yield from _leaves(without, template.path, Scope(manifest, template, None, exits))
        for task in template.tasks:
            yield from _leaves(task.body, task.path, Scope(manifest, template, task, exits))


def _leaves(value: Any, path: str, scope: Scope) -> Iterator[tuple[str, str, Scope]]:
    return ((where, leaf, scope) for where, leaf in nodes(value, path) if isinstance(leaf, str))


def _references(expression: str) -> list[tuple[str, str]]:
    """Return the variables an expression names, and the `-rest` that follows one without brackets."""
    hidden = BRACKETS.sub(lambda match: "." + match[2].replace("-", "\x01"), expression)
    found = REFERENCE.findall(LITERAL.sub("''", hidden))
    return [(name.replace("\x01", "-"), rest) for name, rest in found]


def _unresolved(path: str, references: list[tuple[str, str]], scope: Scope) -> Iterator[Problem]:
    for name, rest in references:
        if not rest and (remedy := _remedy(name, scope)):
            yield Problem(path, f"{{{{{name}}}}} names nothing here", remedy)


def _remedy(name: str, scope: Scope) -> str:
    """Return what to do about a variable, or nothing if it resolves."""
    root, *rest = name.split(".")
    if root == "workflow":
        return _workflow(rest, scope)
    if root in ("item", "retries", "lastRetry"):
        return _loop_or_retry(root, rest, scope)
    if scope.template is None:
        return "at this level only {{workflow...}} is known"
    if root == "inputs":
        return _declared(rest, scope.template.inputs, "inputs", scope.template)
    if root == "outputs":
        return _declared(rest, scope.template.outputs, "outputs", scope.template)
    if root in ("tasks", "steps"):
        return _other_task(root, rest, scope)
    return "" if root in ("pod", "node") and rest == ["name"] else "use a variable that Argo knows"


def _workflow(rest: list[str], scope: Scope) -> str:
    head, name = rest[0] if rest else "", ".".join(rest[1:])
    if head == "parameters":
        known = scope.manifest.parameters
        return "" if name in ("", "json") or name in known else f"declare it, or use one of {_listed(known)}"
    if head in AT_EXIT:
        return "" if scope.at_exit else "it exists in the exit handler only"
    known_here = WORKFLOW | {"creationTimestamp", "labels", "annotations", "outputs"}
    return "" if head in known_here else f"use one of {_listed(known_here)}"


def _loop_or_retry(root: str, rest: list[str], scope: Scope) -> str:
    if root == "item":
        in_loop = scope.task is not None and scope.task.is_loop
        return "" if in_loop else "add withParam, withItems or withSequence to the task"
    if scope.template is None or "retryStrategy" not in scope.template.body:
        return "it exists in templates with a retryStrategy only; add one"
    if root == "retries":
        return ""
    return "" if rest and rest[0] in LAST_RETRY else f"use lastRetry. with one of {_listed(LAST_RETRY)}"


def _declared(rest: list[str], parameters: Any, what: str, template: Template) -> str:
    if rest[:1] == ["artifacts"]:
        artifacts = {item.get("name") for item in template.body.get(what, {}).get("artifacts") or ()}
        return "" if rest[1:2] and rest[1] in artifacts else f"declare it in {what}.artifacts"
    if rest[:1] != ["parameters"]:
        return f"write {what}.parameters.NAME"
    name = ".".join(rest[1:]).removesuffix(".path") if what == "outputs" else ".".join(rest[1:])
    return "" if not name or name in parameters else f"declare it in {what}.parameters of template {template.name}"


def _other_task(root: str, rest: list[str], scope: Scope) -> str:
    template, task = scope.template, scope.task
    if rest == ["name"] or template is None:
        return ""
    others = {other.name: other for other in template.tasks}
    name = rest[0] if rest else ""
    if name not in others or (root == "tasks") != ("dag" in template.body):
        return f"template {template.name} has no {root[:-1]} of that name"
    if task is not None and name not in task.before:
        return f"{task.name} does not wait for {name}; add it to depends"
    if len(rest) < 2 or rest[1] not in TASK_FIELDS:
        return f"use one of {_listed(TASK_FIELDS)}"
    called = scope.manifest.templates.get(str(others[name].body.get("template")))
    if rest[1:3] == ["outputs", "parameters"] and called and rest[3:] and rest[3] not in called.outputs:
        return f"template {called.name} puts out no such parameter"
    return ""


def _listed(names: Any) -> str:
    return ", ".join(sorted(names))
