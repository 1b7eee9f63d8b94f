"""What a report says first: a selected model's scores apart from the maximum on test, which the paper reports."""

from __future__ import annotations

import re
from typing import Any

import pytest

from leti_ctl.report.sections import comparison, tiles


def make_run(selected_on: str, *, name: str = "mine", preset: str | None = None, planned: int = 9) -> dict[str, Any]:
    """A run with the best validation score at iteration 2 (20 % on test), and the best on test at 3 (25 %)."""
    best = {"validation": (2, 0.30, 0.20), "test": (3, 0.25, 0.25)}[selected_on]
    return {
        "run": name,
        "color": 0,
        "best": {"iteration": best[0], "selected_on": selected_on, "pass@1": best[1], "test": best[2]},
        "max_on_test": {"iteration": 3, "pass@1": 0.25},
        "preset": {"name": preset, "changed": {}},
        "iterations": {"planned": planned, "scored": 10},
        "critical_path": {"wall_seconds": 60.0, "units": []},
        "cost": {"bytes": 0, "dollars": None, "total": {"accelerator_hours": 1.0}},
        "audit": None,
        "differs": {},
    }


def make_data(*runs: dict[str, Any]) -> dict[str, Any]:
    scores = {"validation": [0.1, 0.2, 0.3, 0.2], "test": [0.05, 0.1, 0.2, 0.25]}
    rows = [
        {"run": run["run"], "split": split, "metric": "pass@1", "iteration": number, "value": value,
         "low": value - 0.02, "high": value + 0.02}
        for run in runs for split, values in scores.items() for number, value in enumerate(values)
    ]  # fmt: skip
    return {"tables": {"scores": rows, "outcomes": []}}


def shown(run: dict[str, Any]) -> dict[str, str]:
    """Tiles by title: value and note."""
    found = re.findall(r"<dt>(.*?)</dt><dd[^>]*>(.*?)</dd><dd[^>]*>(.*?)</dd>", str(tiles(run, make_data(run))))
    return {title: f"{value}; {re.sub('<[^>]*>', '', note)}" for title, value, note in found}


def test_a_model_selected_on_validation_has_its_test_score_apart_from_the_maximum() -> None:
    found = shown(make_run("validation"))
    assert found["Best pass@1 on validation"].startswith("30.0%;")
    assert found["pass@1 on test"] == "20.0%; of the model selected on validation"
    assert found["Max pass@1 on test"] == "25.0%; at iteration 3; what the paper reports"


def test_a_maximum_on_test_is_called_one() -> None:
    found = shown(make_run("test"))
    assert found["Max pass@1 on test"].startswith("25.0%;")
    assert not {"Best pass@1 on test", "pass@1 on test"} & set(found)


def test_a_run_that_only_evaluates_selects_nothing() -> None:
    found = shown(make_run("test", planned=0))
    assert found["pass@1 on test"].startswith("25.0%;") and "Max pass@1 on test" not in found


def test_the_papers_maximum_is_called_one() -> None:
    found = shown(make_run("validation", preset="leti-2b"))
    assert found["Paper, max on test, pass@1"].startswith("28.0%;")


@pytest.mark.parametrize(
    ("selected_on", "preset", "heads"),
    [
        ("validation", "leti-2b", ["best pass@1 on validation", "at", "on test", "max on test", "paper, max on test"]),
        ("validation", None, ["best pass@1 on validation", "at", "on test", "max on test"]),
        ("test", None, ["max pass@1 on test", "at"]),
    ],
)
def test_runs_beside_each_other_have_both_too(selected_on: str, preset: str | None, heads: list[str]) -> None:
    runs = [make_run(selected_on, name=name, preset=preset) for name in ("one", "two")]
    text = str(comparison(runs, make_data(*runs)))
    found = [re.sub("<[^>]*>", "", head) for head in re.findall(r"<th[^>]*>(.*?)</th>", text)]
    assert [head for head in found if "test" in head or "validation" in head or head == "at"] == heads
    first = re.findall(r"<td[^>]*>(.*?)</td>", text.partition("<tbody>")[2])[: len(found)]
    told = dict(zip(found, (re.sub("<[^>]*>", "", cell) for cell in first), strict=False))
    if selected_on == "validation":
        assert (told["on test"], told["max on test"]) == ("20.0%", "25.0%")
