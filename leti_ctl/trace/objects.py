"""What an object of the store is: by its key, or by any SHA-256 (or the beginning of one) that a record holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from leti_ctl.inventory.catalog import Catalog, place_of
from leti_ctl.inventory.ledger import Ledger
from leti_ctl.trace.judged import check_command
from leti_ctl.trace.lineage import Tree, lineage
from stages.contract.artifacts import ARTIFACTS, DataObject, Part, PartRecord, Ref
from stages.contract.errors import ArtifactError, UsageError
from stages.contract.run import Run
from stages.contract.transfer import digest_of

_DIGEST = re.compile(r"[0-9a-f]{6,64}")
"""A SHA-256 or enough of its beginning to look for."""
_LOCK = re.compile(r"environments/([0-9a-f]{64})\.txt")
BESIDE = {
    "spec.json": "the run's spec",
    "spec.sha256": "the SHA-256 of spec.json",
    "amendments/": "a spec with other compatible fields",
    "environments/": "a package lock, named by the parts that were made with it",
    "control/": "what drivers tell each other",
    "logs/": "what a stage logged",
    "gc/": "what a collection removed on purpose",
    "iterations/": "what a stage kept for itself while it worked",
}
"""Objects that are no artifact's, by how their keys begin."""


class Match(NamedTuple):
    """What a key or a digest names in the run."""

    name: str
    sha256: str
    """The whole digest, "" for what is named by its key."""
    record: PartRecord | None = None
    item: DataObject | None = None


def trace_object(run: Run, text: str) -> Tree:
    """Return what a key or a SHA-256 is, whether its bytes are its record's, what it was made from, who uses it.

    `UsageError` for what no record of the run holds, and for the beginning of a SHA-256 that several have.
    """
    catalog = Catalog(run)
    found = list(_matches(catalog, text.removeprefix(f"{run.store.uri.rstrip('/')}/").removeprefix(run.key(""))))
    if not found:
        raise UsageError(f"--object {text!r}: no record of run {run.name} holds it; `leti-ctl artifacts ls` lists them")
    if len({each.sha256 for each in found}) > 1:
        names = ", ".join(f"{each.sha256[:16]} is {each.name}" for each in found[:3])
        raise UsageError(f"--object {text!r}: begins several SHA-256: {names}; write more of it")
    ledger = Ledger(run)
    ledger.findings += catalog.findings
    told: Tree = {
        "what": f"{found[0].name}, run {run.name}",
        "run": run.name,
        "uri": run.uri,
        "spec_sha256": run.spec_sha256,
        "also": [each.name for each in found[1:]],
        **_told(ledger, catalog, found[0]),
    }
    return {**told, "findings": [finding._asdict() for finding in ledger.findings]}


def _told(ledger: Ledger, catalog: Catalog, match: Match) -> Tree:
    record, item = match.record, match.item
    if record is None:
        return {}
    ref, part = record.ref, record.position
    return {
        **(_bytes(ledger, ref, item) if item else {}),
        "artifact": str(ref),
        "part": str(part),
        "rows": item.rows if item else record.rows,
        "used_by": sorted(_users(catalog, ref, part)),
        "lineage": lineage(ledger, ref, part if record.parts > 1 else None),
    }


def _matches(catalog: Catalog, text: str) -> Iterator[Match]:
    """Yield what has this key, or a digest that begins with `begins`."""
    begins = text if _DIGEST.fullmatch(text) else None
    for ref in catalog.refs:
        records = catalog.parts.get(ref, {})
        for number in sorted(records):
            yield from _of_part(records[number], text, begins)
        digest = catalog.digest(ref)
        if digest and (text == str(ref) or (begins and digest.startswith(begins))):
            yield Match(f"artifact {ref}", digest, records[0])
    if begins and catalog.run.spec_sha256.startswith(begins):
        yield Match("the digest of the run's spec", catalog.run.spec_sha256)
    for key in catalog.sizes:
        if begins and (lock := _LOCK.fullmatch(key)) and lock[1].startswith(begins):
            yield Match(f"package lock {key}", lock[1])
    named = {item.key for ref in catalog.refs for item in catalog.objects(ref)}
    if text in catalog.sizes and text not in named:
        yield _beside(catalog, text)


def _of_part(record: PartRecord, text: str, begins: str | None) -> Iterator[Match]:
    for item in record.objects:
        if text == item.key or (begins and item.sha256.startswith(begins)):
            yield Match(f"data object {item.key}", item.sha256, record, item)
    digest, ref = record.digest(), record.ref
    if ARTIFACTS[ref.artifact].format == "folder" and begins and record.objects:
        home = record.objects[0].key[len(ref.prefix) + 1 :].partition("/")[0]
        if home.startswith(begins):
            yield Match(f"the folder of artifact {ref}, named after what is in it", home, record)
    if record.parts > 1 and begins and digest.startswith(begins):
        yield Match(f"part {record.position} of {ref}", digest, record)


def _beside(catalog: Catalog, key: str) -> Match:
    """Return what an object is that no record names."""
    place = place_of(key)
    if place:
        records = catalog.parts.get(place.ref, {})
        what = f"the record that commits part {place.part}" if place.part else "the index"
        record = records.get(place.part.number if place.part else min(records, default=0))
        return Match(f"{what} of {place.ref}", "", record)
    if key in catalog.orphans():
        return Match(
            f"{key}: data that no record names, left by a writer that lost or died; `leti-ctl gc` removes it", ""
        )
    meaning = next((meaning for start, meaning in BESIDE.items() if key.startswith(start)), "no artifact of the run")
    return Match(f"{key}: {meaning}", "")


def _bytes(ledger: Ledger, ref: Ref, item: DataObject) -> Tree:
    """Return the object's record and state, and whether its bytes, all of them read now, have the recorded SHA-256."""
    key = ledger.run.key(item.key)
    told = {"key": key, "sha256": item.sha256, "size": item.size}
    told["check"] = check_command(ledger.run, item.key)
    state = ledger.state(item, ledger.held(ref))
    if state == "removed":
        return {**told, "state": "removed", "verified": False}
    try:
        sha256, _ = digest_of(ledger.run.store.stream(key))
    except KeyError:
        raise ArtifactError(
            f"{key} is named in a record but not in the store; `leti-ctl audit` tells what else is gone"
        ) from None
    if sha256 != item.sha256:
        ledger.note("checksum", item.key, item.sha256[:16], sha256[:16])
    return {**told, "state": state, "verified": sha256 == item.sha256}


def _users(catalog: Catalog, ref: Ref, part: Part) -> Iterator[str]:
    """Yield the artifacts whose parts say that they were made from this."""
    wanted = {str(ref), f"{ref}#{part}"}
    for other in catalog.refs:
        for record in catalog.parts.get(other, {}).values():
            if wanted & {each.ref for each in record.inputs}:
                yield f"{other}#{record.position}" if record.parts > 1 else str(other)
