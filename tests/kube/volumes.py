"""Volumes as folders, and the environment of a container."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

from tests.kube.kinds import CONFIGMAPS, SECRETS
from tests.kube.nodes import known
from tests.kube.objects import Object, Objects

KINDS = {"configMap": CONFIGMAPS, "secret": SECRETS, "configMapRef": CONFIGMAPS, "secretRef": SECRETS,
         "configMapKeyRef": CONFIGMAPS, "secretKeyRef": SECRETS}  # fmt: skip


def mount(objects: Objects, pod: Object, folder: Path) -> None:
    """Make the pod's volumes; KeyError with the kubelet's words for what they need and is not there."""
    for volume in pod["spec"].get("volumes", []):
        known(f"volume {volume['name']}", volume, "name", "emptyDir", "configMap", "secret")
        place = folder / "volumes" / volume["name"]
        place.mkdir(parents=True, exist_ok=True)
        for kind in ("configMap", "secret"):
            if kind in volume:
                name = volume[kind].get("name") or volume[kind].get("secretName")
                for key, value in _data(objects, pod, kind, name, optional=volume[kind].get("optional", False)).items():
                    (place / key).write_text(value)


def mounts(container: Object, folder: Path) -> dict[str, Path]:
    """Return the folders by the path at which the container sees them."""
    listed = container.get("volumeMounts", [])
    return {one["mountPath"].rstrip("/"): folder / "volumes" / one["name"] / one.get("subPath", "") for one in listed}


def rewrite(text: str, mounted: dict[str, Path]) -> str:
    """Return `text` with a path inside a mount replaced by the path on this machine."""
    flag, equals, path = text.partition("=") if text.startswith("-") else ("", "", text)
    for place in sorted(mounted, key=len, reverse=True):
        if path == place or path.startswith(place + "/"):
            return f"{flag}{equals}{mounted[place]}{path[len(place) :]}"
    return text


def environment(objects: Objects, pod: Object, container: Object) -> dict[str, str]:
    """Return a container's variables; KeyError with the kubelet's words for sources that are missing."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        known("envFrom", source, "configMapRef", "secretRef", "prefix")
        (kind,) = source.keys() & {"configMapRef", "secretRef"}
        values = _data(objects, pod, kind, source[kind]["name"], optional=source[kind].get("optional", False))
        found.update({source.get("prefix", "") + key: value for key, value in values.items()})
    for one in container.get("env", []):
        value = one.get("value", "") if "valueFrom" not in one else _referenced(objects, pod, one["valueFrom"])
        if value is not None:
            found[one["name"]] = re.sub(r"\$\((\w+)\)", lambda m: found.get(m[1], m[0]), value)
    return found


def _referenced(objects: Objects, pod: Object, source: Object) -> str | None:
    known("valueFrom", source, "fieldRef", "configMapKeyRef", "secretKeyRef")
    (kind,) = source
    if kind == "fieldRef":
        return _field(pod, source[kind]["fieldPath"])
    optional = source[kind].get("optional", False)
    values = _data(objects, pod, kind, source[kind]["name"], optional=optional)
    if source[kind]["key"] not in values and not optional:
        raise KeyError(f"couldn't find key {source[kind]['key']} in {kind} {source[kind]['name']}")
    return values.get(source[kind]["key"])


def _field(pod: Object, path: str) -> str:
    """Return what the downward API gives for `metadata.labels['x']`, `metadata.name`, `spec.nodeName`."""
    keyed = re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", path)
    if keyed:
        return str(pod["metadata"].get(keyed[1], {}).get(keyed[2], ""))
    found: Any = pod
    for name in path.split("."):
        found = found[name]
    return str(found)


def _data(objects: Objects, pod: Object, kind: str, name: str, *, optional: bool) -> dict[str, str]:
    item = objects.find(KINDS[kind], pod["metadata"]["namespace"], name)
    if item is None:
        if optional:
            return {}
        raise KeyError(f'{KINDS[kind].kind.lower()} "{name}" not found')
    if KINDS[kind] is CONFIGMAPS:
        return dict(item.get("data", {}))
    return {key: base64.b64decode(value).decode() for key, value in item.get("data", {}).items()}
