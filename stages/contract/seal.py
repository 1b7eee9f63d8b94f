"""From part records to the index: which records there have to be, and what they add up to."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence

from stages.contract.artifacts import Index, Part, PartRecord, Ref

_RECORD = re.compile(r"(?P<number>\d{5})-of-(?P<of>\d{5})\.json")


def part_under(ref: Ref, key: str) -> Part | None:
    """Return the part whose record lies under a key relative to the run; None for a stranger's key."""
    found = _RECORD.fullmatch(key.removeprefix(f"{ref.prefix}/parts/"))
    part = Part(int(found["number"]), int(found["of"])) if found else None
    return part if part and part.number < part.of else None


def divisions(ref: Ref, keys: Iterable[str]) -> list[int]:
    """Return into how many parts these keys say that the artifact is divided: one number, unless something is wrong."""
    return sorted({part.of for key in keys if (part := part_under(ref, key))})


def part_keys(ref: Ref, parts: int) -> list[str]:
    """Return the keys of all part records of a division, in part order."""
    return [ref.part_key(Part(number, parts)) for number in range(parts)]


def make_index(ref: Ref, records: Sequence[PartRecord]) -> Index:
    """Return the index of an artifact whose part records these are, all of them, in part order.

    It is a function of what the parts hold and came from alone: not of who made them, nor when, nor in which order.
    """
    return Index(
        artifact=ref.artifact,
        iteration=ref.iteration,
        split=ref.split,
        parts=len(records),
        rows=sum(record.rows for record in records),
        objects=tuple(itertools.chain.from_iterable(record.objects for record in records)),
        inputs=tuple(dict.fromkeys(itertools.chain.from_iterable(record.inputs for record in records))),
        spec_sha256=records[0].spec_sha256,
        facts={str(record.part): record.facts for record in records if record.facts},
    ).sealed()
