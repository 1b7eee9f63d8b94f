"""Records against each other: indexes, specs, seeds, and the chain of digests from every artifact to its sources."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from itertools import chain

from leti_ctl import control, decisions
from leti_ctl.inventory.catalog import UNREADABLE, Catalog, compact
from leti_ctl.inventory.compact import Objects
from leti_ctl.inventory.finding import Finding, warning
from leti_ctl.pipeline import Unit, plan
from stages.contract.artifacts import Index, Input, Part, PartRecord, Ref, parse_ref
from stages.contract.flow import STAGES, Origin, find_origin, inputs
from stages.contract.run import SPEC_CHECKSUM_KEY, SPEC_KEY, Run
from stages.contract.seeds import derive_seed
from stages.contract.spec import RunSpec


def check(catalog: Catalog, spec: RunSpec) -> Iterator[Finding]:
    """Yield what is wrong among the records of a run; `spec` is the run's, amendments included."""
    yield from _specs(catalog)
    for ref, index in catalog.indexes.items():
        yield from _index(catalog, ref, index)
    whole = plan(spec)
    planned = {ref: unit for unit in whole.units for ref in unit.outputs(spec)}
    for ref in catalog.refs:
        if ref not in planned:
            yield warning("complete", ref.prefix, "an artifact of this spec", "one that no unit makes")
        elif catalog.is_complete(ref) and ref not in catalog.indexes:
            yield warning("index", ref.index_key, "an index over its parts", "none yet; whoever reads it writes it")
    for unit in whole.units:
        yield from _unit(catalog, spec, unit)
    yield from _code(catalog)
    yield from _locks(catalog)
    yield from _controls(catalog)


def _specs(catalog: Catalog) -> Iterator[Finding]:
    yield from _spec_document(catalog)
    wanted = catalog.run.spec_sha256
    named: dict[str, str] = {}
    for ref in catalog.refs:
        records = catalog.parts.get(ref, {})
        named |= {ref.part_key(Part(number, one.parts)): one.spec_sha256 for number, one in records.items()}
        if ref in catalog.indexes:
            named[ref.index_key] = catalog.indexes[ref].spec_sha256
    others = set(named.values())
    if len(others) == 1 and len(named) > 1 and wanted not in others:  # it is the spec that changed
        yield Finding("spec", SPEC_KEY, f"spec {others.pop()[:12]}, which all {len(named)} records name", wanted[:12])
        return
    for key, found in named.items():
        if found != wanted:
            yield Finding("spec", key, f"spec {wanted[:12]}", found[:12])


def _spec_document(catalog: Catalog) -> Iterator[Finding]:
    """The spec's own bytes: its compatible fields are in no other digest."""
    document, written = catalog.document(SPEC_KEY), catalog.sizes.get(SPEC_CHECKSUM_KEY)
    actual = hashlib.sha256(document or b"").hexdigest()
    if written is None:
        yield warning("spec", SPEC_CHECKSUM_KEY, "the checksum of spec.json", "none")
    elif (found := (catalog.document(SPEC_CHECKSUM_KEY) or b"").decode(errors="replace")) != actual:
        if sum(map(str.__eq__, found, actual)) > len(actual) // 2:  # no other document's digest comes so near
            yield Finding("checksum", SPEC_CHECKSUM_KEY, f"{actual}, the SHA-256 of spec.json", found)
        else:
            yield Finding("checksum", SPEC_KEY, f"SHA-256 {found[:16]}, as spec.sha256 says", actual[:16])


def _index(catalog: Catalog, ref: Ref, index: Index) -> Iterator[Finding]:
    key = ref.index_key
    records = [catalog.parts.get(ref, {}).get(number) for number in range(index.parts)]
    there = [record for record in records if record is not None]
    if len(there) < index.parts:
        for number, record in enumerate(records):
            if record is None and (part := ref.part_key(Part(number, index.parts))) not in catalog.sizes:
                yield Finding("record", part, "a part record, which index.json counts", "none")
        yield Finding("index", key, f"{index.parts} part records", f"{len(there)} that can be read")
        return
    if catalog.seals[ref] != Objects.joined([compact(record) for record in there]).seal():
        yield Finding("index", key, "the objects of its parts", "other objects")
    sums = {
        "inputs": tuple(dict.fromkeys(chain.from_iterable(record.inputs for record in there))),
        "rows": sum(record.rows for record in there),
        "facts": {str(record.part): record.facts for record in there if record.facts},
    }
    for name, value in sums.items():
        if getattr(index, name) != value:
            yield Finding("index", key, f"the {name} of its parts", f"other {name}")


def _unit(catalog: Catalog, spec: RunSpec, unit: Unit) -> Iterator[Finding]:
    """What one unit committed: all of it or nothing, from the inputs its stage has, with the seed that follows."""
    part = unit.part if STAGES[unit.stage].fans_out else None
    wanted = inputs(unit.stage, spec, iteration=unit.iteration, split=unit.split, part=part)
    for ref in unit.outputs(spec):
        record = catalog.part(ref, unit.part)
        key = ref.part_key(unit.part)
        if record is None:
            if key not in catalog.sizes:  # else what is there is an error
                yield warning("complete", key, "a part record", "none yet")
            continue
        if unit.stage != "prepare":
            own = f"{ref}#{unit.part}"  # notes are an input of the executions that are committed after them
            yield from _inputs(catalog, key, record, tuple(each for each in wanted if each != own))
        elif ref.artifact == "checkpoint" and (origin := find_origin(spec)) is not None:
            yield from _taken_over(catalog, key, record, origin)
        seed = derive_seed(spec.seed, unit.stage, unit.iteration, unit.split)
        if record.seed != seed:
            yield Finding("seed", key, str(seed), str(record.seed))


def _inputs(catalog: Catalog, key: str, record: PartRecord, wanted: tuple[str, ...]) -> Iterator[Finding]:
    named = Counter(each.ref for each in record.inputs)
    missing = sorted(set(wanted) - set(named))
    if missing:
        yield Finding("lineage", key, f"the inputs {', '.join(wanted)}", f"none named {', '.join(missing)}")
    strange = sorted(ref for ref, times in named.items() if times > wanted.count(ref))
    if strange:
        yield Finding("lineage", key, f"the inputs {', '.join(wanted)}", f"also {', '.join(strange)}")
    for each in record.inputs:
        actual = _digest(catalog, each)
        if actual != each.sha256:
            yield Finding(
                "lineage", key, f"{each.ref} with digest {each.sha256[:12]}", actual[:12] if actual else "none"
            )


def _taken_over(catalog: Catalog, key: str, record: PartRecord, origin: Origin) -> Iterator[Finding]:
    """A checkpoint of another run: named, with the digest it has there, and copied file by file."""
    named = {each.ref: each.sha256 for each in record.inputs}
    if str(origin) not in named:
        yield Finding("lineage", key, f"the input {origin}", "none of that name")
        return
    other = Run(catalog.run.store, origin.run)
    try:
        there = other.find_part(origin.ref, Part())
    except UNREADABLE as error:
        yield Finding("lineage", key, f"{origin} with digest {named[str(origin)][:12]}", str(error))
        return
    if there is None:
        yield warning("lineage", key, f"{origin}, which this was copied from", "none: that run is gone from the store")
        return
    if there.digest() != named[str(origin)]:
        digest = named[str(origin)][:12]
        yield Finding("lineage", key, f"{origin} with digest {digest}", there.digest()[:12])
    if _files(there) != _files(record):
        yield Finding("lineage", key, f"the files of {origin}", "others")


def _files(record: PartRecord) -> dict[str, str]:
    """Return the SHA-256 of a folder's files by their paths within it."""
    return {record.ref.path(item.key): item.sha256 for item in record.objects}


def _digest(catalog: Catalog, source: Input) -> str | None:
    """Return the digest that the store's records give an input now."""
    named = parse_ref(source.ref)
    if named is None:
        return None
    ref, part = named
    if part is None:
        return catalog.digest(ref)
    record = catalog.part(ref, part)
    return compact(record).digest() if record else None


def _locks(catalog: Catalog) -> Iterator[Finding]:
    """The package locks that parts name, and amendments: their names hold their digests."""
    made = (record.made for records in catalog.parts.values() for record in records.values())
    named = {one.environment["packages"] for one in made if "packages" in one.environment}
    written = {key for key in catalog.sizes if key.startswith(("amendments/", "environments/"))}
    for key in sorted(named - written):
        yield Finding("existence", key, "the package lock that parts name", "none")
    for key in sorted(written):
        data = catalog.document(key)
        if data is not None and (digest := hashlib.sha256(data).hexdigest()) not in key:
            yield Finding("checksum", key, "the SHA-256 in its name", digest[:16])


def _controls(catalog: Catalog) -> Iterator[Finding]:
    """Who drove the run, to which spec, how that ended and why: objects with a checksum of their own."""
    for key in catalog.sizes:
        try:
            control.check(catalog.run, key)
            decisions.check(catalog.run, key)
        except UNREADABLE as error:
            yield Finding.unread(key, error, "record", "a control object as it was written")
        if control.is_stranger(key):
            found = f"a stranger of {catalog.sizes[key]} bytes, which nothing reads"
            yield warning("keys", key, "a control object", found)


def _code(catalog: Catalog) -> Iterator[Finding]:
    versions = Counter(record.code for records in catalog.parts.values() for record in records.values())
    if len(versions) > 1:
        found = ", ".join(f"{count} parts by {version}" for version, count in versions.most_common())
        yield warning("code", "iterations", "one version of the stages", found)
