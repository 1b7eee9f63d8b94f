"""Runs with committed units, without the work: a part is what "done" means, whatever its rows say."""

from __future__ import annotations

from pathlib import Path

from leti_ctl.pipeline import Unit
from stages.contract.artifacts import Input, Made, Ref
from stages.contract.records import Interval, Metrics
from stages.contract.run import Commit, Run
from stages.contract.spec import RunSpec
from stages.contract.store import LocalStore

SOURCE = (Input(ref="made by a test", sha256="0" * 64),)


def make_run(root: Path, **fields: object) -> Run:
    """Return a new run of two training parts and a held-out pass of one."""
    run = Run(LocalStore(root), "r")
    base = RunSpec(iterations=3).model_dump(mode="json")
    base["generate"]["parts"] = 2
    base["evaluate"] |= {"splits": ["test"], "select_on": "test"}
    run.create(RunSpec.model_validate_json(RunSpec.model_validate({**base, **fields}, strict=False).to_json()))
    return run


def finish(run: Run, unit: Unit, scratch: Path, *, seconds: float = 60.0, accelerators: int = 0) -> None:
    """Commit every output of a unit, each one empty object; metrics with a pass@1 of a half."""
    if unit.stage == "evaluate":
        return score(run, unit.iteration, 0.5, scratch, split=unit.split)
    counters = {"accelerators": accelerators} if unit.load == "accelerator" else {}
    made = Made(started_at="2026-01-01T00:00:00+00:00", seconds=seconds, host="h", counters=counters)
    for ref in unit.outputs(run.spec):
        path = scratch / "empty.bin"
        path.write_bytes(b"")
        run.commit(Commit(ref, unit.part, {path: 0}, SOURCE, seed=7, made=made))


def score(run: Run, iteration: int, value: float, scratch: Path, *, split: str = "test") -> None:
    """Commit an iteration's metrics with this pass@1."""
    from stages.contract.artifacts import Part
    from tests.stages.contract.parts import commit_rows

    interval = Interval(value=value, low=value, high=value)
    row = Metrics(
        iteration=iteration, split=split, temperature=0.1, reward_token="none", num_problems=1, num_samples=1,
        num_infra_errors=0, pass_at_k={"1": interval}, solve_rate=interval, executable_rate=interval, error_types={},
        outcomes={}, mean_solution_tokens=1.0, mean_feedback_characters=0.0, eos_rate=1.0,
    )  # fmt: skip
    commit_rows(run, Part(), [row], scratch, ref=Ref("metrics", iteration, split))
