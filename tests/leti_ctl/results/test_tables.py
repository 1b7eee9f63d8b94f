"""The tables that people read, made from the summaries that `--json` prints."""

from __future__ import annotations

from typing import Any

import pytest

from leti_ctl.results.tables import STAGES, print_summary


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.02, "high": value + 0.02}


def make_summary(figures: dict[str, float], *, samples: int, overlong: int = 0) -> dict[str, Any]:
    """A run that only evaluated three problems."""
    score = {
        "num_problems": 3,
        "num_samples": 3 * samples,
        "num_overlong_prompts": overlong,
        "pass_at_k": {"1": interval(0.25)},
        "solve_rate": interval(0.75),
        "error_types": {},
        "figures": {name: interval(value) for name, value in figures.items()},
    }
    rates = dict.fromkeys(("loss", "tokens_per_second", "executions_per_second", "training_tokens_per_second"))
    row = {"iteration": 0, "scores": {"test": score}, "seconds": {}, "best_over_temperatures": {}, **rates}
    return {
        "run": "r", "uri": "/s/runs/r", "phase": "Succeeded", "units": {"done": 1, "total": 1}, "iterations": 0,
        "early_end": None, "gpu_hours": 0.0, "failures": [], "best": None, "max_on_test": None, "per_iteration": [row],
    }  # fmt: skip


def words(text: str) -> str:
    """The text with every run of blanks and rules as one blank."""
    return " ".join(text.replace("─", " ").split())


def test_any_right_solution_pass_at_1_and_majority_vote_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(make_summary({"majority_vote": 0.5}, samples=40))
    shown = words(capsys.readouterr().out)
    assert "any of 40 majority iteration right vote 0 75.0% ±2.0 50.0% ±2.0" in shown
    assert "25.0% ±2.0" in shown


def test_scores_of_single_groups_stay_with_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(make_summary({"lenient": 0.5, "strict": 0.25, "lenient/dates": 1.0}, samples=1))
    shown = words(capsys.readouterr().out)
    assert "iteration lenient strict 0 50.0% ±2.0 25.0% ±2.0" in shown and "dates" not in shown


def test_a_task_without_scores_of_its_own_has_no_table_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(make_summary({}, samples=40))
    shown = words(capsys.readouterr().out)
    assert "any of" not in shown and "own scores" not in shown


@pytest.mark.parametrize(("overlong", "said"), [(0, ""), (1, "1 of 3 prompts"), (2, "2 of 3 prompts")])
def test_prompts_that_leave_no_room_are_told(capsys: pytest.CaptureFixture[str], overlong: int, said: str) -> None:
    print_summary(make_summary({}, samples=1, overlong=overlong))
    shown = words(capsys.readouterr().out)
    assert said in shown and ("no room" in shown) == (overlong > 0)


def test_no_number_is_cut_off_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = make_summary({}, samples=1)
    (row,) = summary["per_iteration"]
    rates = ("tokens_per_second", "executions_per_second", "training_tokens_per_second")
    row |= dict.fromkeys(rates, 123456.0) | {"seconds": dict.fromkeys(STAGES, 1234.5)}
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    print_summary(summary)
    told = capsys.readouterr().out
    assert "…" not in told and told.count("123,456") == 3
