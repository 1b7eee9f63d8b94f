"""The ways of changing an object in place: JSON patch, merge patch, strategic merge patch and (simply) apply."""

from __future__ import annotations

import copy
from typing import Any

from tests.kube.refusals import Refused

MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "secrets": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "ownerReferences": "uid",
    "conditions": "type",
}
"""Lists of core objects that a strategic merge joins by a key; it replaces all others (tolerations, for one)."""


def merge(old: Any, patch: Any) -> Any:
    """Return the result of a JSON merge patch (RFC 7386): null deletes."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def strategic(old: Any, patch: Any, field: str = "") -> Any:
    """Return the result of a strategic merge patch, as far as pods use it: lists by key, null deletes."""
    if isinstance(patch, list) and isinstance(old, list) and field in MERGE_KEYS:
        return _join(old, patch, MERGE_KEYS[field])
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if key.startswith("$") and key != "$patch":
            continue  # $setElementOrder and its like order lists, which our objects do not depend on
        if value is None:
            result.pop(key, None)
        else:
            result[key] = strategic(result.get(key), value, key)
    return result


def _join(old: list[Any], patch: list[Any], name: str) -> list[Any]:
    result = copy.deepcopy(old)
    for item in patch:
        same = [number for number, other in enumerate(result) if other.get(name) == item.get(name)]
        if item.get("$patch") == "delete":
            result = [other for other in result if other.get(name) != item.get(name)]
        elif same:
            result[same[0]] = strategic(result[same[0]], item)
        else:
            result.append(copy.deepcopy(item))
    return result


def json_patch(old: Any, operations: list[dict[str, Any]]) -> Any:
    """Return the result of a JSON patch (RFC 6902): add, replace, remove and test."""
    result = copy.deepcopy(old)
    for one in operations:
        *path, last = [part.replace("~1", "/").replace("~0", "~") for part in one["path"].split("/")[1:]]
        try:
            _operate(result, path, last, one)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise Refused(422, f"the server rejected our request due to an error in our request: {one}") from error
    return result


def _operate(target: Any, path: list[str], last: str, one: dict[str, Any]) -> None:
    for part in path:
        target = target[int(part)] if isinstance(target, list) else target[part]
    place: Any = int(last) if isinstance(target, list) and last != "-" else last
    if one["op"] == "add" and isinstance(target, list):
        target.insert(len(target) if place == "-" else place, one["value"])
    elif one["op"] == "add":
        target[place] = one["value"]
    elif one["op"] == "replace":
        _ = target[place]
        target[place] = one["value"]
    elif one["op"] == "remove":
        del target[place]
    elif one["op"] != "test":
        raise ValueError(one["op"])
    elif target[place] != one["value"]:
        raise Refused(422, f"testing value {one['path']} failed")


def apply(old: dict[str, Any] | None, wanted: dict[str, Any], last: dict[str, Any] | None) -> dict[str, Any]:
    """Return what server-side apply makes: fields that this manager set before and no longer wants go away."""
    kept = _without(old or {}, last or {}, wanted)
    return strategic(kept, {key: value for key, value in wanted.items() if value is not None})


def _without(old: Any, last: Any, wanted: Any) -> Any:
    """Drop from `old` the map fields that are in `last` and not in `wanted`."""
    if not (isinstance(old, dict) and isinstance(last, dict)):
        return old
    keep = wanted if isinstance(wanted, dict) else {}
    return {
        key: _without(value, last.get(key), keep.get(key))
        for key, value in old.items()
        if not (key in last and key not in keep)
    }
