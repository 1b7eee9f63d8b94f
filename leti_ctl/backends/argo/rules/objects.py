"""Rules of the object itself: names, labels, parameter values, and what the CRD's own CEL rules refuse on a server."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from leti_ctl.backends.argo.rules.manifest import Manifest, Problem, Rule, Template, nodes

NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
TASK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
PARAMETER = re.compile(r"(inputs|outputs|arguments)\.parameters\[[^\]]+\]\.name$")
PARAMETER_NAME = re.compile(r"[A-Za-z0-9_-]+")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?")
LABEL_KEY = re.compile(r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
LONGEST = 63
WORDS = {
    ".resource.action": ("get", "create", "apply", "delete", "replace", "patch"),
    ".retryStrategy.retryPolicy": ("Always", "OnFailure", "OnError", "OnTransientError"),
    ".imagePullPolicy": ("Always", "IfNotPresent", "Never"),
    ".effect": ("NoSchedule", "PreferNoSchedule", "NoExecute"),
    "podGC.strategy": ("OnPodCompletion", "OnPodSuccess", "OnWorkflowCompletion", "OnWorkflowSuccess"),
}
"""What a field whose path ends so may say."""
LOCATIONS = ("artifactory", "azure", "gcs", "git", "hdfs", "http", "oss", "plugin", "raw", "s3")
BESIDE_REFERENCE = {
    "activeDeadlineSeconds", "archiveLogs", "arguments", "artifactGC", "entrypoint", "metrics", "podGC", "priority",
    "shutdown", "suspend", "ttlStrategy", "workflowMetadata", "workflowTemplateRef",
}  # fmt: skip
"""What Argo's `templateReferencing`, Strict or Secure, lets a Workflow set beside its workflowTemplateRef."""


def object_name(manifest: Manifest) -> Iterator[Problem]:
    """Names are DNS names of at most 63 characters: the controller makes them values of labels."""
    metadata = manifest.body.get("metadata") or {}
    name = str(metadata.get("name") or metadata.get("generateName", "").rstrip("-"))
    if len(name) > LONGEST or not NAME.fullmatch(name):
        what = f"{name!r} is no name" if len(name) <= LONGEST else f"{name!r} has {len(name)} characters"
        yield Problem("metadata.name", what, f"use at most {LONGEST} of a-z, 0-9, - and .")
    for template in manifest.all_templates:
        for path, each in ((template.path, template.name), *((task.path, task.name) for task in template.tasks)):
            if len(each) > LONGEST or not TASK_NAME.fullmatch(each):
                yield Problem(f"{path}.name", f"{each!r} is no name", f"use at most {LONGEST} letters, digits and -")
    for path, value in nodes(manifest.spec, "spec"):
        if PARAMETER.search(path) and not PARAMETER_NAME.fullmatch(str(value)):
            yield Problem(path, f"{value!r} is no parameter name", "use letters, digits, - and _")


def label_value(manifest: Manifest) -> Iterator[Problem]:
    """Labels have valid keys and values of at most 63 characters; annotation values are strings."""
    for path, labels in _labels(manifest):
        for key, value in labels.items():
            if not LABEL_KEY.fullmatch(str(key)) or len(str(key).rpartition("/")[2]) > LONGEST:
                yield Problem(f"{path}[{key}]", "is no label key", "use [prefix/]name with a name of at most 63")
            if not isinstance(value, str):
                yield Problem(f"{path}[{key}]", f"{value!r} is not a string", "quote it")
            elif not _is_label(text := manifest.sample(value)):
                yield Problem(f"{path}[{key}]", f"{text!r} is no label value", "use at most 63 of A-Z a-z 0-9 - _ .")


def template_type(manifest: Manifest) -> Iterator[Problem]:
    """A template is of exactly one type."""
    for template in manifest.all_templates:
        if len(template.kinds) != 1:
            found = " and ".join(template.kinds) or "none"
            yield Problem(template.path, f"declares {found}", "keep one of container, dag, resource, script, steps")


def deadline_on_flow(manifest: Manifest) -> Iterator[Problem]:
    """Only pods have deadlines: a dag or steps template with one is refused."""
    for template in manifest.all_templates:
        for key in ("activeDeadlineSeconds", "timeout"):
            if key in template.body and set(template.kinds) & {"dag", "steps"}:
                path = f"{template.path}.{key}"
                yield Problem(path, "is not allowed on a dag or steps template", "set it on the templates it calls")


def depends_or_dependencies(manifest: Manifest) -> Iterator[Problem]:
    """A DAG uses depends or dependencies; with depends no continueOn; its task names do not begin with a digit."""
    for template in (template for template in manifest.all_templates if "dag" in template.body):
        uses_depends = any("depends" in task.body for task in template.tasks)
        for task in template.tasks:
            if uses_depends and "dependencies" in task.body:
                yield Problem(f"{task.path}.dependencies", "another task uses depends", "use depends in all of them")
            if uses_depends and "continueOn" in task.body:
                remedy = "name the results in depends instead"
                yield Problem(f"{task.path}.continueOn", "is not allowed beside depends", remedy)
            if task.name[:1].isdigit():
                yield Problem(f"{task.path}.name", "begins with a digit, which a DAG cannot read", "rename the task")


def sequence_bounds(manifest: Manifest) -> Iterator[Problem]:
    """A sequence has a count or an end."""
    for template in manifest.all_templates:
        for task in template.tasks:
            sequence = task.body.get("withSequence")
            if sequence is not None and ("count" in sequence) == ("end" in sequence):
                yield Problem(f"{task.path}.withSequence", "needs count or end, and not both", "keep one of them")


def resource_template(manifest: Manifest) -> Iterator[Problem]:
    """A resource template has one manifest to create, and nothing to wait for when it deletes."""
    for template in manifest.all_templates:
        if (resource := template.body.get("resource")) is not None:
            yield from _resource(template, resource)


def unknown_value(manifest: Manifest) -> Iterator[Problem]:
    """Fields that take one of a few words have one of them: a cluster with minimal CRDs takes any."""
    for path, value in nodes(manifest.spec, "spec"):
        if not isinstance(value, str) or "{{" in value:
            continue
        known = next((words for ending, words in WORDS.items() if path.endswith(ending)), None)
        if known and value not in known:
            yield Problem(path, f"{value!r} is not known", f"use one of {', '.join(known)}")


def artifact_location(manifest: Manifest) -> Iterator[Problem]:
    """An artifact lies in one place."""
    for path, value in nodes(manifest.spec, "spec"):
        found = [key for key in LOCATIONS if key in value] if isinstance(value, Mapping) else []
        if len(found) > 1 and re.search(r"\.artifacts\[[^\]]+\]$|\.archiveLocation$", path):
            yield Problem(path, f"names {' and '.join(found)}", "keep one location")


def reference_only(manifest: Manifest) -> Iterator[Problem]:
    """A Workflow that refers to a template sets nothing a strict controller would refuse, and gives every parameter."""
    if not manifest.is_reference:
        return
    for key in manifest.spec.keys() - BESIDE_REFERENCE:
        yield Problem(f"spec.{key}", "may not be set beside workflowTemplateRef", "set it in the WorkflowTemplate")
    other = manifest.others.get(name := str(manifest.spec["workflowTemplateRef"].get("name")))
    for wanted, declared in (other.parameters if other else {}).items():
        if "value" not in declared and "value" not in manifest.parameters.get(wanted, {}):
            what = f"template {name} needs the parameter {wanted!r}"
            yield Problem("spec.arguments.parameters", what, f"add {{name: {wanted}, value: ...}}")
    for extra in manifest.parameters.keys() - other.parameters.keys() if other else ():
        path = f"spec.arguments.parameters[{extra}]"
        yield Problem(path, f"template {name} declares no such parameter", "remove it")


RULES: tuple[Rule, ...] = (
    object_name, label_value, template_type, deadline_on_flow, depends_or_dependencies,
    sequence_bounds, resource_template, unknown_value, artifact_location, reference_only,
)  # fmt: skip


def _labels(manifest: Manifest) -> Iterator[tuple[str, Mapping[str, Any]]]:
    places = [("metadata", manifest.body.get("metadata"))]
    places += [(f"spec.{key}", manifest.spec.get(key)) for key in ("podMetadata", "workflowMetadata")]
    places += [(f"{each.path}.metadata", each.body.get("metadata")) for each in manifest.all_templates]
    for template in manifest.all_templates:
        created = manifest.created(template)
        found = nodes(created, f"{template.path}.resource.manifest:") if created else ()
        places += [(path, value) for path, value in found if path.rpartition(".")[2].endswith("metadata")]
    return ((f"{path}.labels", place["labels"]) for path, place in places if place and place.get("labels"))


def _is_label(value: str) -> bool:
    return len(value) <= LONGEST and LABEL_VALUE.fullmatch(value) is not None


def _resource(template: Template, resource: Mapping[str, Any]) -> Iterator[Problem]:
    path, action = f"{template.path}.resource", resource.get("action")
    manifests = [key for key in ("manifest", "manifestFrom") if key in resource]
    if len(manifests) > 1:
        yield Problem(path, "has manifest and manifestFrom", "keep one of them")
    if not manifests and action not in ("delete", "get", "patch"):
        yield Problem(path, f"action {action} has nothing to create", "add a manifest")
    waits = [key for key in ("successCondition", "failureCondition") if key in resource]
    if action == "delete" and (waits or template.outputs):
        yield Problem(path, "a deleted object meets no condition and has no outputs", "remove them")
