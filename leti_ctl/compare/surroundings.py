"""Everything about two runs that is no data: spec fields, code versions, images, Python, and the package locks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from leti_ctl import control
from leti_ctl.compare.sides import Side
from leti_ctl.inventory.makers import makers
from stages.contract.errors import ArtifactError
from stages.contract.spec import RunSpec, is_compatible

Lock = Mapping[str, str]
"""Versions by the distributions' normalised names (PEP 503)."""


def spec(one: RunSpec, other: RunSpec) -> list[dict[str, Any]]:
    """Return the fields that differ: dotted name, both values, whether they are compatible (change no row)."""
    return list(_fields(one, other, "", False))


def environment(one: Side, other: Side) -> dict[str, Any]:
    """Return code, images, Python and hosts of both sides, and what differs between their package locks."""
    sides = [_made(side) for side in (one, other)]
    told = {name: [side[name] for side in sides] for name in ("code", "images", "python", "hosts", "packages")}
    locks = [_locks(side, keys) for side, keys in zip((one, other), told["packages"], strict=True)]
    return {
        **told,
        "versions": list(_versions(*locks)),
        "same": all(told[name][0] == told[name][1] for name in told if name != "hosts"),
    }


def _fields(one: BaseModel, other: BaseModel, path: str, compatible: bool) -> Iterator[dict[str, Any]]:
    for name, field in type(one).model_fields.items():
        first, second = getattr(one, name), getattr(other, name)
        here, free = f"{path}{name}", compatible or is_compatible(field)
        if isinstance(first, BaseModel) and isinstance(second, BaseModel):
            yield from _fields(first, second, f"{here}.", free)
        elif first != second:
            yield {"field": here, "first": first, "second": second, "compatible": free}


def _made(side: Side) -> dict[str, list[str]]:
    return makers(record for ref in side.refs.values() for record in side.parts(ref))


def _locks(side: Side, keys: list[str]) -> dict[str, list[str]]:
    """Return each distribution's versions over all locks of a side."""
    found: dict[str, set[str]] = {}
    for key in keys:
        for name, version in _lock(side, key).items():
            found.setdefault(name, set()).add(version)
    return {name: sorted(versions) for name, versions in found.items()}


def _lock(side: Side, key: str) -> Lock:
    try:
        data = control.get_named(side.run, side.run.key(key))
    except KeyError:
        raise ArtifactError(f"{side.run.key(key)}: parts were made with this package lock, and it is gone") from None
    pairs = (line.rpartition("-") for line in data.decode().splitlines())
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, _, version in pairs}


def _versions(first: Mapping[str, list[str]], second: Mapping[str, list[str]]) -> Iterator[dict[str, Any]]:
    for name in sorted(first.keys() | second.keys()):
        if first.get(name) != second.get(name):
            yield {"package": name, "first": first.get(name), "second": second.get(name)}
