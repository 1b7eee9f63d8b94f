"""What must hold of a part record by itself: its objects' names and rows, its times, who made it."""

from __future__ import annotations

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime

from leti_ctl.inventory.catalog import Catalog, compact
from leti_ctl.inventory.compact import Objects
from leti_ctl.inventory.finding import Finding
from stages.contract.artifacts import ARTIFACTS, Part, PartRecord, Ref
from stages.contract.flow import parts_of
from stages.contract.seal import divisions
from stages.contract.spec import RunSpec

CODE = re.compile(r"[\w.+!-]+\+[0-9a-f]{16}")
"""A version and a digest of the sources, as `code_version` spells them."""
ONE_ROW = ("metrics",)


def check(catalog: Catalog, spec: RunSpec) -> Iterator[Finding]:
    """Yield what is wrong with part records, each by itself."""
    keys: defaultdict[str, list[str]] = defaultdict(list)
    for key in catalog.written:
        keys[key.partition("/parts/")[0]].append(key)
    for ref in catalog.refs:
        wanted = parts_of(ref, spec)
        for parts in divisions(ref, keys[ref.prefix]):
            if parts != wanted:
                yield Finding("complete", ref.prefix, f"{wanted} parts, as the spec divides it", f"records of {parts}")
        for number, record in sorted(catalog.parts.get(ref, {}).items()):
            part = Part(number, record.parts)
            yield from _record(ref.part_key(part), ref, part, record)


def _record(key: str, ref: Ref, part: Part, record: PartRecord) -> Iterator[Finding]:
    objects = compact(record)
    if not objects:
        yield Finding("existence", key, "objects", "none")
    if record.rows != objects.rows:
        yield Finding("rows", key, f"{objects.rows} rows, as many as its objects have", str(record.rows))
    if ref.artifact in ONE_ROW and record.rows != 1:
        yield Finding("rows", key, "1 row", str(record.rows))
    if not CODE.fullmatch(record.code):
        yield Finding("record", key, "a version of the stages and a digest of their sources", repr(record.code))
    if not _is_time(record.made.started_at):
        yield Finding("record", key, "a time in UTC, ISO 8601", repr(record.made.started_at))
    if not 0 <= record.made.seconds < math.inf:
        yield Finding("record", key, "a duration", str(record.made.seconds))
    is_folder = ARTIFACTS[ref.artifact].format == "folder"
    yield from _folder(ref, objects) if is_folder else _files(ref, part, objects)


def _files(ref: Ref, part: Part, objects: Objects) -> Iterator[Finding]:
    for item in objects:
        stem = f"{ref.prefix}/{part.stem}-{item.sha256}"
        if item.key.rpartition(".")[0] != stem or "/" in item.key[len(stem) :]:
            yield Finding("names", item.key, f"an object named {stem}", "another name")


def _folder(ref: Ref, objects: Objects) -> Iterator[Finding]:
    """A folder's name is the digest of what is in it, and nothing in it is rows."""
    depth = len(ref.prefix) + 1
    digest, homes, first = hashlib.sha256(), set(), ""
    for item in objects:
        home, _, path = item.key[depth:].partition("/")
        digest.update(f"{item.sha256} {path}\n".encode("utf-8", "surrogatepass"))
        homes.add(item.key[:depth] + home)
        first = first or item.key
        if item.rows:
            yield Finding("rows", item.key, "no rows", str(item.rows))
    home = f"{ref.prefix}/{digest.hexdigest()}"
    if homes - {home}:
        yield Finding("names", first, f"all objects in {home}", f"some in {min(homes - {home})}")


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).utcoffset() is not None
    except ValueError:
        return False
