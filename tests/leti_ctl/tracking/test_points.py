"""The numbers of a run: each once, named so that any tracker takes it, and the same whenever they are asked for."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leti_ctl.tracking.card import describe, flatten
from leti_ctl.tracking.points import MOST_TYPES, Point, _shares, clean, points
from stages.contract.records import Metrics
from stages.contract.run import Run
from tests.leti_ctl.tracking.runs import STEPS, _metrics, grow, make_run


@pytest.fixture
def finished(tmp_path: Path) -> Run:
    run = make_run(tmp_path / "store")
    grow(run, tmp_path / "scratch", 3)
    return run


def by_place(found: list[Point]) -> dict[tuple[str, int], float]:
    return {(each.name, each.step): each.value for each in found}


def test_every_point_is_one_number_of_its_own_with_a_name_for_all_trackers(finished: Run) -> None:
    found = list(points(finished))
    assert len(by_place(found)) == len(found)
    for each in found:
        assert re.fullmatch(r"[\w.-]+(/[\w.-]+)*", each.name) and len(each.name) < 250
        assert math.isfinite(each.value) and each.at > 1e9


def test_scores_losses_and_speeds_are_told_with_their_intervals(finished: Run) -> None:
    told = by_place(list(points(finished)))
    assert told["test/pass_at_1", 2] == pytest.approx(0.3)
    assert told["test/pass_at_10_low", 0] == pytest.approx(0.05) and told["train/solve_rate_high", 1] == 0.25
    assert told["test/figures/strict", 1] == 0.2
    assert told["test/eos_rate", 0] == 0.75 and told["test/infra_errors", 0] == 1
    assert [told["loss/fcft", step] for step in range(2 * STEPS)] == pytest.approx([3.0, 2.9, 2.8, 2.0, 1.9, 1.8])
    assert told["seconds/train", 0] == 30.0 and told["gpu_hours", 2] == 0


def test_shares_are_of_the_judged_samples_and_fall_to_zero_instead_of_ending(finished: Run) -> None:
    told = by_place(list(points(finished)))
    assert [told["test/errors/NameError", iteration] for iteration in range(3)] == [0.4, 0, 0.1]
    assert [told.get(("test/errors/AssertionError", iteration)) for iteration in range(3)] == [None, 0.2, 0]
    assert told["test/errors/Bad_Name__x_", 0] == 0.1
    assert told["test/outcomes/passed", 0] == 0.5


def test_a_run_that_goes_on_only_adds_points(tmp_path: Path) -> None:
    run = make_run(tmp_path / "store")
    before: set[Point] = set()
    for iterations in range(1, 4):
        grow(run, tmp_path / "scratch", iterations)
        now = set(points(run))
        assert before < now
        before = now


def test_candidates_cannot_flood_a_tracker_with_classes() -> None:
    row = _metrics(0, "test").model_dump()
    many = Metrics.model_validate({**row, "error_types": {f"E{n:03}": 1 for n in range(100)}, "num_samples": 201})
    told: dict[str, set[str]] = {"errors": set(), "outcomes": set()}
    first, second = _shares(many, told), _shares(_metrics(1, "test"), told)
    assert len([name for name in first if name.startswith("errors/")]) == MOST_TYPES + 1
    assert first["errors/other"] == pytest.approx((100 - MOST_TYPES) / 200)
    assert second["errors/other"] == 0


@given(st.text())
def test_any_name_becomes_one_that_trackers_take(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", clean(name))


def test_the_card_names_the_run_its_spec_and_its_best_checkpoint(finished: Run) -> None:
    card = describe(finished)
    assert card.phase == "Succeeded" and card.params["train.learning_rate"] == 1e-5
    assert card.params["model.revision"] == "null" and card.params["evaluate.k"] == "[1, 10]"
    assert "iterations" not in card.params and card.tags["leti.iterations"] == "2"
    assert card.tags["leti.best_checkpoint"] == "iterations/0002/checkpoint"
    assert card.tags["leti.images"] == "i@sha" and card.tags["leti.uri"] == finished.uri
    assert '"iterations/0002/executions/test"' in card.documents["artifacts.json"]


def test_flattened_data_has_one_entry_per_leaf() -> None:
    assert flatten({"a": {"b": 1, "c": [1, None]}, "d": None, "e": True}) == {
        "a.b": 1, "a.c": "[1, null]", "d": "null", "e": True,
    }  # fmt: skip
