"""An artifact with who made it and, nested, what it was made from, down to what is outside of the store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from leti_ctl.inventory.ledger import Held, Ledger
from leti_ctl.inventory.makers import makers
from stages.contract.artifacts import DataObject, Part, PartRecord, Ref, parse_ref
from stages.contract.errors import UsageError
from stages.contract.flow import parse_origin

Tree = dict[str, Any]


def lineage(ledger: Ledger, ref: Ref, part: Part | None = None, seen: set[str] | None = None) -> Tree:
    """Return the tree of an artifact or of one part; a second occurrence has only its name and `told_above`.

    A node has `ref`, `sha256`, `parts`, `rows`, `bytes`, who made it (`code`, `images`, `packages`, `python`, `hosts`,
    `started_at`, `seconds`, `seed`, `spec_sha256`), its `objects` with their SHA-256 and what a listing shows of them,
    and `inputs`. Where the part that read an input recorded another digest than the input has now, the input's node
    has that one as `recorded_sha256`; this, and what is missing, are findings of the ledger. No data is read: that is
    what an audit does.
    """
    seen = set() if seen is None else seen
    name = f"{ref}#{part}" if part else str(ref)
    held = ledger.held(ref)
    records = [record for record in held.records if part is None or record.part == part.number]
    if not records:
        ledger.note("existence", name, "its part records", "none that can be read")
        return {"ref": name, "missing": True}
    told = {"ref": name, "sha256": held.digest if part is None else records[0].digest()}
    own = ledger.run.key(name)
    if own in seen:
        return {**told, "told_above": True}
    seen.add(own)
    objects = [item for record in records for item in record.objects]
    return {
        **told,
        "parts": len(records),
        "rows": sum(record.rows for record in records),
        "bytes": sum(item.size for item in objects),
        **maker(records),
        "objects": [_object(ledger, held, item) for item in objects],
        "inputs": [_source(ledger, text, digest, seen) for text, digest in _whole(ledger, records)],
    }


def maker(records: Iterable[PartRecord]) -> Tree:
    """Return who made these parts: versions, images, package locks, machines, when, how long and with what seed."""
    records = sorted(records, key=lambda record: record.made.started_at)
    return {
        **makers(records),
        "started_at": records[0].made.started_at,
        "seconds": round(sum(record.made.seconds for record in records), 3),
        "seed": records[0].seed,
        "spec_sha256": records[0].spec_sha256,
    }


def bases(tree: Tree) -> list[Tree]:
    """Return the sources outside of the store that a tree ends in, each once: base model, problems, texts."""
    found = [tree] if tree.get("outside") else [each for below in tree.get("inputs", []) for each in bases(below)]
    return list({each["ref"]: each for each in found}.values())


def weights(ledger: Ledger, ref: Ref) -> list[Tree]:
    """Return the files of a checkpoint that hold its parameters: `{key, sha256, size, state}`."""
    held = ledger.held(ref)
    return [_object(ledger, held, item) for item in held.objects if item.key.endswith((".safetensors", ".bin"))]


def _whole(ledger: Ledger, records: list[PartRecord]) -> list[tuple[str, str | None]]:
    """Return the inputs of some parts, each once; parts of one artifact as that artifact where there are several.

    The digests of the single parts are held against their records here, since the artifact's is in none of them.
    """
    sources = list(dict.fromkeys((_only(each.ref), each.sha256) for record in records for each in record.inputs))
    if len(records) < 2:
        return list(sources)
    found: dict[tuple[str, str | None], None] = {}
    for text, digest in sources:
        named = parse_ref(text)
        if named is None or named[1] is None:
            found[text, digest] = None
            continue
        ref, part = named[0], named[1]
        record = ledger.part(ref, part)
        if record is None or record.digest() != digest:
            ledger.note("lineage", text, f"digest {digest[:12]}", record.digest()[:12] if record else "none")
        found[str(ref), None] = None
    return list(found)


def _only(text: str) -> str:
    """Return an input's name; the only part of an artifact is the artifact, and has its digest."""
    return text.removesuffix("#0/1")


def _source(ledger: Ledger, text: str, digest: str | None, seen: set[str]) -> Tree:
    if origin := parse_origin(text):
        try:
            tree = {**lineage(ledger.other(origin.run), origin.ref, seen=seen), "ref": text}
        except UsageError:
            # Its weights were copied into this run; the record of that copy has every digest.
            return {"ref": text, "sha256": digest, "gone": True}
    elif (named := parse_ref(text)) is not None:
        tree = lineage(ledger, *named, seen)
    else:
        return {"ref": text, "sha256": digest, "outside": True}
    if digest is None or tree.get("sha256") == digest:
        return tree
    if "missing" not in tree:
        ledger.note("lineage", text, f"digest {digest[:12]}", str(tree.get("sha256"))[:12])
    return {**tree, "recorded_sha256": digest}


def _object(ledger: Ledger, held: Held, item: DataObject) -> Tree:
    state = ledger.state(item, held)
    if state == "missing":
        ledger.note("existence", item.key, f"an object of {item.size} bytes", "none")
    elif state == "size":
        ledger.note("size", item.key, f"{item.size} bytes", str(held.sizes[item.key]))
    return {"key": item.key, "sha256": item.sha256, "size": item.size, "state": state}
