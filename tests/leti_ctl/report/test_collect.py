"""The report's data: complete, of the shape its description gives, true to the store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from leti_ctl.report.collect import TABLES, Depth, collect
from stages.contract.artifacts import Ref
from stages.contract.errors import UsageError
from stages.contract.records import Metrics, Sample, StepLog
from stages.contract.run import Run
from stages.contract.store import LocalStore

pytestmark = pytest.mark.slow


def _rows(data: dict[str, Any], table: str, **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in data["tables"][table] if all(row[name] == value for name, value in wanted.items())]


def test_tables_have_the_columns_that_are_told(data: dict[str, Any]) -> None:
    assert data["tables"].keys() == TABLES.keys()
    for name, rows in data["tables"].items():
        assert rows, name
        assert all(tuple(row) == TABLES[name] for row in rows), (name, tuple(rows[0]))


def test_it_is_plain_json_without_infinities(data: dict[str, Any]) -> None:
    assert json.loads(json.dumps(data, allow_nan=False)) == data


def test_scores_are_those_of_the_metrics(runs: list[Run], data: dict[str, Any]) -> None:
    for run in runs:
        for iteration in (0, 1, 2):
            metrics = next(run.read(Ref("metrics", iteration, "test"), Metrics))
            here = {"run": run.name, "iteration": iteration, "split": "test"}
            rows = {row["metric"]: row for row in _rows(data, "scores", **here)}
            told = {k: found.value for k, found in metrics.pass_at_k.items()}
            assert {k: rows[f"pass@{k}"]["value"] for k in told} == told
            assert rows["executable rate"]["low"] == metrics.executable_rate.low
            shares = [row["share"] for row in _rows(data, "outcomes", **here)]
            assert sum(shares) == pytest.approx(1)


def test_what_was_put_in_is_summed_along_the_chain(runs: list[Run], data: dict[str, Any]) -> None:
    run = runs[0]
    steps = [len(list(run.read(Ref("steps", iteration), StepLog))) for iteration in (0, 1)]
    samples = [len(list(run.read(Ref("samples", iteration, "train"), Sample))) for iteration in (0, 1)]
    rows = _rows(data, "efficiency", run=run.name, split="test", metric="pass@1")
    assert [row["steps"] for row in rows] == [0, steps[0], sum(steps)]
    assert [row["samples"] for row in rows] == [0, samples[0], sum(samples)]
    assert rows[0]["hours"] == 0 < rows[1]["hours"] < rows[2]["hours"]


def test_a_run_is_told_with_its_origin_and_state(runs: list[Run], data: dict[str, Any]) -> None:
    told = data["runs"][1]
    assert told["phase"] == "Succeeded"
    assert told["audit"]["clean"] is True
    assert told["differs"] == {"seed": 42, "build.textual_feedback": False}
    chain = told["lineage"]["checkpoints"]
    assert [each["iteration"] for each in chain] == [0, 1, 2]
    assert [each["sha256"] for each in chain] == [
        runs[1].get_index(Ref("checkpoint", number)).digest() for number in (0, 1, 2)
    ]
    assert told["preset"]["name"] and told["preset"]["changed"]["iterations"][1] == 2
    assert told["cost"]["total"]["parts"] == told["units"]["done"] == told["units"]["total"]


def test_units_lie_within_the_run_and_the_path_is_marked(data: dict[str, Any]) -> None:
    for run in data["runs"]:
        units = _rows(data, "units", run=run["run"])
        assert {row["unit"] for row in units if row["critical"]} == set(run["critical_path"]["units"])
        assert min(row["start"] for row in units) == 0
        assert max(row["end"] for row in units) == pytest.approx(run["critical_path"]["wall_seconds"])


def test_runs_that_differ_in_the_seed_are_taken_together(data: dict[str, Any]) -> None:
    assert [each["runs"] for each in data["groups"]] == [["textual-7", "textual"]]
    assert {row["seeds"] for row in data["tables"]["seeds"]} == {2}


def test_a_run_named_twice_is_refused(runs: list[Run]) -> None:
    with pytest.raises(UsageError, match="named twice"):
        collect([runs[0], runs[0]])


def test_a_run_that_has_hardly_begun_is_told_all_the_same(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "store")
    shutil.rmtree(tmp_path / "store/runs/textual/iterations")
    told = collect([Run(LocalStore(tmp_path / "store"), "textual")], Depth(audit=False))
    assert told["runs"][0]["iterations"]["scored"] == 0
    assert told["tables"]["scores"] == [] and told["metrics"] == []


def test_a_damaged_pass_is_named_and_the_others_are_told(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "store")
    folder = tmp_path / "store/runs/textual/iterations/0001/samples/test"
    victim = next(path for path in folder.iterdir() if path.suffix == ".jsonl")
    victim.write_bytes(victim.read_bytes().replace(b"return", b"retorn", 1))
    told = collect([Run(LocalStore(tmp_path / "store"), "textual")])
    (fault,) = told["runs"][0]["faults"]
    assert "iterations/0001/samples/test" in fault
    assert told["runs"][0]["audit"]["clean"] is False
    assert {row["iteration"] for row in told["tables"]["lengths"] if row["pass"] == "test"} == {0, 2}
