"""Forward: from a problem to all that became of it, pass by pass."""

from __future__ import annotations

from leti_ctl import control
from leti_ctl.inventory.ledger import Ledger
from leti_ctl.trace.lineage import Tree
from leti_ctl.trace.rows import find_problem, find_samples, packed_of
from stages.contract.artifacts import Ref
from stages.contract.errors import UsageError
from stages.contract.records import Execution, Sample
from stages.contract.run import Run


def trace_problem(run: Run, name: str) -> Tree:
    """Return, pass by pass, what became of a problem: samples, verdicts, training rows, the checkpoint they made."""
    spec = control.current_spec(run)
    ledger = Ledger(run)
    splits = dict.fromkeys(one.split for one in spec.passes())
    found = {split: one for split in splits if (one := find_problem(ledger, split, name))}
    if not found:
        raise UsageError(
            f"--problem {name!r}: no split of run {run.name} has it; `leti-ctl artifacts show {run.name} "
            f"problems/{spec.evaluate.splits[0] if spec.evaluate.splits else 'train'}` shows some that there are"
        )
    split = next(iter(found))
    problem = found[split].row
    became = [
        told
        for iteration in range(spec.iterations + 1)
        for one in spec.passes()
        if one.split == split and (told := _became(ledger, iteration, one.name, name)) is not None
    ]
    return {
        "what": f"problem {name} of split {split}, run {run.name}",
        "run": run.name,
        "uri": run.uri,
        "spec_sha256": run.spec_sha256,
        "prompt": problem.prompt,
        "tests": list(problem.tests),
        "became": became,
        "findings": [finding._asdict() for finding in ledger.findings],
    }


def _became(ledger: Ledger, iteration: int, split: str, name: str) -> Tree | None:
    samples = Ref("samples", iteration, split)
    if not ledger.is_complete(samples):
        return None
    drawn = find_samples(ledger, samples, Sample, name)
    executions = Ref("executions", iteration, split)
    judged = {each.row.sample: each.row for each in find_samples(ledger, executions, Execution, name)}
    verdicts = {number: row.error_type or row.outcome for number, row in judged.items()}
    trained = _training(ledger, iteration, name) if split == "train" else {}
    checkpoint, metrics = Ref("checkpoint", iteration + 1), Ref("metrics", iteration, split)
    return {
        "iteration": iteration,
        "split": split,
        "samples": len(drawn),
        "passed": sum(row.outcome == "passed" for row in judged.values()),
        "outcomes": {one: list(verdicts.values()).count(one) for one in dict.fromkeys(verdicts.values())},
        "verdicts": {str(each.row.sample): verdicts.get(each.row.sample) for each in drawn},
        "training_rows": sorted({row for rows in trained.values() for row in rows}),
        "rows_of_sample": {str(number): rows for number, rows in sorted(trained.items())},
        "trained_into": str(checkpoint) if trained and ledger.is_complete(checkpoint) else None,
        "scored_in": str(metrics) if ledger.is_complete(metrics) else None,
    }


def _training(ledger: Ledger, iteration: int, name: str) -> dict[int, list[int]]:
    """Return the training rows of each sample of a problem."""
    ref = Ref("examples", iteration)
    if not ledger.is_complete(ref):
        return {}
    rows: dict[int, list[int]] = {}
    for row, (_, sample) in packed_of(ledger, ref, lambda _, pair: pair[0] == name):
        rows.setdefault(sample, []).append(row)
    return rows
