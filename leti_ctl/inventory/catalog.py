"""One listing of a run and all its records, read once and kept; nothing here writes or seals."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import cached_property
from itertools import chain
from threading import Lock
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from leti_ctl.inventory import removals
from leti_ctl.inventory.compact import Listing, Objects
from leti_ctl.inventory.finding import Finding, warning
from leti_ctl.inventory.parsing import Parsed, parse
from stages.contract.artifacts import Index, Part, PartRecord, Ref, find_ref, parse_ref
from stages.contract.errors import LetiError, UsageError
from stages.contract.records import first_fault
from stages.contract.run import Run
from stages.contract.transfer import reread, settled

R = TypeVar("R", PartRecord, Index)
WORDS = {PartRecord: "a part record", Index: "an index"}
READERS = 16
"""Records read at once: their time is the store's round trip."""
LARGE_RECORD = 1 << 20
"""Bytes."""
UNREADABLE = (KeyError, OSError, LetiError)
"""What reading one object may raise: it is gone, its disk fails, the store refuses it. An audit goes on with others."""

_PART = re.compile(r"(?P<prefix>.+)/parts/(?P<number>\d{5})-of-(?P<of>\d{5})\.json")
_INDEX = re.compile(r"(?P<prefix>.+)/index\.json")
_BESIDE = re.compile(
    "|".join(
        (
            r"spec\.(?:json|sha256)",
            r"amendments/\d{4,}-[0-9a-f]{64}\.json",
            r"environments/[0-9a-f]{64}\.txt",
            r"(?:control|logs)/.+",
            r"gc/\d{4,}-[0-9a-f]{64}\.json",
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
        self.sizes = Listing(entry._replace(key=entry.key[start:]) for entry in run.store.scan(run.key("")))
        """Bytes by key, keys relative to the run."""
        self.removed = dict(self._collected())
        """SHA-256 by key of what collections removed."""
        self.parts: dict[Ref, dict[int, PartRecord]] = {}
        """Records as they are, but that their objects are a compact sequence in place of a tuple."""
        self.indexes: dict[Ref, Index] = {}
        """Indexes without their objects."""
        self.seals: dict[Ref, bytes] = {}
        """Digests of the objects that indexes name."""
        self.written: dict[str, str] = {}
        """SHA-256 of part records as they lie in the store, by key."""
        self._altered: set[Ref] = set()
        self._documents: dict[str, bytes | None] = {}
        self._digests: dict[Ref, str] = {}
        self._large = Lock()
        self._read()

    def document(self, key: str) -> bytes | None:
        """Return a small object of the run; None, and once a finding, where it cannot be read."""
        if key not in self._documents:
            try:
                self._documents[key] = settled(lambda: self.run.store.get(self.run.key(key)))
            except UNREADABLE as error:
                self._documents[key] = None
                self.findings.append(Finding.unread(key, error, "existence", "an object that can be read"))
        return self._documents[key]

    def part(self, ref: Ref, part: Part) -> PartRecord | None:
        """Return a part's record, or None."""
        record = self.parts.get(ref, {}).get(part.number)
        return record if record and record.parts == part.of else None

    def objects(self, ref: Ref) -> Objects:
        """Return an artifact's objects in part order, from its parts: an index adds nothing to them."""
        records = self.parts.get(ref, {})
        return Objects.joined([compact(records[number]) for number in sorted(records)])

    def facts(self, ref: Ref, prefix: str) -> dict[str, float]:
        """Return an artifact's facts whose names begin so, without the prefix, each summed over the parts."""
        sums: Counter[str] = Counter()
        for record in self.parts.get(ref, {}).values():
            for name, value in record.facts.items():
                if name.startswith(prefix) and not isinstance(value, str):
                    sums[name.removeprefix(prefix)] += value  # type: ignore[assignment]
        return dict(sums)

    def is_complete(self, ref: Ref) -> bool:
        """Whether all parts of an artifact are committed."""
        records = self.parts.get(ref, {})
        return bool(records) and len(records) == next(iter(records.values())).parts

    def digest(self, ref: Ref) -> str | None:
        """Return what an index over the parts has as its digest, or None while parts are missing."""
        if ref not in self._digests and self.is_complete(ref):
            self._digests[ref] = self.objects(ref).digest()
        return self._digests.get(ref)

    @cached_property
    def refs(self) -> list[Ref]:
        """Every artifact that has a record, in key order."""
        return sorted({*self.parts, *self.indexes}, key=str)

    @property
    def iterations(self) -> list[int]:
        """Every iteration that has a record, in order."""
        return sorted({ref.iteration for ref in self.refs if ref.iteration is not None})

    def need_iteration(self, iteration: int, option: str) -> None:
        """Raise `UsageError`, naming the command's option, where the run has nothing of an iteration."""
        there = self.iterations
        if iteration not in there:
            known = f"{there[0]} to {there[-1]}" if there else "none yet"
            raise UsageError(f"{option} {iteration}: run {self.run.name} has {known}")

    def unnamed(self) -> Iterator[Finding]:
        """Yield the keys no record names: what killed writers left, and strangers."""
        for key in self.orphans():
            found = f"none, {self.sizes[key]} bytes; `leti-ctl gc` removes it"
            yield warning("orphans", key, "a record that names it", found)
        for key in self._nameless():
            if not is_known(key):
                yield warning("keys", key, "a key of a run", f"a stranger of {self.sizes[key]} bytes")

    def orphans(self) -> list[str]:
        """Return the data objects that no record names and nobody will go on from, in key order.

        Where a record is damaged, or gone though the index counts it, it may have named what lies beside it.
        """
        doubted = tuple(f"{ref.prefix}/" for ref in self._doubted())
        nameless = (key for key in self._nameless() if find_ref(key) is not None and not key.startswith(doubted))
        return sorted([*nameless, *self._spent()])

    def _doubted(self) -> Iterator[Ref]:
        for ref in {*self._listed, *self.indexes}:
            count = self.indexes[ref].parts if ref in self.indexes else 0
            if ref in self._altered or len(self.parts.get(ref, {})) < max(self._listed[ref], count):
                yield ref

    def _nameless(self) -> list[str]:
        records = (record for parts in self.parts.values() for record in parts.values())
        rest = self.sizes.others(chain.from_iterable(compact(record).keys() for record in records))
        return [key for key in rest if not _BESIDE.fullmatch(key) and not place_of(key)]

    def _spent(self) -> Iterator[str]:
        """Yield the mid-stage checkpoints of trainings that have committed what they made."""
        for key in self.sizes:
            found = _BESIDE.fullmatch(key)
            if found and found["trained"] and self.is_complete(Ref("checkpoint", int(found["trained"]) + 1)):
                yield key

    def _collected(self) -> Iterator[tuple[str, str]]:
        for key in filter(removals.is_collection, self.sizes):
            try:
                yield from removals.removed(self.run, [key]).items()
            except UNREADABLE as error:
                self.findings.append(Finding.unread(key, error, "record", "a collection as it was written"))

    def _read(self) -> None:
        places = {key: place for key in self.sizes if (place := place_of(key))}
        self._listed = Counter(place.ref for place in places.values() if place.part is not None)
        with ThreadPoolExecutor(READERS) as pool:
            for key, record in zip(places, pool.map(self._record, places, places.values()), strict=True):
                ref, part = places[key]
                if isinstance(record, PartRecord) and part is not None:
                    self.parts.setdefault(ref, {})[part.number] = record
                elif isinstance(record, Index):
                    self.indexes[ref] = record

    def _record(self, key: str, place: Place) -> PartRecord | Index | None:
        record = self._parsed(key, Index) if place.part is None else self._parsed(key, PartRecord)
        return record if record and self._belongs(key, place, _named(record)) else None

    def _parsed(self, key: str, kind: type[R]) -> R | None:
        def read() -> tuple[str, Parsed[R]]:
            data = self.run.store.get(self.run.key(key))
            return hashlib.sha256(data).hexdigest(), parse(data, kind)

        def is_good(found: tuple[str, Parsed[R]]) -> bool:
            return found[1].is_intact and found[1].record.key == key

        try:
            # A large record takes several times what is kept of it, so one at a time.
            with self._large if self.sizes[key] > LARGE_RECORD else nullcontext():
                sha256, parsed = reread(read, is_good, (KeyError, ValidationError))
                if kind is PartRecord:
                    self.written[key] = sha256
                return self._kept(key, parsed)
        except KeyError:
            self.findings.append(Finding("existence", key, "the object that was listed", "nothing"))
        except ValidationError as error:
            self.findings.append(Finding("record", key, WORDS[kind], first_fault(error)))
        except UNREADABLE as error:
            self.findings.append(Finding.unread(key, error, "record", WORDS[kind]))
        return None

    def _kept(self, key: str, parsed: Parsed[R]) -> R:
        """Return the record, with a finding where it is not as it was written."""
        record, objects = parsed.record, parsed.objects
        if not parsed.is_intact:
            self._altered.add(record.ref)
            wanted = f"bytes that fit the record's own checksum {record.checksum[:12]}"
            expected, found = (wanted, "others") if record.checksum else ("a record with its own checksum", "none")
            self.findings.append(Finding("record", key, expected, found))
        if isinstance(record, Index):
            self.seals[record.ref] = objects.seal()
            return record
        return record.model_copy(update={"objects": objects})

    def _belongs(self, key: str, place: Place, named: Place) -> bool:
        if place == named:
            return True
        self.findings.append(Finding("record", key, _spell(place), _spell(named)))
        return False


def is_known(key: str) -> bool:
    """Whether a key, relative to a run, is of a form that runs have."""
    return bool(_BESIDE.fullmatch(key)) or find_ref(key) is not None


def compact(record: PartRecord) -> Objects:
    """Return the objects of a record of a catalog."""
    objects: Any = record.objects
    assert isinstance(objects, Objects), "a catalog's records are compact"
    return objects


def place_of(key: str) -> Place | None:
    """Return what a record key is the record of; None for any other key."""
    if found := _PART.fullmatch(key):
        part = Part(int(found["number"]), int(found["of"]))
    elif found := _INDEX.fullmatch(key):
        part = None
    else:
        return None
    named = parse_ref(found["prefix"])
    return Place(named[0], part) if named and named[1] is None else None


def _named(record: PartRecord | Index) -> Place:
    """Return the place that a record says it has."""
    return Place(record.ref, record.position if isinstance(record, PartRecord) else None)


def _spell(place: Place) -> str:
    what = f"part {place.part}" if place.part is not None else "the index"
    return f"the record of {what} of {place.ref}"
