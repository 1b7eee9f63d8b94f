"""Runs that differ in nothing but the seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from leti_ctl.report import groups
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import LocalStore


def test_only_runs_that_differ_in_the_seed_alone_are_a_group(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    specs = {"b": '{"seed": 2, "iterations": 3}', "a": '{"seed": 1}', "c": '{"build": {"textual_feedback": false}}'}
    runs = [Run(store, name) for name in specs]
    for run in runs:
        run.create(RunSpec.model_validate_json(specs[run.name]))
    assert groups.group(runs) == [{"group": "b", "runs": ["a", "b"], "seeds": [1, 2]}]


def test_mean_and_deviation_are_over_the_runs_of_a_group() -> None:
    place = {"iteration": 1, "pass": "test", "split": "test", "metric": "pass@1", "k": 1}
    scores = [{"run": name, "value": value, **place} for name, value in (("a", 0.2), ("b", 0.4), ("x", 0.9))]
    (row,) = groups.rows([{"group": "a", "runs": ["a", "b"], "seeds": [1, 2]}], scores)
    assert row == {"group": "a", **place, "mean": pytest.approx(0.3), "sd": pytest.approx(0.1414213562), "seeds": 2}
