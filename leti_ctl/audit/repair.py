"""What mends a damaged run: what to delete, so that a resume makes it again (`docs/protocol.md`, "Damage")."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from leti_ctl.inventory.catalog import place_of
from leti_ctl.inventory.finding import Finding
from stages.contract.artifacts import find_ref
from stages.contract.run import SPEC_CHECKSUM_KEY, SPEC_KEY
from stages.contract.store import address

DAMAGE = ("record", "existence", "size", "checksum", "index")
"""Checks that tell of an object which is not as it was written; most others tell of objects that contradict others."""
IRREPLACEABLE = (SPEC_KEY, "amendments/", "environments/", "gc/")
"""What no stage makes again, by how keys begin."""
_MID_STAGE = re.compile(r"(iterations/\d{4,}/train/step-\d{6,}/).+")


class Repair(NamedTuple):
    """What to do about a run that is not clean; all empty for one that is."""

    delete: list[str]
    """Keys relative to the run, folders with a slash at their end: a resume makes what was there again."""
    restore: list[str]
    """Keys of what nothing makes again: from a backup, an old version in a versioned bucket, a copy of the run."""
    unreadable: bool
    """Whether objects could not be read. Nothing is to be deleted then: they may be whole."""
    contradictory: bool
    """Whether all that was read is as its record says, and contradicts itself all the same: it was written so."""

    def lines(self, uri: str, name: str) -> Iterator[str]:
        """Yield the advice in words, for the run of this name and address; keys without options, as other tools do."""
        home, _ = address.split(uri)
        if self.unreadable:
            yield "to repair it: first see to it that every object can be read (`readable` above), then audit again"
        if self.restore:
            yield "to repair it: bring back from a backup, nothing makes them again:"
            yield from (f"  {home}/{key}" for key in self.restore)
        if self.delete:
            yield f"to repair it: delete these; `leti-ctl resume {name}` makes again what is missing then:"
            yield from (f"  {home}/{key}" for key in self.delete)
        if self.contradictory:
            yield (
                "every object fits its record, so this was not damaged but written; with --deep --re-execute 100 an "
                "audit makes again what can be made again, and tells which side is wrong"
            )


def advise(findings: list[Finding]) -> Repair:
    """Return what mends a run with these findings."""
    errors = [finding for finding in findings if finding.level == "error" and finding.check != "digest"]
    if any(finding.check == "readable" for finding in errors):
        return Repair([], [], unreadable=True, contradictory=False)
    damaged = [each.key for each in errors if each.check in DAMAGE or (each.check, each.key) == ("spec", SPEC_KEY)]
    damaged += [f"{each.key}/" for each in errors if each.check == "complete"]  # parts of another division
    lost = sorted({key for key in damaged if key.startswith(IRREPLACEABLE)})
    return Repair(_deletions(damaged), lost, unreadable=False, contradictory=bool(errors) and not damaged)


def _deletions(damaged: Iterable[str]) -> list[str]:
    """Return what to delete for damaged keys, nothing that lies in a folder which goes as well."""
    keys = {each for key in damaged for each in _deletion(key)}
    folders = tuple(key for key in keys if key.endswith("/"))
    return sorted(key for key in keys if key in folders or not key.startswith(folders))


def _deletion(key: str) -> list[str]:
    """Return what to delete for one damaged key; nothing for what is irreplaceable."""
    if place := place_of(key):
        record = [] if place.part is None else [key]
        return [*record, place.ref.index_key]
    if found := _MID_STAGE.fullmatch(key):
        return [found[1]]
    if key == SPEC_CHECKSUM_KEY or key.startswith("control/"):
        return [key]
    ref = find_ref(key)
    return [f"{ref.prefix}/"] if ref else []
