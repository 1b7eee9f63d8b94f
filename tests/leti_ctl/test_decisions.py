"""When a run ends early: one decision, recorded once, by rules that a resumed run may change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leti_ctl import control, decisions, steps
from leti_ctl.backends.local.driver import Driver
from leti_ctl.config import specs
from leti_ctl.follow.progress import PlainView
from leti_ctl.pipeline import plan
from leti_ctl.results import summary
from stages.contract.errors import ArtifactError
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import Entry, LocalStore
from tests.leti_ctl.parts import finish, make_run, score


def patient(tmp_path: Path, patience: int = 1, **stop: float) -> Run:
    return make_run(tmp_path / "store", iterations=6, stop={"patience": patience, **stop})


def finish_chain(run: Run, iteration: int, scratch: Path, **made: float) -> None:
    """Commit what an iteration trains; its held-out passes are left open."""
    for unit in plan(run.spec).units:
        if unit.iteration == iteration and not unit.node.endswith("-test"):
            finish(run, unit, scratch, **made)  # type: ignore[arg-type]


def train_and_score(run: Run, scores: list[float], scratch: Path) -> None:
    for iteration, value in enumerate(scores):
        finish_chain(run, iteration, scratch)
        score(run, iteration, value, scratch)


@pytest.mark.parametrize(
    ("scores", "stale"),
    [([], 0), ([0.1], 0), ([0.1, 0.2], 0), ([0.2, 0.1], 1), ([0.2, 0.2, 0.1], 2), ([0.3, 0.1, 0.4], 0)],
)
def test_an_equal_score_is_no_improvement(scores: list[float], stale: int) -> None:
    assert decisions.stale_for(scores, 0.0) == stale


@given(st.lists(st.floats(0, 1), max_size=20), st.floats(0, 0.5))
def test_staleness_counts_what_followed_the_last_improvement(scores: list[float], least: float) -> None:
    stale = decisions.stale_for(scores, least)
    kept = scores[: len(scores) - stale]
    assert stale <= max(0, len(scores) - 1)
    assert decisions.stale_for(kept, least) == 0
    assert all(value <= max(kept) + least for value in scores)


def test_a_run_without_limits_decides_nothing_and_writes_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "store")
    finish_chain(run, 0, tmp_path)
    assert decisions.settle(run, run.spec, 1) == run.spec
    assert list(run.store.list(run.key("control/"))) == []


def test_a_run_ends_when_patience_does_and_its_last_checkpoint_is_scored(tmp_path: Path) -> None:
    run = patient(tmp_path, patience=2)
    train_and_score(run, [0.5, 0.4, 0.3], tmp_path)
    assert decisions.settle(run, run.spec, 2).iterations == 6
    last = decisions.settle(run, run.spec, 3)
    assert last.iterations == 3
    found = steps.pending(run, last, 3)
    assert (found["chains"], found["train"], found["next"]) == ("[]", "false", "false")
    assert found["passes"] != "[]"
    assert {unit.iteration for unit in plan(last).units if unit.node == "evaluate-test"} == {0, 1, 2, 3}


def test_with_patience_an_iteration_waits_for_the_evaluation_before_it(tmp_path: Path) -> None:
    run = patient(tmp_path)
    whole = plan(run.spec)
    (first,) = [unit for unit in whole.units if unit.id == "0001-generate-train-00000-of-00002"]
    assert "0000-evaluate-test-00000-of-00001" in {unit.id for unit in whole.after[first]}
    assert steps.pending(run, run.spec, 0)["patient"] == "true"
    finish_chain(run, 0, tmp_path)
    with pytest.raises(ArtifactError, match="0000/metrics/test is incomplete"):
        decisions.settle(run, run.spec, 1)


def test_a_doubled_plan_step_is_told_what_was_decided_first(tmp_path: Path) -> None:
    run = make_run(tmp_path / "store", stop={"max_gpu_hours": 10.0})
    finish_chain(run, 0, tmp_path, seconds=3600.0, accelerators=1)
    first = decisions.decide(run, run.spec, 1)
    finish_chain(run, 1, tmp_path, seconds=36_000.0, accelerators=8)
    assert decisions.decide(run, run.spec, 1) == first and not first.ends


def test_the_budget_counts_hours_of_generate_and_train_times_accelerators(tmp_path: Path) -> None:
    run = make_run(tmp_path / "store", stop={"max_gpu_hours": 6.0})
    finish_chain(run, 0, tmp_path, seconds=1800.0, accelerators=4)
    assert decisions.gpu_hours(run) == pytest.approx(0.5 * 4 * 3)  # two parts and the training
    assert decisions.settle(run, run.spec, 1).iterations == 1
    end = decisions.early_end(run, run.spec)
    assert end and "6.00 GPU-hours are spent" in end.reason
    found = summary.summarize(run)
    assert found["early_end"]["iteration"] == 1 and found["iterations"] == 3
    assert found["gpu_hours"] == pytest.approx(6.0)


def test_other_limits_or_more_iterations_decide_anew(tmp_path: Path) -> None:
    run = patient(tmp_path)
    train_and_score(run, [0.5, 0.4], tmp_path)
    assert decisions.settle(run, run.spec, 2).iterations == 2
    lenient = specs.override(run.spec, overrides=("stop.patience=2",), iterations=None)
    control.amend(run, lenient)
    assert decisions.effective(run, lenient) == lenient
    assert decisions.settle(run, lenient, 2).iterations == 6
    longer = specs.override(run.spec, overrides=(), iterations=9)
    assert decisions.early_end(run, longer) is None
    assert decisions.settle(run, longer, 2).iterations == 2


def test_nothing_is_decided_about_what_is_trained(tmp_path: Path) -> None:
    run = patient(tmp_path, patience=5)
    train_and_score(run, [0.5, 0.4, 0.3], tmp_path)
    strict = specs.override(run.spec, overrides=("stop.patience=1",), iterations=None)
    assert decisions.settle(run, strict, 1) == strict
    assert decisions.settle(run, strict, 3).iterations == 3


class Lagging(LocalStore):
    """A store whose listings, and the sizes it takes from them, show nothing yet."""

    def scan(self, prefix: str) -> Iterator[Entry]:
        return iter(())

    def size(self, key: str) -> int | None:
        return None


def test_what_is_trained_is_not_decided_about_for_want_of_a_listing(tmp_path: Path) -> None:
    run = patient(tmp_path, patience=5)
    train_and_score(run, [0.5, 0.4, 0.3], tmp_path)
    strict = specs.override(run.spec, overrides=("stop.patience=1",), iterations=None)
    lagging = Run(Lagging(Path(run.store.uri)), run.name)
    assert decisions.settle(lagging, strict, 2) == strict


def test_the_local_driver_ends_where_the_plan_step_would(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = patient(tmp_path)
    train_and_score(run, [0.5, 0.4], tmp_path)
    for unit in plan(run.spec).units:
        if unit.node.endswith("-test") and unit.iteration <= 2 and unit.stage != "evaluate":
            finish(run, unit, tmp_path)
    score(run, 2, 0.3, tmp_path)
    Driver(run, run.spec, PlainView(0, 0)).drive()
    assert "the run ends early: pass@1 on test did not improve" in capsys.readouterr().err
    assert steps.pending(run, decisions.settle(run, run.spec, 2), 2)["next"] == "false"
    found = summary.summarize(run)
    assert found["phase"] == "Succeeded" and found["early_end"]["iteration"] == 2


def test_the_limits_leave_the_digest_alone() -> None:
    spec = RunSpec()
    assert specs.override(spec, overrides=("stop.patience=3",), iterations=None).digest() == spec.digest()
