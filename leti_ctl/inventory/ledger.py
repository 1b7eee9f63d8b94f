"""What a run's records say, each read when it is asked for and held against its own checksum; nothing is written.

An audit reads every record of a run. This reads those on the way from one row to its ancestors, so that the time it
takes does not grow with the run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from itertools import chain
from typing import NamedTuple, TypeVar

from pydantic import ValidationError

from leti_ctl.inventory import removals
from leti_ctl.inventory.finding import Finding
from stages.contract.artifacts import DataObject, Index, Part, PartRecord, Ref, objects_digest
from stages.contract.errors import ArtifactError
from stages.contract.records import first_fault
from stages.contract.run import SPEC_CHECKSUM_KEY, SPEC_KEY, Run
from stages.contract.transfer import reread, settled, side_by_side

R = TypeVar("R", PartRecord, Index)


class Held(NamedTuple):
    """What the store has of an artifact."""

    records: tuple[PartRecord, ...]
    """Of the committed parts that can be read, in part order."""
    sealed: Index | None
    sizes: Mapping[str, int]
    """Bytes of every object under its prefix, by key relative to the run."""

    @property
    def objects(self) -> tuple[DataObject, ...]:
        """Return the data objects in part order."""
        return tuple(chain.from_iterable(record.objects for record in self.records))

    @property
    def is_complete(self) -> bool:
        """Whether every part is committed."""
        return bool(self.records) and len(self.records) == self.records[0].parts

    @property
    def digest(self) -> str | None:
        """Return the artifact's digest, or None while parts are missing."""
        return objects_digest(self.objects) if self.is_complete else None


class Ledger:
    """The records of one run, and `findings`: what of them is not as it was written."""

    def __init__(self, run: Run, findings: list[Finding] | None = None) -> None:
        self.run = run
        self.findings: list[Finding] = [] if findings is None else findings
        self._held: dict[Ref, Held] = {}
        self._others: dict[str, Ledger] = {}
        self._home = "" if findings is None else run.key("")
        self._check_spec()

    def other(self, name: str) -> Ledger:
        """Return the ledger of another run of the store; its findings are added to these, under whole keys."""
        if name not in self._others:
            self._others[name] = Ledger(Run(self.run.store, name), self.findings)
        return self._others[name]

    def held(self, ref: Ref) -> Held:
        """Return what there is of an artifact; what cannot be trusted is a finding and left out."""
        if ref not in self._held:
            self._held[ref] = self._read(ref)
        return self._held[ref]

    def part(self, ref: Ref, part: Part) -> PartRecord | None:
        """Return a part's record, or None."""
        found = (record for record in self.held(ref).records if record.position == part)
        return next(found, None)

    def is_complete(self, ref: Ref) -> bool:
        """Whether every part of an artifact is committed."""
        return self.held(ref).is_complete

    def need(self, ref: Ref) -> Held:
        """Return an artifact all of whose parts can be read; `ArtifactError` names what is damaged or missing."""
        held = self.held(ref)
        if held.is_complete:
            return held
        if fault := next((each for each in self.findings if each.key.startswith(f"{ref.prefix}/")), None):
            raise fault.as_error()
        there = f"{len(held.records)} of {held.records[0].parts} parts are" if held.records else "no part is"
        raise ArtifactError(f"run {self.run.name}: {ref} is incomplete: {there} committed; resume the run first")

    def damaged(self, fault: str) -> ArtifactError:
        """Return the error for an object that is not as its record says, with the remedy."""
        return damaged(self.run, fault)

    def note(self, check: str, key: str, expected: str, found: str) -> None:
        """Keep a finding; `key` is relative to the run."""
        finding = Finding(check, f"{self._home}{key}", expected, found)
        if finding not in self.findings:
            self.findings.append(finding)

    @cached_property
    def removed(self) -> Mapping[str, str]:
        """Key and SHA-256 of what collections removed on purpose."""
        start = len(self.run.key(""))
        return removals.removed(self.run, [key[start:] for key in self.run.store.list(self.run.key(removals.PREFIX))])

    def state(self, item: DataObject, held: Held) -> str:
        """Return what a listing says of an object: `there`, `removed` on purpose, `missing`, or of a wrong `size`."""
        size = held.sizes.get(item.key)
        if size is None:
            return "removed" if self.removed.get(item.key) == item.sha256 else "missing"
        return "there" if size == item.size else "size"

    def _check_spec(self) -> None:
        run = self.run
        actual = hashlib.sha256(settled(lambda: run.store.get(run.key(SPEC_KEY)))).hexdigest() if run.spec else ""
        try:
            written = settled(lambda: run.store.get(run.key(SPEC_CHECKSUM_KEY))).decode(errors="replace")
        except KeyError:
            return
        if written != actual:
            self.note("checksum", SPEC_KEY, f"SHA-256 {written[:16]}", actual[:16])

    def _read(self, ref: Ref) -> Held:
        start = len(self.run.key(""))
        entries = self.run.store.scan(self.run.key(f"{ref.prefix}/"))
        sizes = {entry.key[start:]: entry.size for entry in entries}
        names = [key for key in sizes if key.startswith(f"{ref.prefix}/parts/") and key.endswith(".json")]
        found = side_by_side(self._record, names, [0] * len(names))
        records = tuple(record for record in found if record is not None)
        key = ref.index_key
        held = Held(records, self._parsed(key, Index) if key in sizes else None, sizes)
        self._check(ref, held, len(names))
        return held

    def _record(self, key: str) -> PartRecord | None:
        record = self._parsed(key, PartRecord)
        if record is None:
            return None
        if record.key != key:
            self.note("record", key, "the record of this part", f"that of {record.key.removesuffix('.json')}")
            return None
        return record

    def _parsed(self, key: str, kind: type[R]) -> R | None:
        def read() -> R:
            return kind.model_validate_json(self.run.store.get(self.run.key(key)))

        try:
            record = reread(read, lambda found: found.is_intact() and found.key == key, (KeyError, ValidationError))
        except KeyError:
            fault = "nothing"
        except ValidationError as error:
            fault = first_fault(error)
        else:
            if record.is_intact():
                return record
            fault = "another" if record.checksum else "none"
        self.note("record", key, f"a {kind.__name__} with its own checksum", fault)
        return None

    def _check(self, ref: Ref, held: Held, listed: int) -> None:
        """Hold the records against each other and against the run's spec."""
        for record in held.records:
            if record.spec_sha256 != self.run.spec_sha256:
                self.note("spec", record.key, f"spec {self.run.spec_sha256[:12]}", record.spec_sha256[:12])
        if held.sealed and listed == len(held.records) and held.sealed.objects != held.objects:
            self.note("index", ref.index_key, "the objects of its parts", "other objects")


def damaged(run: Run, fault: str) -> ArtifactError:
    """Return the error for an object that is not as its record says, with the remedy."""
    return ArtifactError(f"{fault}; `leti-ctl audit {run.name}` lists everything that is damaged")
