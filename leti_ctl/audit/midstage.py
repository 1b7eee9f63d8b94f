"""What a killed training goes on from: each mid-stage checkpoint's record, and the bytes that it names.

Those of a training that has committed are garbage (`Catalog.orphans`) and not looked into.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import ValidationError

from leti_ctl.audit.objects import Reader
from leti_ctl.inventory.catalog import UNREADABLE, Catalog
from leti_ctl.inventory.finding import Finding
from stages.contract.artifacts import MidStage, Ref
from stages.contract.records import StepLog, first_fault
from stages.contract.transfer import lines, reread

_RECORD = re.compile(r"(?P<home>iterations/(?P<iteration>\d{4,})/train/step-(?P<steps>\d{6,}))/checkpoint\.json")
LOG = "-steps.jsonl"


def records(catalog: Catalog) -> list[str]:
    """Return the keys of the records of mid-stage checkpoints that somebody may still go on from."""
    named = ((key, found) for key in catalog.sizes if (found := _RECORD.fullmatch(key)))
    return [key for key, found in named if not catalog.is_complete(Ref("checkpoint", int(found["iteration"]) + 1))]


def check(reader: Reader, key: str) -> None:
    """Check one, record and objects. One that its trainer has removed since it was listed is as it should be."""
    before = len(reader.findings)
    record = _record(reader, key)
    if record is not None:
        _objects(reader, record)
    if len(reader.findings) > before and _is_gone(reader.catalog, key):
        del reader.findings[before:]


def _record(reader: Reader, key: str) -> MidStage | None:
    run = reader.catalog.run
    try:
        record = reread(
            lambda: MidStage.model_validate_json(run.store.get(run.key(key))), MidStage.is_intact, (ValidationError,)
        )
    except ValidationError as error:
        reader.note("record", key, "the record of a mid-stage checkpoint", first_fault(error))
        return None
    except UNREADABLE as error:
        reader.findings.append(Finding.unread(key, error, "record", "the record of a mid-stage checkpoint"))
        return None
    for expected, found in _faults(record, key, run.spec_sha256):
        reader.note("record", key, expected, found)
    return record


def _faults(record: MidStage, key: str, spec_sha256: str) -> Iterator[tuple[str, str]]:
    named = _RECORD.fullmatch(key)
    assert named is not None, "a key that `records` returned"
    if not record.is_intact():
        yield "a record with its own checksum", "another" if record.checksum else "none"
    if record.spec_sha256 != spec_sha256:
        yield f"spec {spec_sha256[:12]}", record.spec_sha256[:12]
    if record.steps != int(named["steps"]):
        yield f"the record of {int(named['steps'])} steps", f"of {record.steps}"
    home = f"{named['home']}/"
    if strange := next((item.key for item in record.objects if not item.key.startswith(f"{home}{item.sha256}-")), None):
        yield f"objects below {home}, named after their digests", strange


def _objects(reader: Reader, record: MidStage) -> None:
    reader.hash(item for item in record.objects if not item.key.endswith(LOG))
    for item in record.objects:
        if item.key.endswith(LOG):
            with reader.spooled(item) as file:
                rows = list(lines(iter(lambda: file.read(1 << 20), b"")))
            if len(rows) != record.steps:
                reader.note("rows", item.key, f"a {StepLog.__name__} a step, {record.steps}", str(len(rows)))


def _is_gone(catalog: Catalog, key: str) -> bool:
    try:
        return catalog.run.store.size(catalog.run.key(key)) is None
    except UNREADABLE:
        return False
