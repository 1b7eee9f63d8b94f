"""A Workflow or WorkflowTemplate as the rules read it: templates, tasks and pods, each with its path in the YAML."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import yaml

POD_KINDS = ("container", "script")
KINDS = ("container", "containerSet", "dag", "data", "http", "plugin", "resource", "script", "steps", "suspend")
TAG = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
DEPENDS_TERM = re.compile(r"([A-Za-z0-9_-]+)(?:\.([A-Za-z]+))?")
LONGEST = {"jobset": "x" * 30, "iteration": "90", "train-nodes": "99"}
"""The longest value a parameter takes in a run, where a name is put together from it."""


class Problem(NamedTuple):
    """One thing a rule found."""

    path: str
    what: str
    remedy: str


@dataclass(frozen=True)
class Task:
    """One task of a DAG or one step of a steps template."""

    name: str
    path: str
    body: Mapping[str, Any]
    before: frozenset[str]
    """Tasks whose outputs exist when this one starts: those it directly or indirectly depends on."""

    @property
    def is_loop(self) -> bool:
        """Whether the task is expanded once per item."""
        return any(key in self.body for key in ("withItems", "withParam", "withSequence"))

    @property
    def arguments(self) -> dict[str, Mapping[str, Any]]:
        """The parameters it hands to its template."""
        return named(self.body.get("arguments", {}).get("parameters", ()))


@dataclass(frozen=True)
class Template:
    """One template, its tasks in writing order."""

    name: str
    path: str
    body: Mapping[str, Any]

    @property
    def kinds(self) -> list[str]:
        """The template types it declares; exactly one is right."""
        return [kind for kind in KINDS if kind in self.body]

    @property
    def inputs(self) -> dict[str, Mapping[str, Any]]:
        """Its input parameters by name."""
        return named(self.body.get("inputs", {}).get("parameters", ()))

    @property
    def outputs(self) -> dict[str, Mapping[str, Any]]:
        """Its output parameters by name."""
        return named(self.body.get("outputs", {}).get("parameters", ()))

    @cached_property
    def tasks(self) -> list[Task]:
        """Its tasks or steps; none for a template that is a pod."""
        if "dag" in self.body:
            return list(_dag_tasks(self.body["dag"].get("tasks", ()), f"{self.path}.dag.tasks"))
        return list(_steps(self.body.get("steps", ()), f"{self.path}.steps"))

    @property
    def is_untrusted(self) -> bool:
        """Whether its pod runs text that a model wrote."""
        return bool(self.body.get("metadata", {}).get("labels", {}).get("leti.dev/untrusted") == "true")


@dataclass(frozen=True)
class Pod:
    """What becomes a pod: a container template, or the pods of a JobSet that a resource template creates."""

    path: str
    template: Template
    containers: list[tuple[str, Mapping[str, Any]]]
    spec: Mapping[str, Any]
    """Fields of a Kubernetes pod spec that hold for the pod: the template's, else the workflow's."""


@dataclass(frozen=True)
class Manifest:
    """One object, with the other objects it may refer to."""

    body: Mapping[str, Any]
    others: Mapping[str, Manifest] = field(default_factory=dict)
    """WorkflowTemplates by name."""

    @property
    def title(self) -> str:
        """Kind and name, to tell objects apart in messages."""
        metadata = self.body.get("metadata") or {}
        return f"{self.body.get('kind')} {metadata.get('name') or metadata.get('generateName')}"

    @property
    def spec(self) -> Mapping[str, Any]:
        """The workflow's spec."""
        spec: Mapping[str, Any] = self.body.get("spec") or {}
        return spec

    @property
    def is_reference(self) -> bool:
        """Whether it is a Workflow that takes its templates from a WorkflowTemplate."""
        return "workflowTemplateRef" in self.spec

    @cached_property
    def templates(self) -> dict[str, Template]:
        """Templates by name; of two with one name the last, which `duplicate-name` reports."""
        return {template.name: template for template in self.all_templates}

    @cached_property
    def all_templates(self) -> list[Template]:
        """Templates in writing order."""
        return [
            Template(str(body.get("name", place)), f"spec.templates[{label(body, place)}]", body)
            for place, body in enumerate(self.spec.get("templates") or ())
        ]

    @property
    def parameters(self) -> dict[str, Mapping[str, Any]]:
        """The workflow's parameters by name."""
        return named(self.spec.get("arguments", {}).get("parameters", ()))

    @cached_property
    def pods(self) -> list[Pod]:
        """Every kind of pod the workflow makes."""
        mine = [_template_pod(template, self.spec) for template in self.all_templates if _is_pod(template)]
        theirs = [pod for template in self.all_templates for pod in _jobset_pods(template, self.created(template))]
        return mine + theirs

    def created(self, template: Template) -> Mapping[str, Any] | None:
        """Return the object a resource template creates, variables filled in; None if there is none to read."""
        text = template.body.get("resource", {}).get("manifest")
        loaded = load(self.sample(text)) if isinstance(text, str) else None
        return loaded if isinstance(loaded, Mapping) else None

    def sample(self, text: str) -> str:
        """Return `text` with each variable replaced by its default, or by the longest value it takes."""

        def fill(match: re.Match[str]) -> str:
            name = match[1].strip().rpartition(".")[2]
            default = self.parameters.get(name, {}).get("value")
            return LONGEST.get(name) or (str(default) if default else "1")

        return TAG.sub(fill, text)


Rule = Callable[[Manifest], Iterator[Problem]]


def named(items: Any) -> dict[str, Mapping[str, Any]]:
    """Return list elements by their name."""
    return {str(item.get("name")): item for item in items or ()}


def label(item: Any, place: int) -> str:
    """Return how a person finds a list element again: by its name where it has one."""
    name = item.get("name") if isinstance(item, Mapping) else None
    return name if isinstance(name, str) and name else str(place)


def nodes(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield every mapping, list and leaf below `value`, itself included, with its path, in the order of a reader."""
    waiting = [(path, value)]
    while waiting:
        path, value = waiting.pop()
        yield path, value
        if isinstance(value, str):  # most are, and no other question is as quickly answered
            continue
        if isinstance(value, list):
            waiting += [(f"{path}[{label(item, place)}]", item) for place, item in enumerate(value)][::-1]
        elif isinstance(value, Mapping):
            waiting += [(f"{path}.{key}" if path else str(key), item) for key, item in value.items()][::-1]


@lru_cache(maxsize=256)
def load(text: str) -> Any:
    """Return the YAML of `text`, or None if it is none; remembered, because every rule asks again."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def patch(template: Template) -> Mapping[str, Any] | None:
    """Return the template's podSpecPatch with every variable read as 1, or None if that is no mapping."""
    loaded = load(TAG.sub("1", str(template.body.get("podSpecPatch", "{}"))))
    return loaded if isinstance(loaded, Mapping) else None


def terms(depends: str) -> list[tuple[str, str]]:
    """Return the tasks and results that a `depends` expression names: `a.Succeeded && !b` is [a Succeeded], [b]."""
    return [(name, result or "") for name, result in DEPENDS_TERM.findall(depends)]


def direct(body: Mapping[str, Any]) -> set[str]:
    """Return the names of the tasks that a task waits for."""
    return {name for name, _ in terms(str(body.get("depends", "")))} | set(body.get("dependencies") or ())


def _dag_tasks(bodies: Any, path: str) -> Iterator[Task]:
    after = {str(body.get("name")): direct(body) for body in bodies}
    for place, body in enumerate(bodies):
        before: set[str] = set()
        waiting = list(after[str(body.get("name"))])
        while waiting:
            name = waiting.pop()
            if name not in before:
                before.add(name)
                waiting += after.get(name, ())
        yield Task(str(body.get("name")), f"{path}[{label(body, place)}]", body, frozenset(before))


def _steps(groups: Any, path: str) -> Iterator[Task]:
    before: set[str] = set()
    for place, group in enumerate(groups):
        for rank, body in enumerate(group):
            name = str(body.get("name"))
            yield Task(name, f"{path}[{place}][{label(body, rank)}]", body, frozenset(before))
        before |= {str(body.get("name")) for body in group}


def _is_pod(template: Template) -> bool:
    return any(kind in template.body for kind in POD_KINDS)


def _template_pod(template: Template, spec: Mapping[str, Any]) -> Pod:
    body = template.body
    kind = next(kind for kind in POD_KINDS if kind in body)
    containers = [(f"{template.path}.{kind}", body[kind])]
    for extra in ("initContainers", "sidecars"):
        found = enumerate(body.get(extra) or ())
        containers += [(f"{template.path}.{extra}[{label(one, place)}]", one) for place, one in found]
    inherited = {key: spec[key] for key in ("tolerations", "securityContext", "serviceAccountName") if key in spec}
    patched = {key: value for key, value in (patch(template) or {}).items() if key != "containers"}
    whole = {**inherited, **body, **patched, "volumes": [*(spec.get("volumes") or ()), *(body.get("volumes") or ())]}
    return Pod(template.path, template, containers, whole)


def _jobset_pods(template: Template, created: Mapping[str, Any] | None) -> Iterator[Pod]:
    for place, job in enumerate((created or {}).get("spec", {}).get("replicatedJobs") or ()):
        path = f"{template.path}.resource.manifest:spec.replicatedJobs[{label(job, place)}].template.spec.template.spec"
        spec = job.get("template", {}).get("spec", {}).get("template", {}).get("spec", {})
        found = [(key, each) for key in ("containers", "initContainers") for each in enumerate(spec.get(key) or ())]
        containers = [(f"{path}.{key}[{label(one, place)}]", one) for key, (place, one) in found]
        yield Pod(path, template, containers, spec)
