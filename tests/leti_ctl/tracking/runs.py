"""Runs with scores and losses in them, grown iteration by iteration without the work."""

from __future__ import annotations

from pathlib import Path

from leti_ctl.pipeline import Unit, plan
from stages.contract.artifacts import Input, Made, Part, Ref
from stages.contract.records import Interval, Metrics, StepLog, write_rows
from stages.contract.run import Commit, Run
from tests.leti_ctl import parts

HOUR = "2026-01-01T{hour:02}:00:00+00:00"
SOURCE = (Input(ref="made by a test", sha256="0" * 64),)
ERRORS = ({"NameError": 4, "Bad/Name <x>": 1}, {"AssertionError": 2}, {"NameError": 1})
STEPS = 3


def make_run(root: Path, **fields: object) -> Run:
    """Return a new run of two iterations, in one part."""
    return parts.make_run(root, **{"iterations": 2, "generate": {"parts": 1}, **fields})


def grow(run: Run, scratch: Path, iterations: int) -> None:
    """Commit everything of the first so many iterations; with three, the run's end."""
    scratch.mkdir(exist_ok=True)
    for unit in plan(run.spec).units:
        if unit.iteration < iterations:
            _commit(run, unit, scratch)
            parts.finish(run, unit, scratch, seconds=30.0)


def _commit(run: Run, unit: Unit, scratch: Path) -> None:
    """What a unit is told of: scores and losses. Whoever commits first wins, and `finish` commits the rest."""
    if unit.stage == "evaluate":
        _write(run, Ref("metrics", unit.iteration, unit.split), [_metrics(unit.iteration, unit.split)], scratch)
    if unit.stage == "train":
        rows = [
            StepLog(step=step, stream="fcft", loss=3.0 - unit.iteration - step / 10, num_targets=9, learning_rate=1e-5)
            for step in range(STEPS)
        ]
        _write(run, Ref("steps", unit.iteration), rows, scratch)


def _metrics(iteration: int, split: str) -> Metrics:
    value = 0.1 * (iteration + 1)
    interval = Interval(value=value, low=value - 0.05, high=value + 0.05)
    failed = sum(ERRORS[iteration].values())
    return Metrics(
        iteration=iteration, split=split, temperature=0.1, reward_token="good", num_problems=2, num_samples=11,
        num_infra_errors=1, pass_at_k={"1": interval, "10": interval}, solve_rate=interval, executable_rate=interval,
        error_types=ERRORS[iteration], outcomes={"passed": 10 - failed, **({"failed": failed} if failed else {})},
        mean_solution_tokens=20.5, mean_feedback_characters=90.0, eos_rate=0.75, figures={"strict": interval},
    )  # fmt: skip


def _write(run: Run, ref: Ref, rows: list[Metrics] | list[StepLog], scratch: Path) -> None:
    path = scratch / "rows.jsonl"
    path.write_bytes(b"".join(write_rows(rows)))
    made = Made(started_at=HOUR.format(hour=ref.iteration or 0), seconds=60.0, host="h", environment={"image": "i@sha"})
    run.commit(Commit(ref, Part(), {path: len(rows)}, SOURCE, seed=7, made=made))
