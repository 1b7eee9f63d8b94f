"""Field validation as a strict server does it: unknown fields and wrong types are refused, with the path of the fault.

Core objects are held against the types of the Kubernetes client's models; Argo's and JobSet's against the strict
schemas that lie beside a full checkout of the project, where they do (`SCHEMAS`).
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from tests.kube.kinds import Kind

SCHEMAS = Path(__file__).parents[3] / "shared" / "schemas"
FILES = {
    "workflows": "argo-v{argo}-workflows.strict.json",
    "workflowtemplates": "argo-v{argo}-workflowtemplates.strict.json",
    "jobsets": "jobset-v0.12.0.strict.json",
}
QUANTITY = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?")


def faults(kind: Kind, body: dict[str, Any], argo: str = "4.1.2") -> list[str]:
    """Return what is wrong with an object's form; nothing for kinds that neither source describes."""
    if kind.is_custom:
        return _schema_faults(kind, body, argo)
    return list(_model_faults(kind.version.title() + kind.kind, body, ""))


def _schema_faults(kind: Kind, body: dict[str, Any], argo: str) -> list[str]:
    validator = _validator(FILES.get(kind.plural, "").format(argo=argo))
    if validator is None:
        return []
    bare = {key: value for key, value in body.items() if key != "status"}
    return [
        f'strict decoding error: "{".".join(str(p) for p in error.absolute_path)}": {error.message}'
        for error in validator.iter_errors(bare)
    ]


@cache
def _validator(name: str) -> Any:
    path = SCHEMAS / name
    if not name or not path.is_file():
        return None
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(path.read_text()))


def _model_faults(model: str, value: Any, path: str) -> Any:
    """Yield faults of `value` against a type as the client's models name it: `V1Pod`, `list[str]`, `dict(str, str)`."""
    from kubernetes.client import models

    if value is None:
        return
    if model.startswith("list["):
        if not isinstance(value, list):
            yield f'strict decoding error: "{path}": expected an array, found {value!r}'
            return
        for number, item in enumerate(value):
            yield from _model_faults(model[5:-1], item, f"{path}[{number}]")
    elif model.startswith("dict("):
        if not isinstance(value, dict):
            yield f'strict decoding error: "{path}": expected an object, found {value!r}'
            return
        for key, item in value.items():
            yield from _model_faults(model[5:-1].split(", ", 1)[1], item, f"{path}.{key}")
    elif hasattr(models, model):
        yield from _object_faults(getattr(models, model), value, path)
    elif not _is(model, value, path):
        yield f'strict decoding error: "{path}": expected {model}, found {value!r}'


def _object_faults(model: Any, value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        yield f'strict decoding error: "{path}": expected {model.__name__}, found {value!r}'
        return
    types = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
    for key, item in value.items():
        where = f"{path}.{key}" if path else key
        if key not in types:
            yield f'strict decoding error: unknown field "{where}"'
        else:
            yield from _model_faults(types[key], item, where)


def _is(model: str, value: Any, path: str) -> bool:
    if model == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    if model == "bool":
        return isinstance(value, bool)
    if model == "float":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if model == "str":
        quantity = re.search(r"\.(requests|limits|hard|capacity|allocatable)\.[^.]*[^\]]*$|\.sizeLimit$", path)
        if quantity:
            return isinstance(value, int) or (isinstance(value, str) and bool(QUANTITY.fullmatch(value)))
        return isinstance(value, str)
    return True  # object, datetime: anything
