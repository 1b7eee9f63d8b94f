"""Part records and indexes read a few objects at a time: one that names a hundred thousand is never whole in memory
as anything but its bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError

from leti_ctl.inventory.compact import Objects
from stages.contract.artifacts import DataObject, Index, PartRecord

R = TypeVar("R", PartRecord, Index)
BITE = 64 << 10
"""Bytes of objects that are parsed at once."""
OPEN, CLOSE, BETWEEN = b'\n  "objects": [', b"\n  ],", b"\n    },"
"""How records are written. No JSON string holds a line break, so these are never part of one."""
EMPTY = '"objects":[]'


class Parsed(NamedTuple, Generic[R]):
    """A record in two halves."""

    record: R
    """Without objects."""
    objects: Objects
    is_intact: bool
    """Whether its checksum is its own, and its bytes are those that it is written as."""


def parse(data: bytes, kind: type[R]) -> Parsed[R]:
    """Return the record; `ValidationError` when it is none."""
    try:
        if found := _in_bites(data, kind):
            return found
    except ValidationError:
        pass  # Of the whole record the error says more.
    record = kind.model_validate_json(data)
    is_intact = record.is_intact() and record.model_dump_json(indent=2).encode() == data
    return Parsed(_bare(record), Objects(record.objects), is_intact)


def _in_bites(data: bytes, kind: type[R]) -> Parsed[R] | None:
    """Return the record where it is laid out as we write it; None for any other layout."""
    start = data.find(OPEN)
    end = data.find(CLOSE, start)
    if not 0 <= start < end:
        return None
    start += len(OPEN)
    record = kind.model_validate_json(data[:start] + data[end + 3 :])
    before, empty, after = record.model_dump_json(exclude={"checksum"}).partition(EMPTY)
    if record.objects or not empty or not _is_spelled(record, data[: start - 1], data[end + 4 :]):
        return None
    digest, objects, comma = hashlib.sha256(f'{before}"objects":['.encode()), Objects(), b""
    for bite in _bites(data, start, end):
        items = _adapter().validate_json(b"[" + bite + b"]")
        objects.extend(items)
        digest.update(comma + _adapter().dump_json(items)[1:-1])
        comma = b","
    digest.update(f"]{after}".encode())
    return Parsed(record, objects, record.checksum == digest.hexdigest())


def _is_spelled(record: PartRecord | Index, before: bytes, after: bytes) -> bool:
    """Whether a record without objects is written as what stands around them.

    Its checksum is of the values: a digit too many of a measured number is none, nor is a space.
    """
    spelled = record.model_dump_json(indent=2).encode()
    return spelled == before + b"[]" + after


def _bites(data: bytes, start: int, end: int) -> Iterator[bytes]:
    """Yield the objects between two places, without the commas between the bites."""
    while start < end:
        cut = data.find(BETWEEN, start + BITE, end)
        stop = end if cut < 0 else cut + len(BETWEEN) - 1
        yield data[start:stop]
        start = stop + 1


def _bare(record: R) -> R:
    return record.model_copy(update={"objects": ()})


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[tuple[DataObject, ...]]:
    return TypeAdapter(tuple[DataObject, ...])
