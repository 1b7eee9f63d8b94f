"""Artifacts by the digests of their data, and the first unit of work that came out differently."""

from __future__ import annotations

import hashlib
from typing import Any

from leti_ctl.compare.sides import Side
from stages.contract.artifacts import ARTIFACTS, Part, PartRecord, Ref


def compare(one: Side, other: Side) -> list[dict[str, Any]]:
    """Return a row per artifact: `state` is same, divided (the same rows in other parts), different or only_*."""
    names = dict.fromkeys([*one.refs, *other.refs])
    return [_row(one, other, name) for name in names]


def _row(one: Side, other: Side, name: str) -> dict[str, Any]:
    left, right = one.refs.get(name), other.refs.get(name)
    first = one.catalog.digest(left) if left else None
    second = other.catalog.digest(right) if right else None
    if left is None or right is None:
        state = "only_first" if left else "only_second"
    elif one.contents(left) == other.contents(right):
        state = "same"
    else:
        state = "divided" if _same_rows(one, left, other, right) else "different"
    return {"artifact": name, "state": state, "first": first, "second": second}


def _same_rows(one: Side, left: Ref, other: Side, right: Ref) -> bool:
    """Whether two lists of parts are one list of rows; only asked where their numbers differ."""
    if ARTIFACTS[left.artifact].format != "jsonl" or len(one.parts(left)) == len(other.parts(right)):
        return False
    return _joined(one, left) == _joined(other, right)


def _joined(side: Side, ref: Ref) -> str:
    digest = hashlib.sha256()
    for item in side.catalog.objects(ref):
        for chunk in side.run.store.stream(side.run.key(item.key)):
            digest.update(chunk)
    return digest.hexdigest()


def first(one: Side, other: Side, artifacts: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return where two sides part company: the first artifact in graph order that differs, and the first part of it.

    `made_from_the_same` says whether everything that part was made from is equal on both sides: then what differs is
    the spec, the surroundings or chance, and else one of `other_inputs`. `same_before` is the last artifact that is
    equal. None where nothing differs that both sides have.
    """
    before = None
    for row in artifacts:
        if row["state"] in ("same", "divided"):
            before = row["artifact"]
        elif row["state"] == "different":
            return {"same_before": before, **_part(one, other, row["artifact"])}
    return None


def _part(one: Side, other: Side, name: str) -> dict[str, Any]:
    left, right = one.parts(one.refs[name]), other.parts(other.refs[name])
    told: dict[str, Any] = {"artifact": name, "parts": [len(left), len(right)]}
    if len(left) == len(right):
        pairs = zip(left, right, strict=True)
        a, b = next(pair for pair in pairs if one.part_contents(pair[0]) != other.part_contents(pair[1]))
        told["part"] = str(Part(a.part, a.parts))
    else:
        a, b = left[0], right[0]
        told["part"] = None
    different = _other_inputs(one, a, other, b)
    return {**told, "made_from_the_same": not different, "other_inputs": different}


def _other_inputs(one: Side, a: PartRecord, other: Side, b: PartRecord) -> list[str]:
    first, second = dict(one.inputs(a)), dict(other.inputs(b))
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
