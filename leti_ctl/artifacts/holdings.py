"""What a run holds: its artifacts as a list, their rows as text, their files."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from leti_ctl.artifacts import fetching
from leti_ctl.inventory.catalog import Catalog
from leti_ctl.inventory.ledger import Ledger
from leti_ctl.inventory.parquet import blocks, packed_in
from stages.contract.artifacts import ARTIFACTS, DataObject, Part, Ref, parse_ref
from stages.contract.errors import UsageError
from stages.contract.records import Execution, PackedRow
from stages.contract.run import Run


class Chosen(NamedTuple):
    """An artifact, or one part of it, that a run has."""

    ledger: Ledger
    ref: Ref
    part: Part | None

    @property
    def objects(self) -> tuple[DataObject, ...]:
        """Return its objects in order."""
        record = self.ledger.part(self.ref, self.part) if self.part else None
        return record.objects if record else self.ledger.need(self.ref).objects


def choose(run: Run, text: str) -> Chosen:
    """Return the artifact (or one part of it) that `iterations/0003/samples/train#0/4` names.

    `UsageError` where the run has none of that name, `ArtifactError` where its records are damaged.
    """
    ledger = Ledger(run)
    named = parse_ref(text.strip("/"))
    held = ledger.held(named[0]) if named else None
    if fault := next(iter(ledger.findings), None):
        raise fault.as_error()
    if named is None or held is None or not held.records:
        raise UsageError(f"artifact {text!r}: the run has none of that name; {_known(run)}")
    ref, part = named
    if part is not None and ledger.part(ref, part) is None:
        raise UsageError(
            f"artifact {text!r}: it has {held.records[0].parts} parts, of which {len(held.records)} are committed"
        )
    if part is None and not held.is_complete:
        raise UsageError(
            f"artifact {text!r}: {len(held.records)} of its {held.records[0].parts} parts are committed; resume the "
            f"run, or name one of them, such as {ref}#{held.records[0].part}/{held.records[0].parts}"
        )
    return Chosen(ledger, ref, part)


def _known(run: Run) -> str:
    refs = Catalog(run).refs
    if not refs:
        return "it has none at all yet; `leti-ctl status` says how far it is"
    return f"`leti-ctl artifacts ls` lists {', '.join(map(str, refs[:3]))}{' ...' if len(refs) > 3 else ''}"


def listing(run: Run, iteration: int | None = None) -> list[dict[str, Any]]:
    """Return one row per artifact in key order: how much it is, what it holds, when it was made.

    `removed` counts the objects that a collection removed on purpose. `UsageError` where the run has no such iteration;
    `ArtifactError` where a record is damaged, since nothing could be said of what it commits.
    """
    catalog = Catalog(run)
    if fault := next((each for each in catalog.findings if each.level == "error"), None):
        raise fault.as_error()
    if iteration is not None:
        catalog.need_iteration(iteration, "--iteration")
    return [_listed(catalog, ref) for ref in catalog.refs if iteration in (None, ref.iteration)]


def rows(run: Run, ref: Ref, part: Part | None, limit: int | None, start: int = 0) -> Iterator[dict[str, Any]]:
    """Yield an artifact's rows from row `start` on as JSON data, all of them without a limit, as they are read.

    Token ids come as text: training rows example by example, with the verdict on each, and blocks of the pre-training
    stream. Of a folder the files are told.
    """
    kind = ARTIFACTS[ref.artifact]
    if ref.artifact == "examples":
        yield from islice(Examples(run, ref, part, start), limit)
        return
    if ref.artifact == "pretraining":
        found = _blocks(run, ref, start)
    elif kind.format == "jsonl" and kind.record is not None:
        found = (row.model_dump() for row in islice(run.read(ref, kind.record, part), start, None))
    else:
        objects = islice(Catalog(run).objects(ref), start, None)
        found = ({"file": item.key, "bytes": item.size, "sha256": item.sha256} for item in objects)
    yield from islice(found, limit)


def get(chosen: Chosen, out: Path, advance: fetching.Advance = lambda done, total: None) -> list[Path]:
    """Copy an artifact's files, or those of one part, into a new folder `out`, every checksum verified.

    All of them or nothing: see `fetching.staged`.
    """
    run, ref, objects = chosen.ledger.run, chosen.ref, chosen.objects
    with fetching.staged(out, "".join(item.sha256 for item in objects[:1])) as folder:
        fetching.bring(run, ref, objects, folder, advance)
    return sorted(path for path in out.rglob("*") if path.is_file())


class Examples:
    """The examples of an iteration's training rows, from row `first` on, as the text the model is trained on."""

    def __init__(self, run: Run, ref: Ref, part: Part | None = None, first: int = 0) -> None:
        self.run, self.ref, self.part, self.first = run, ref, part, first

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield row, epoch, step, problem, sample, verdict, tokens and text."""
        from leti_ctl.inventory.spelling import Speller

        speller = Speller(Ledger(self.run), Ref("checkpoint", self.ref.iteration))
        for number, row in self._rows():
            if number < self.first:
                continue
            start = 0
            for length, problem, sample in zip(row.lengths, row.problem_ids, row.samples, strict=True):
                ids, start = row.input_ids[start : start + length], start + length
                outcome, error = self.verdicts.get((problem, sample), (None, None))
                yield {
                    "row": number,
                    "epoch": row.epoch,
                    "step": row.step,
                    "problem_id": problem,
                    "sample": sample,
                    "outcome": outcome,
                    "error_type": error,
                    "tokens": length,
                    "text": speller.spell(ids),
                }

    @cached_property
    def verdicts(self) -> dict[tuple[str, int], tuple[str, str | None]]:
        """Outcome and error type by problem and sample."""
        executions = self.run.read(Ref("executions", self.ref.iteration, "train"), Execution)
        return {(row.problem_id, row.sample): (row.outcome, row.error_type) for row in executions}

    def _rows(self) -> Iterator[tuple[int, PackedRow]]:
        wanted = None if self.part is None else self.part.number
        start = 0
        for record in Ledger(self.run).need(self.ref).records:
            if wanted in (None, record.part):
                yield from enumerate(packed_in(self.run, record.objects), start)
            start += record.rows


def _blocks(run: Run, ref: Ref, start: int) -> Iterator[dict[str, Any]]:
    from leti_ctl.inventory.spelling import Speller

    ledger = Ledger(run)
    speller = Speller(ledger, Ref("checkpoint", 0))
    for row in islice(blocks(run, ledger.need(ref).objects), start, None):
        yield {"block": row.block, "tokens": len(row.input_ids), "text": speller.spell(row.input_ids)}


def _listed(catalog: Catalog, ref: Ref) -> dict[str, Any]:
    records = list(catalog.parts.get(ref, {}).values())
    objects = [item for record in records for item in record.objects]
    digest = catalog.digest(ref)
    return {
        "artifact": str(ref),
        "parts": f"{len(records)}/{records[0].parts}" if records else "0",
        "rows": sum(record.rows for record in records),
        "objects": len(objects),
        "removed": sum(item.key not in catalog.sizes and item.key in catalog.removed for item in objects),
        "missing": sum(item.key not in catalog.sizes and item.key not in catalog.removed for item in objects),
        "bytes": sum(item.size for item in objects),
        "sha256": digest,
        "made": min((record.made.started_at for record in records), default=None),
        "seconds": round(sum(record.made.seconds for record in records), 1),
    }
