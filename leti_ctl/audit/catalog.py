"""One listing of a run and all its records, read once and kept; nothing here writes or seals."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import NamedTuple, TypeVar

from pydantic import ValidationError

from leti_ctl import garbage
from leti_ctl.audit.finding import Finding, warning
from stages.contract.artifacts import DataObject, Index, Part, PartRecord, Ref, objects_digest, parse_ref
from stages.contract.records import first_fault
from stages.contract.run import Run
from stages.contract.store import Entry

R = TypeVar("R", PartRecord, Index)
READERS = 16
"""Records read at once: their time is the store's round trip."""

_PART = re.compile(r"(?P<prefix>.+)/parts/(?P<number>\d{5})-of-(?P<of>\d{5})\.json")
_INDEX = re.compile(r"(?P<prefix>.+)/index\.json")
_BESIDE = re.compile(
    "|".join(
        (
            r"spec\.(?:json|sha256)",
            r"amendments/\d{4}-[0-9a-f]{64}\.json",
            r"environments/[0-9a-f]{64}\.txt",
            r"(?:control|logs)/.+",
            r"gc/\d{4}-[0-9a-f]{64}\.json",
            r"iterations/(?P<trained>\d{4,})/train/step-\d{6,}/[^/]+",
            r"iterations/\d{4,}/notes/[^/]+/waiting/\d{5}-of-\d{5}\.jsonl",
            r".+\.claim",
        )
    )
)
"""Keys that are no artifact's: the spec, control objects, logs, what a killed training goes on from, failures that
waited for notes, and claims (`docs/protocol.md`).
"""


class Place(NamedTuple):
    """What a record's key says it is the record of."""

    ref: Ref
    part: Part | None
    """None for an index."""


class Catalog:
    """Every key of a run with its size, every part record and every index that can be read."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.findings: list[Finding] = []
        start = len(run.key(""))
        self.entries: dict[str, Entry] = {entry.key[start:]: entry for entry in run.store.scan(run.key(""))}
        self.sizes: dict[str, int] = {key: entry.size for key, entry in self.entries.items()}
        self.removed = garbage.removed(run, self.entries)
        self.parts: dict[Ref, dict[int, PartRecord]] = {}
        self.indexes: dict[Ref, Index] = {}
        self._read()

    def part(self, ref: Ref, part: Part) -> PartRecord | None:
        """Return a part's record, or None."""
        record = self.parts.get(ref, {}).get(part.number)
        return record if record and record.parts == part.of else None

    def objects(self, ref: Ref) -> tuple[DataObject, ...]:
        """Return an artifact's objects in part order, from its parts: an index adds nothing to them."""
        records = self.parts.get(ref, {})
        return tuple(item for number in sorted(records) for item in records[number].objects)

    def is_complete(self, ref: Ref) -> bool:
        """Whether all parts of an artifact are committed."""
        records = self.parts.get(ref, {})
        return bool(records) and len(records) == next(iter(records.values())).parts

    def digest(self, ref: Ref) -> str | None:
        """Return what an index over the parts has as its digest, or None while parts are missing."""
        return objects_digest(self.objects(ref)) if self.is_complete(ref) else None

    @cached_property
    def refs(self) -> list[Ref]:
        """Every artifact that has a record, in key order."""
        return sorted({*self.parts, *self.indexes}, key=str)

    def unnamed(self) -> Iterator[Finding]:
        """Yield the keys no record names: what killed writers left, and strangers."""
        for key in self.orphans():
            found = f"none, {self.sizes[key]} bytes; `leti-ctl gc` removes it"
            yield warning("orphans", key, "a record that names it", found)
        for key in self._nameless():
            if not is_known(key):
                yield warning("keys", key, "a key of a run", f"a stranger of {self.sizes[key]} bytes")

    def orphans(self) -> list[str]:
        """Return the data objects that no record names and nobody will go on from, in key order."""
        return sorted([*(key for key in self._nameless() if _is_artifact(key)), *self._spent()])

    def _nameless(self) -> list[str]:
        named = {item.key for records in self.parts.values() for record in records.values() for item in record.objects}
        return [key for key in self.sizes if key not in named and not _BESIDE.fullmatch(key) and not _place(key)]

    def _spent(self) -> Iterator[str]:
        """Yield the mid-stage checkpoints of trainings that have committed what they made."""
        for key in self.sizes:
            found = _BESIDE.fullmatch(key)
            if found and found["trained"] and self.is_complete(Ref("checkpoint", int(found["trained"]) + 1)):
                yield key

    def _read(self) -> None:
        places = {key: place for key in self.sizes if (place := _place(key))}
        with ThreadPoolExecutor(READERS) as pool:
            for key, record in zip(places, pool.map(self._record, places, places.values()), strict=True):
                ref, part = places[key]
                if isinstance(record, PartRecord) and part is not None:
                    self.parts.setdefault(ref, {})[part.number] = record
                elif isinstance(record, Index):
                    self.indexes[ref] = record

    def _record(self, key: str, place: Place) -> PartRecord | Index | None:
        if place.part is None:
            index = self._parsed(key, Index)
            return index if index and self._belongs(key, place, Place(_ref(index), None)) else None
        record = self._parsed(key, PartRecord)
        if record is None:
            return None
        named = Place(_ref(record), Part(record.part, record.parts))
        return record if self._belongs(key, place, named) else None

    def _parsed(self, key: str, kind: type[R]) -> R | None:
        try:
            return self._intact(key, kind.model_validate_json(self.run.store.get(self.run.key(key))))
        except KeyError:
            self.findings.append(Finding("existence", key, "the object that was listed", "nothing"))
        except ValidationError as error:
            self.findings.append(Finding("record", key, f"a {kind.__name__}", first_fault(error)))
        return None

    def _intact(self, key: str, record: R) -> R:
        """Return the record, with a finding where it is not as it was written."""
        if not record.is_intact():
            found = "none" if not record.checksum else "another"
            self.findings.append(Finding("record", key, "a record with its own checksum", found))
        return record

    def _belongs(self, key: str, place: Place, named: Place) -> bool:
        if place == named:
            return True
        self.findings.append(Finding("record", key, _spell(place), _spell(named)))
        return False


def is_known(key: str) -> bool:
    """Whether a key, relative to a run, is of a form that runs have."""
    return bool(_BESIDE.fullmatch(key)) or _is_artifact(key)


def _is_artifact(key: str) -> bool:
    """Whether a key lies below an artifact's prefix."""
    names = key.split("/")
    return any(parse_ref("/".join(names[:depth])) for depth in range(1, len(names)))


def _place(key: str) -> Place | None:
    """Return what a record key is the record of; None for any other key."""
    if found := _PART.fullmatch(key):
        part = Part(int(found["number"]), int(found["of"]))
    elif found := _INDEX.fullmatch(key):
        part = None
    else:
        return None
    named = parse_ref(found["prefix"])
    return Place(named[0], part) if named and named[1] is None else None


def _ref(record: PartRecord | Index) -> Ref:
    return Ref(record.artifact, record.iteration, record.split)


def _spell(place: Place) -> str:
    what = f"part {place.part}" if place.part is not None else "the index"
    return f"the record of {what} of {place.ref}"
