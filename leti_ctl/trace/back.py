"""Back: from a training row, a sample, a step of training or a score to what made it."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, NamedTuple

from leti_ctl import control
from leti_ctl.audit.passes import Drawn, Scores, Verdict
from leti_ctl.inventory.ledger import Ledger
from leti_ctl.trace.judged import agreement, find_judged, place
from leti_ctl.trace.lineage import Tree, bases, lineage, weights
from leti_ctl.trace.rows import (
    Found,
    Pair,
    find_packed,
    find_pairs,
    find_samples,
    packed_of,
    scan,
    steps,
)
from stages.contract.artifacts import Part, Ref
from stages.contract.errors import UsageError
from stages.contract.records import Execution, Metrics, PackedRow, Sample, StepLog
from stages.contract.run import Run


class Target(NamedTuple):
    """What to trace. `iteration` and `split` say of which artifact; the other fields which row of it."""

    iteration: int
    split: str = "train"
    problem: str | None = None
    sample: int | None = None
    row: int | None = None
    example: int | None = None
    """Within the row, from 0; None takes all."""
    step: int | None = None


def trace_row(run: Run, target: Target) -> Tree:
    """Return a training row: its text, samples and verdicts, the step that took it in, and the lineage of it all."""
    ledger = Ledger(run)
    ref = Ref("examples", target.iteration)
    _check_trained(run, target.iteration)
    found = find_packed(ledger, ref, target.row or 0)
    row, chosen = found.row, _chosen(found.row, target)
    pairs = {(row.problem_ids[number], row.samples[number]) for number in chosen}
    judged = find_judged(ledger, target.iteration, "train", pairs)
    texts = _texts(ledger, row, target.iteration)
    examples = []
    for number in chosen:
        pair = (row.problem_ids[number], row.samples[number])
        told = {"example": number, "tokens": row.lengths[number], "trained_on": _targets(row, number)}
        holds = agreement(
            run.spec, texts[number], judged, pair, is_cut=row.lengths[number] >= run.spec.build.max_length
        )
        for claim in (name for name, so in holds.items() if not so):
            ledger.note("examples", f"{ref} row {target.row} example {number}", claim, "another text")
        examples.append({**told, "text": texts[number], **judged.told(pair), "agrees": holds})
    return {
        "what": f"training row {target.row} of iteration {target.iteration}, run {run.name}",
        **_about(run),
        "row": target.row,
        "epoch": row.epoch,
        "step": row.step,
        "tokens": len(row.input_ids),
        "place": place(run, found.place),
        "examples": examples,
        "trained": _trained(ledger, target.iteration, row.step),
        **_ends(ledger, ref, Part(found.place.part.number, found.place.part.of)),
    }


def trace_sample(run: Run, target: Target) -> Tree:
    """Return a sample with its problem and verdict, the lineage of both, and what became of it."""
    ledger = Ledger(run)
    _check_pass(run, target)
    pair = (target.problem or "", target.sample or 0)
    judged = find_judged(ledger, target.iteration, target.split, {pair})
    if pair not in judged.samples:
        raise UsageError(_no_sample(ledger, target))
    verdict = judged.executions.get(pair)
    source = verdict.place if verdict else judged.samples[pair].place
    trained = target.split == "train" and ledger.is_complete(Ref("examples", target.iteration))
    examples = Ref("examples", target.iteration)
    return {
        "what": f"sample {pair[1]} of problem {pair[0]}, iteration {target.iteration}, split {target.split}",
        **_about(run),
        **judged.told(pair),
        "training_rows": sorted({row for row, _ in packed_of(ledger, examples, lambda _, each: each == pair)})
        if trained
        else [],
        **_ends(ledger, source.ref, source.part),
    }


def trace_score(run: Run, target: Target) -> Tree:
    """Return the metrics of a pass, the same computed from its rows again, and the lineage of those."""
    ledger = Ledger(run)
    _check_pass(run, target)
    ref = Ref("metrics", target.iteration, target.split)
    (found,) = scan(ledger, ref, Metrics, ledger.need(ref).records[0])
    again = _scores_again(ledger, target)
    wrong = [name for name, value in again.items() if abs(value - found.row.pass_at_k[name].value) > 1e-9]
    for k in wrong:
        ledger.note("scores", f"{ref} pass_at_k.{k}", f"{again[k]:.6f}", f"{found.row.pass_at_k[k].value:.6f}")
    return {
        "what": f"scores of iteration {target.iteration}, split {target.split}, run {run.name}",
        **_about(run),
        "metrics": found.row.model_dump(),
        "place": place(run, found.place),
        "computed_again": {"pass_at_k": again, "same": not wrong},
        **_ends(ledger, ref, None),
    }


def trace_step(run: Run, target: Target) -> Tree:
    """Return a step of the training log with the examples it was made of, and the lineage of the checkpoint."""
    ledger = Ledger(run)
    log = steps(ledger, target.iteration)
    if not log:
        raise UsageError(f"--step {target.step}: iteration {target.iteration} of run {run.name} has no training log")
    if target.step is None or target.step >= len(log):
        raise UsageError(f"--step {target.step}: {log[0].place.ref} has steps 0 to {len(log) - 1}")
    found = log[target.step]
    took = _row_step(log, target.step)
    ref = Ref("examples", target.iteration)
    rows = packed_of(ledger, ref, lambda step, _: step == took) if took is not None else []
    checkpoint = Ref("checkpoint", target.iteration + 1)
    return {
        "what": f"step {target.step} of training iteration {target.iteration}, run {run.name}",
        **_about(run),
        **found.row.model_dump(),
        "place": place(run, found.place),
        "examples": len(rows),
        "training_rows": sorted({row for row, _ in rows}),
        "took": _verdicts(ledger, target.iteration, rows),
        "made": str(checkpoint),
        **_ends(ledger, checkpoint if ledger.is_complete(checkpoint) else found.place.ref, None),
    }


def _verdicts(ledger: Ledger, iteration: int, rows: list[tuple[int, Pair]]) -> list[Tree]:
    """Return whose examples these are, and what the verdict on each was."""
    executions = find_pairs(ledger, Ref("executions", iteration, "train"), Execution, {pair for _, pair in rows})
    judged = {pair: each.row for pair, each in executions.items()}
    return [
        {
            "row": row,
            "problem_id": pair[0],
            "sample": pair[1],
            "outcome": judged[pair].outcome if pair in judged else None,
            "error_type": judged[pair].error_type if pair in judged else None,
        }
        for row, pair in rows
    ]


def _about(run: Run) -> Tree:
    return {"run": run.name, "uri": run.uri, "spec_sha256": run.spec_sha256}


def _ends(ledger: Ledger, ref: Ref, part: Part | None) -> Tree:
    """Return the lineage and what lies at its ends; last, because walking it makes the findings."""
    whole = ledger.held(ref)
    tree = lineage(ledger, ref, part if part and len(whole.records) > 1 else None)
    model = ledger.run.spec.model
    return {
        "model": _model(ledger, ref.iteration if ref.iteration is not None else 0),
        "base": {**model.model_dump(include={"source", "revision", "from_run", "from_iteration"}),
                 "sources": bases(tree)},
        "lineage": tree,
        "findings": [finding._asdict() for finding in ledger.findings],
    }  # fmt: skip


def _model(ledger: Ledger, iteration: int) -> Tree:
    ref = Ref("checkpoint", iteration)
    return {"ref": str(ref), "sha256": ledger.held(ref).digest, "weights": weights(ledger, ref)}


def _chosen(row: PackedRow, target: Target) -> list[int]:
    if target.example is None:
        return list(range(len(row.lengths)))
    if target.example >= len(row.lengths):
        raise UsageError(f"--example {target.example}: row {target.row} has examples 0 to {len(row.lengths) - 1}")
    return [target.example]


def _targets(row: PackedRow, number: int) -> int:
    start = sum(row.lengths[:number])
    return sum(row.loss_mask[start : start + row.lengths[number]])


def _texts(ledger: Ledger, row: PackedRow, iteration: int) -> list[str]:
    """Return the text of each example as the model is trained on it, special tokens spelled out."""
    from leti_ctl.inventory.spelling import Speller

    speller = Speller(ledger, Ref("checkpoint", iteration))
    ends = list(accumulate(row.lengths))
    return [speller.spell(row.input_ids[end - length : end]) for end, length in zip(ends, row.lengths, strict=True)]


def _trained(ledger: Ledger, iteration: int, step: int) -> Tree | None:
    """Return the step of the log that took an FCFT step in, with its loss and the checkpoint it went into."""
    log = steps(ledger, iteration)
    taken = [each for each in log if each.row.stream != "pretraining"]
    if step >= len(taken):
        return None
    checkpoint = Ref("checkpoint", iteration + 1)
    return {**taken[step].row.model_dump(), "steps": len(log), "place": place(ledger.run, taken[step].place),
            "into": str(checkpoint), "into_sha256": ledger.held(checkpoint).digest}  # fmt: skip


def _row_step(log: list[Found[StepLog]], number: int) -> int | None:
    """Return which FCFT step of the rows a step of the log is; None for one on the pre-training stream alone."""
    if log[number].row.stream == "pretraining":
        return None
    return sum(each.row.stream != "pretraining" for each in log[:number])


def _scores_again(ledger: Ledger, target: Target) -> dict[str, float]:
    verdicts: dict[Pair, Verdict] = {}
    for record in ledger.held(ref := Ref("executions", target.iteration, target.split)).records:
        for each in scan(ledger, ref, Execution, record):
            row = each.row
            verdicts[row.problem_id, row.sample] = Verdict(row.outcome, row.error_type, len(row.feedback))
    drawn: dict[Pair, Drawn] = {}
    expected: dict[str, Any] = Scores(drawn, verdicts, ledger.run.spec.evaluate.k).expected()
    names = [name for name in expected if name.startswith("pass_at_k.")]
    return {name.split(".")[1]: float(expected[name]) for name in names}


def _check_trained(run: Run, iteration: int) -> None:
    spec = control.current_spec(run)
    if not spec.uses_samples():
        why = "trains on the pre-training stream alone" if spec.trains() else "only evaluates"
        raise UsageError(f"--row: run {run.name} {why} and has no training rows; trace a sample, --scores or --step")
    if iteration >= spec.iterations:
        raise UsageError(f"--iteration {iteration}: run {run.name} trains iterations 0 to {spec.iterations - 1}")


def _check_pass(run: Run, target: Target) -> None:
    spec = control.current_spec(run)
    names = [one.name for one in spec.passes() if one.split != "train" or spec.trains()]
    if target.split not in names:
        raise UsageError(f"--split {target.split!r}: run {run.name} has {', '.join(names)}")
    last = spec.iterations - (target.split == "train")
    if target.iteration > last:
        raise UsageError(f"--iteration {target.iteration}: run {run.name} has iterations 0 to {last} of {target.split}")


def _no_sample(ledger: Ledger, target: Target) -> str:
    ref, name = Ref("samples", target.iteration, target.split), str(target.problem)
    ledger.need(ref)
    found = [each.row.sample for each in find_samples(ledger, ref, Sample, name)]
    if found:
        return f"--sample {target.sample}: {ref} has samples {min(found)} to {max(found)} of problem {name}"
    return f"--problem {name!r}: {ref} has no sample of it; `leti-ctl samples` shows some that there are"
