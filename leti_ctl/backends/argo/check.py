"""Structural check of Argo objects: every field known and of the right type, at any depth, before a server sees it.

The model classes of the `argo-workflows` SDK know the fields of Argo 3.7 and of the Kubernetes types inside; their own
validation accepts unknown fields and changes its input. This walks the same tables and does neither, so it catches the
misspelt field that a cluster with minimal CRDs would drop without a word, and what only a later Argo understands.
Int-or-string fields are strings here: that is how Argo itself writes them, and both forms are valid on a server.
"""

from __future__ import annotations

import datetime
import difflib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from stages.contract.errors import UsageError

API_VERSION = "argoproj.io/v1alpha1"
KINDS = {
    "Workflow": "io_argoproj_workflow_v1alpha1_workflow.IoArgoprojWorkflowV1alpha1Workflow",
    "WorkflowTemplate": "io_argoproj_workflow_v1alpha1_workflow_template.IoArgoprojWorkflowV1alpha1WorkflowTemplate",
    "CronWorkflow": "io_argoproj_workflow_v1alpha1_cron_workflow.IoArgoprojWorkflowV1alpha1CronWorkflow",
}
UNCHECKED = ("status",)
"""What the controller writes; never part of a manifest we make, and larger than the SDK's tables describe."""
IN_PATCH = ("runtimeClassName", "terminationGracePeriodSeconds", "enableServiceLinks", "topologySpreadConstraints")
"""Fields of a pod that a template does not have and people expect."""
SHOWN = 40


def check_structure(manifest: Mapping[str, Any]) -> list[str]:
    """Return one line `path: what; remedy` for each field that is unknown, missing or of the wrong type."""
    kind = manifest.get("kind")
    if kind not in KINDS or manifest.get("apiVersion") != API_VERSION:
        known = ", ".join(KINDS)
        return [f"kind: {manifest.get('apiVersion')} {kind} is not checked here; give {API_VERSION} and one of {known}"]
    body = {key: value for key, value in manifest.items() if key not in UNCHECKED}
    return list(_fields(body, _model(kind), ""))


def _model(kind: str) -> type:
    from importlib import import_module

    module, _, name = KINDS[kind].partition(".")
    try:
        model: type = getattr(import_module(f"argo_workflows.model.{module}"), name)
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed; the argo backend needs: pip install 'leti[argo]'") from None
    return model


def _fields(body: Mapping[str, Any], model: Any, path: str) -> Iterator[str]:
    """Yield what is wrong with the fields of one object."""
    types = _types(model)
    for name in _required(model) - body.keys():
        yield f"{_join(path, name)}: is missing; add it"
    for name, value in body.items():
        if name in types:
            yield from _value(value, types[name], _join(path, name))
        else:
            yield f"{_join(path, str(name))}: is no field of {_title(model)}; {_suggestion(str(name), types)}"


def _value(value: Any, kinds: Sequence[Any], path: str) -> Iterator[str]:
    """Yield what is wrong with a value for which the SDK lists `kinds`; several of them mean any JSON."""
    if len(kinds) > 1:
        return
    kind = kinds[0]
    if isinstance(kind, list):
        yield from _elements(value, kind, path)
    elif isinstance(kind, dict):
        yield from _entries(value, kind[str], path)
    elif hasattr(kind, "openapi_types"):
        yield from _object(value, kind, path)
    elif not _fits(value, kind):
        yield _wrong_type(value, {str: "a string", bool: "true or false"}.get(kind, f"{kind.__name__}"), path)


def _object(value: Any, model: Any, path: str) -> Iterator[str]:
    if set(_types(model)) == {"value"} and not isinstance(value, Mapping):
        yield from _value(value, _types(model)["value"], path)  # a named alias: parallel steps, quantities
    elif isinstance(value, Mapping):
        yield from _fields(value, model, path)
    else:
        yield _wrong_type(value, "a mapping", path)


def _elements(value: Any, kinds: Sequence[Any], path: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield _wrong_type(value, "a list", path)
        return
    for place, item in enumerate(value):
        yield from _value(item, kinds, f"{path}[{_label(item, place)}]")


def _entries(value: Any, kinds: Sequence[Any], path: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield _wrong_type(value, "a mapping", path)
        return
    for name, item in value.items():
        yield from _value(item, kinds, f"{path}[{name}]")


def _fits(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, int | float)
    if kind in (datetime.datetime, datetime.date):
        return isinstance(value, str)
    return kind is object or isinstance(value, kind)


@cache
def _types(model: Any) -> Mapping[str, Any]:
    """Return what the SDK lists for each field, by the field's name in YAML."""
    names = model.attribute_map
    # A named alias lists its one `value` and maps no names.
    return {names.get(name, name): kinds for name, kinds in model.openapi_types.items()}


@cache
def _required(model: Any) -> frozenset[str]:
    """Return the fields without which the SDK cannot build the object: the positional ones of its constructor."""
    parameters = inspect.signature(model._from_openapi_data).parameters.values()
    positional = [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD and one.default is one.empty]
    return frozenset(model.attribute_map[name] for name in positional if name in model.attribute_map)


def _label(item: Any, place: int) -> str:
    """Return how a person finds an element again: by its name where it has one."""
    name = item.get("name") if isinstance(item, Mapping) else None
    return name if isinstance(name, str) and name else str(place)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _title(model: Any) -> str:
    return str(model.__name__).removeprefix("IoArgoprojWorkflowV1alpha1")


def _suggestion(name: str, known: Mapping[str, Any]) -> str:
    if name in IN_PATCH:
        return "write it in podSpecPatch"
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else "remove it, or run an Argo that has it and a leti that knows it"


def _wrong_type(value: Any, wanted: str, path: str) -> str:
    shown = repr(value)
    shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}…"
    quote = "; quote it" if wanted == "a string" and not isinstance(value, Mapping | list) else "; correct it"
    return f"{path}: is {shown}, not {wanted}{quote}"
