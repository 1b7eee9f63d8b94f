"""Single rows of a run: only the part that holds them is read, and only after its bytes have been verified."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from leti_ctl.inventory.ledger import Ledger
from leti_ctl.inventory.parquet import packed_row, packed_sources, scratch_folder
from stages.contract.artifacts import DataObject, Part, PartRecord, Ref
from stages.contract.errors import UsageError
from stages.contract.records import Execution, Note, PackedRow, Problem, Record, Sample, StepLog, read_rows
from stages.contract.transfer import download, lines, verified

R = TypeVar("R", bound=Record)
Judged = TypeVar("Judged", Sample, Execution, Note)
Pair = tuple[str, int]


class Place(NamedTuple):
    """Where a row stands."""

    ref: Ref
    part: Part
    item: DataObject
    """The object, whose SHA-256 was that of its record when the row was read."""
    row: int
    """Within the object, from 0."""


class Found(NamedTuple, Generic[R]):
    """A row and its place."""

    row: R
    place: Place


def find_packed(ledger: Ledger, ref: Ref, number: int) -> Found[PackedRow]:
    """Return a training row by its number within the iteration; `UsageError` says how many there are."""
    start = 0
    for record in ledger.need(ref).records:
        for item in record.objects:
            if number < start + item.rows:
                place = Place(ref, record.position, item, number - start)
                with _local(ledger, item) as path:
                    return Found(packed_row(path, place.row), place)
            start += item.rows
    raise UsageError(f"--row {number}: {ref} has rows 0 to {start - 1}")


def packed_of(ledger: Ledger, ref: Ref, wanted: Callable[[int, Pair], bool]) -> list[tuple[int, Pair]]:
    """Return row number and pair of the training examples for which `wanted(step, pair)`; token ids stay unread."""
    found, start = [], 0
    for item in ledger.need(ref).objects:
        with _local(ledger, item) as path:
            for number, (step, pairs) in enumerate(packed_sources(path), start):
                found += [(number, pair) for pair in pairs if wanted(step, pair)]
        start += item.rows
    return found


def find_pairs(ledger: Ledger, ref: Ref, kind: type[Judged], pairs: set[Pair]) -> dict[Pair, Found[Judged]]:
    """Return the rows of these (problem, sample) pairs, those that the artifact has; stops when it has all."""
    found: dict[Pair, Found[Judged]] = {}
    for record in _likely(ledger, ref, {name for name, _ in pairs}):
        for each in scan(ledger, ref, kind, record, only={name for name, _ in pairs}):
            if (pair := (each.row.problem_id, each.row.sample)) in pairs:
                found[pair] = each
        if len(found) == len(pairs):
            break
    return found


def find_samples(ledger: Ledger, ref: Ref, kind: type[Judged], problem: str) -> list[Found[Judged]]:
    """Return all rows of a problem, which one part has."""
    for record in _likely(ledger, ref, {problem}):
        found = [each for each in scan(ledger, ref, kind, record, only={problem}) if each.row.problem_id == problem]
        if found:
            return found
    return []


def find_problem(ledger: Ledger, split: str, name: str) -> Found[Problem] | None:
    """Return a problem, or None where the split has none of that name."""
    ref = Ref("problems", split=split)
    # Read to the end: only there is it known that the object's SHA-256 is right.
    rows = [each for record in ledger.held(ref).records for each in scan(ledger, ref, Problem, record, only={name})]
    return next((each for each in rows if each.row.problem_id == name), None)


def steps(ledger: Ledger, iteration: int) -> list[Found[StepLog]]:
    """Return the training log of an iteration; empty where it was not trained."""
    ref = Ref("steps", iteration)
    return [each for record in ledger.held(ref).records for each in scan(ledger, ref, StepLog, record)]


def scan(
    ledger: Ledger, ref: Ref, kind: type[R], record: PartRecord, *, only: set[str] | None = None
) -> Iterator[Found[R]]:
    """Yield the rows of a part; with `only`, at least those of these problems: others are mostly not even parsed."""
    marks = None if only is None else [json.dumps(name, ensure_ascii=False).encode() for name in only]
    for item in record.objects:
        key = ledger.run.key(item.key)
        chunks = verified(ledger.run.store, key, item, ledger.damaged)
        for number, line in enumerate(lines(chunks)):
            if marks is None or any(mark in line for mark in marks):
                place = Place(ref, record.position, item, number)
                yield from (Found(row, place) for row in read_rows([line], kind, source=f"{key}, line {number + 1}"))


def _likely(ledger: Ledger, ref: Ref, names: set[str]) -> list[PartRecord]:
    """Return the artifact's parts; first those that hold these problems if all parts are equal slices."""
    records = list(ledger.held(ref).records)
    if len(records) < 2 or ref.split is None:
        return records
    split = ledger.run.spec.get_pass(ref.split).split
    problems = Ref("problems", split=split)
    order = [
        each.row.problem_id for one in ledger.held(problems).records for each in scan(ledger, problems, Problem, one)
    ]
    places = [number for number, name in enumerate(order) if name in names]
    near = {
        part
        for part in range(records[0].parts)
        for at in places
        if at in Part(part, records[0].parts).slice(len(order))
    }
    return sorted(records, key=lambda record: (record.part not in near, record.part))


@contextmanager
def _local(ledger: Ledger, item: DataObject) -> Iterator[Path]:
    """Give a verified copy of an object."""
    with tempfile.TemporaryDirectory(prefix="leti-rows-", dir=scratch_folder()) as folder:
        path = Path(folder) / item.key.rpartition("/")[2]
        download(ledger.run.store, ledger.run.key(item.key), item, path, ledger.damaged)
        yield path
