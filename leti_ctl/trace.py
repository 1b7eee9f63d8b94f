"""Where something came from, and what became of it: the lineage in the store, walked in both directions.

Back: a training row, a sample or a score, through every artifact it was made from, to the problems and the base model.
Forward: a problem, through its samples and their verdicts, to the training rows, checkpoints and scores they went into.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from leti_ctl import control
from leti_ctl.audit.catalog import Catalog
from leti_ctl.reader import packed_rows
from stages.contract.artifacts import Part, PartRecord, Ref, parse_origin, parse_ref
from stages.contract.errors import UsageError
from stages.contract.records import Execution, Metrics, PackedRow, Problem, Sample
from stages.contract.run import Run

Tree = dict[str, Any]


class Target(NamedTuple):
    """What to trace. `iteration` and `split` say of which artifact; the other fields which row of it."""

    iteration: int
    split: str = "train"
    problem: str | None = None
    sample: int | None = None
    row: int | None = None


def trace_row(run: Run, target: Target) -> Tree:
    """Return a training row's examples with their verdicts, and the lineage of what it was built from."""
    catalog = Catalog(run)
    ref = Ref("examples", target.iteration)
    row = _row(run, ref, target.row or 0)
    samples = {
        (each.problem_id, each.sample): each for each in run.read(Ref("samples", target.iteration, "train"), Sample)
    }
    verdicts = _verdicts(catalog, target.iteration, "train")
    pairs = zip(row.problem_ids, row.samples, strict=True)
    examples = [
        {"tokens": length, **_told(samples[pair], verdicts.get(pair))}
        for length, pair in zip(row.lengths, pairs, strict=True)
        if pair in samples
    ]
    facts = {"row": target.row, "epoch": row.epoch, "step": row.step, "tokens": len(row.input_ids)}
    return {"what": f"training row {target.row} of iteration {target.iteration}", **facts, "examples": examples,
            "lineage": lineage(catalog, ref)}  # fmt: skip


def trace_sample(run: Run, target: Target) -> Tree:
    """Return a sample with its problem and verdict, the lineage of both, and what became of it."""
    ref = Ref("samples", target.iteration, target.split)
    pair = (target.problem or "", target.sample or 0)
    sample = next((each for each in run.read(ref, Sample) if (each.problem_id, each.sample) == pair), None)
    if sample is None:
        raise UsageError(f"{ref} has no sample {pair[1]} of problem {pair[0]!r}; `leti-ctl samples` lists them")
    catalog = Catalog(run)
    verdict = _verdicts(catalog, target.iteration, target.split).get(pair)
    executions = Ref("executions", target.iteration, target.split)
    return {
        "what": f"sample {pair[1]} of problem {pair[0]}, iteration {target.iteration}, split {target.split}",
        **_told(sample, verdict),
        "training_rows": _rows_of(catalog, target.iteration, pair) if target.split == "train" else [],
        "lineage": lineage(catalog, executions if catalog.is_complete(executions) else ref),
    }


def trace_score(run: Run, target: Target) -> Tree:
    """Return the metrics of a pass and the lineage of what they were computed from."""
    ref = Ref("metrics", target.iteration, target.split)
    metrics = next(run.read(ref, Metrics))
    return {"what": f"scores of iteration {target.iteration}, split {target.split}", "metrics": metrics.model_dump(),
            "lineage": lineage(Catalog(run), ref)}  # fmt: skip


def trace_problem(run: Run, name: str) -> Tree:
    """Return, pass by pass, what became of a problem: samples, verdicts, training rows, the checkpoint they made."""
    spec = control.current_spec(run)
    catalog = Catalog(run)
    split = next((each for each in ("train", *spec.evaluate.splits) if _has(catalog, each, name)), None)
    if split is None:
        raise UsageError(
            f"--problem {name!r}: no split of the run has it; `leti-ctl samples` shows some that there are"
        )
    passes = [one for one in spec.passes() if one.split == split]
    became = [
        found
        for iteration in range(spec.iterations + 1)
        for one in passes
        if (found := _became(catalog, iteration, one.name, name)) is not None
    ]
    return {"what": f"problem {name} of split {split}", "became": became}


def lineage(catalog: Catalog, ref: Ref, part: Part | None = None, seen: set[str] | None = None) -> Tree:
    """Return an artifact with who made it and, nested, what it was made from; what was told already is named only."""
    seen = set() if seen is None else seen
    name = f"{ref}#{part}" if part else str(ref)
    records = [catalog.part(ref, part)] if part else list(catalog.parts.get(ref, {}).values())
    there = [record for record in records if record is not None]
    if not there:
        return {"ref": name, "missing": True}
    told = {"ref": name, "sha256": catalog.digest(ref) if part is None else there[0].digest()}
    own = f"{catalog.run.name}/{name}"
    if own in seen:
        return {**told, "told_above": True}
    seen.add(own)
    sources = dict.fromkeys((each.ref, each.sha256) for record in there for each in record.inputs)
    return {
        **told,
        "parts": len(there),
        "rows": sum(record.rows for record in there),
        **_maker(there),
        "inputs": [_source(catalog, text, digest, seen) for text, digest in sources],
    }


def _source(catalog: Catalog, text: str, digest: str, seen: set[str]) -> Tree:
    if origin := parse_origin(text):
        # Of another run, whose artifacts have the same names as this one's.
        tree = {**lineage(Catalog(Run(catalog.run.store, origin.run)), origin.ref, seen=seen), "ref": text}
    elif (named := parse_ref(text)) is not None:
        tree = lineage(catalog, *named, seen)
    else:
        return {"ref": text, "sha256": digest, "outside": True}
    return tree if tree.get("sha256") == digest else {**tree, "recorded_sha256": digest}


def _maker(records: list[PartRecord]) -> dict[str, Any]:
    first = min(records, key=lambda record: record.made.started_at)
    return {
        "code": sorted({record.code for record in records}),
        "images": sorted(
            {record.made.environment["image"] for record in records if "image" in record.made.environment}
        ),
        "hosts": sorted({record.made.host for record in records}),
        "started_at": first.made.started_at,
        "seconds": round(sum(record.made.seconds for record in records), 3),
        "seed": first.seed,
        "spec_sha256": first.spec_sha256,
    }


def _told(sample: Sample, verdict: Execution | None) -> dict[str, Any]:
    facts = {
        "problem_id": sample.problem_id,
        "sample": sample.sample,
        "seed": sample.seed,
        "reward_token_before_prompt": sample.reward_token,
        "finish_reason": sample.finish_reason,
        "solution": sample.solution,
    }
    if verdict is None:
        return {**facts, "outcome": None}
    names = ("outcome", "error_type", "isolation", "program_sha256", "feedback")
    return {**facts, **{name: getattr(verdict, name) for name in names}}


def _row(run: Run, ref: Ref, number: int) -> PackedRow:
    for index, row in enumerate(packed_rows(run, ref)):
        if index == number:
            return row
    raise UsageError(f"--row {number}: {ref} has {run.get_index(ref).rows} rows, from 0")


def _rows_of(catalog: Catalog, iteration: int, pair: tuple[str, int]) -> list[int]:
    ref = Ref("examples", iteration)
    rows = packed_rows(catalog.run, ref) if catalog.is_complete(ref) else ()
    return [number for number, row in enumerate(rows) if pair in zip(row.problem_ids, row.samples, strict=True)]


def _verdicts(catalog: Catalog, iteration: int, split: str) -> dict[tuple[str, int], Execution]:
    ref = Ref("executions", iteration, split)
    rows = catalog.run.read(ref, Execution) if catalog.is_complete(ref) else ()
    return {(row.problem_id, row.sample): row for row in rows}


def _has(catalog: Catalog, split: str, name: str) -> bool:
    ref = Ref("problems", split=split)
    return catalog.is_complete(ref) and any(row.problem_id == name for row in catalog.run.read(ref, Problem))


def _became(catalog: Catalog, iteration: int, split: str, name: str) -> Mapping[str, Any] | None:
    samples = Ref("samples", iteration, split)
    if not catalog.is_complete(samples):
        return None
    drawn = [row.sample for row in catalog.run.read(samples, Sample) if row.problem_id == name]
    verdicts = [row for row in _verdicts(catalog, iteration, split).values() if row.problem_id == name]
    outcomes: dict[str, int] = {}
    for row in verdicts:
        told = row.error_type or row.outcome
        outcomes[told] = outcomes.get(told, 0) + 1
    trained = list(_training(catalog, iteration, name)) if split == "train" else []
    checkpoint = Ref("checkpoint", iteration + 1)
    return {
        "iteration": iteration,
        "split": split,
        "samples": len(drawn),
        "passed": sum(row.outcome == "passed" for row in verdicts),
        "outcomes": outcomes,
        "training_rows": trained,
        "trained_into": str(checkpoint) if trained and catalog.is_complete(checkpoint) else None,
        "scored_in": str(ref) if catalog.is_complete(ref := Ref("metrics", iteration, split)) else None,
    }


def _training(catalog: Catalog, iteration: int, name: str) -> Iterator[int]:
    ref = Ref("examples", iteration)
    if catalog.is_complete(ref):
        yield from (number for number, row in enumerate(packed_rows(catalog.run, ref)) if name in row.problem_ids)
