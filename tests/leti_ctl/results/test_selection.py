"""Which iteration and which temperature count, what they are called, and what runs of several seeds came to.

python -m pytest tests/leti_ctl/results/test_selection.py -q
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from leti_ctl.cli import cli
from leti_ctl.results import seeds, selection, summary, tables
from stages.contract.errors import UsageError
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import LocalStore
from tests.leti_ctl.parts import score


def make_run(root: Path, name: str = "r", **fields: Any) -> Run:
    run = Run(LocalStore(root), name)
    run.create(RunSpec.model_validate_json(json.dumps({"iterations": 2, **fields})))
    return run


def scored(run: Run, scratch: Path, **values: list[float]) -> Run:
    """Commit pass@1 of iterations 0, 1, ... by pass."""
    for split, each in values.items():
        for iteration, value in enumerate(each):
            score(run, iteration, value, scratch, split=split)
    return run


def test_the_result_is_the_test_score_of_the_iteration_that_validation_selects(tmp_path: Path) -> None:
    run = scored(make_run(tmp_path / "s"), tmp_path, validation=[0.1, 0.4, 0.3], test=[0.1, 0.2, 0.5])
    found = summary.summarize(run)
    assert found["best"] == {
        "iteration": 1, "selected_on": "validation", "pass@1": 0.4, "rule": "selected on validation", "test": 0.2,
    }  # fmt: skip
    assert found["max_on_test"] == {"iteration": 2, "pass@1": 0.5}
    assert tables.selected(found) == [
        "selected on validation: iteration 1 (pass@1 40.0% on validation, 20.0% on test)",
        "max on test (what the paper reports): iteration 2 (pass@1 50.0%)",
    ]


def test_a_maximum_on_test_is_called_one(tmp_path: Path) -> None:
    run = scored(make_run(tmp_path / "s", evaluate={"splits": ["test"]}), tmp_path, test=[0.1, 0.5, 0.5])
    assert tables.selected(summary.summarize(run)) == ["max on test: iteration 1 (pass@1 50.0% on test)"]


def test_before_anything_is_scored_nothing_is_selected(tmp_path: Path) -> None:
    found = summary.summarize(make_run(tmp_path / "s"))
    assert (found["best"], found["max_on_test"], tables.selected(found)) == (None, None, [])


def scores(**by_pass: dict[str, float]) -> dict[str, Any]:
    """Scores as a summary has them: values by pass and k."""
    return {
        name: {"pass_at_k": {k: {"value": value, "low": value, "high": value} for k, value in each.items()}}
        for name, each in by_pass.items()
    }


def test_each_k_has_its_own_best_temperature() -> None:
    spec = RunSpec.model_validate_json('{"evaluate": {"splits": ["test"], "temperatures": [0.2, 0.8]}}')
    row = {"scores": scores(**{"test-t0.2": {"1": 0.3, "10": 0.4}, "test-t0.8": {"1": 0.2, "10": 0.6}})}
    found = selection.over_temperatures(row, spec, "test")
    assert {k: (each["value"], each["temperature"]) for k, each in found.items()} == {"1": (0.3, 0.2), "10": (0.6, 0.8)}


def test_a_table_of_several_temperatures_says_that_it_shows_their_maximum(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "s", evaluate={"splits": ["test"], "temperatures": [0.2, 0.8], "k": [1]})
    scored(run, tmp_path, **{"test-t0.2": [0.1, 0.3], "test-t0.8": [0.2, 0.25]})
    found = summary.summarize(run)
    assert found["per_iteration"][0]["best_over_temperatures"]["test"]["1"]["temperature"] == 0.8
    tables.print_summary(found)
    shown = " ".join(capsys.readouterr().out.split())
    assert "max over temperatures" in shown and "20.0% (T 0.8)" in shown and "30.0% (T 0.2)" in shown


def test_runs_that_differ_in_their_seed_alone_belong_together(tmp_path: Path) -> None:
    root = tmp_path / "s"
    for name, fields in {"a-s43": {"seed": 43}, "a-s42": {"seed": 42}, "b": {"train": {"epochs": 2}}}.items():
        make_run(root, name, **fields)
    for seed in (43, 42):
        origin = {"from_run": f"a-s{seed}", "from_iteration": 1}
        make_run(root, f"eval-{seed}", seed=seed, iterations=0, model=origin)
    found = [[run.name for run in group.runs] for group in seeds.of_store(LocalStore(root))]
    assert found == [["a-s42", "a-s43"], ["b"], ["eval-42", "eval-43"]]
    shutil.rmtree(root / "runs/a-s42")
    found = [[run.name for run in group.runs] for group in seeds.of_store(LocalStore(root))]
    assert found == [["a-s43"], ["b"], ["eval-42"], ["eval-43"]]


def test_every_metric_has_its_mean_and_deviation_over_the_seeds(tmp_path: Path) -> None:
    root = tmp_path / "s"
    for seed, value in ((1, 0.2), (2, 0.4), (3, 0.6)):
        scored(make_run(root, f"r-s{seed}", seed=seed), tmp_path, validation=[0.1, value], test=[value, 0.1])
    (group,) = seeds.of_store(LocalStore(root))
    found = seeds.across(group)
    rows = {(row["iteration"], row["split"], row["metric"]): row for row in found["metrics"]}
    row = rows[1, "validation", "pass@1"]
    assert row["values"] == (0.2, 0.4, 0.6) and math.isclose(row["mean"], 0.4) and math.isclose(row["deviation"], 0.2)
    assert rows[0, "validation", "pass@1"]["deviation"] == 0
    assert {metric for _, _, metric in rows} >= {"solve_rate", "executable_rate", "mean_solution_tokens"}
    assert found["selected"]["iteration"]["mean"] == 1.0
    assert math.isclose(found["selected"]["pass@1 on test"]["mean"], 0.1)
    assert math.isclose(found["selected"]["pass@1 max on test"]["mean"], 0.4)


def test_runs_shows_seeds_together(tmp_path: Path) -> None:
    root = tmp_path / "s"
    for seed in (1, 2):
        scored(make_run(root, f"r-s{seed}", seed=seed), tmp_path, validation=[0.1 * seed], test=[0.5])
    line = ["runs", "--seeds", "--store", str(root)]
    shown = " ".join(CliRunner().invoke(cli, line).stdout.split())
    assert "r-s1, r-s2" in shown and "15.0% ±7.1 (n 2)" in shown
    (group,) = json.loads(CliRunner().invoke(cli, [*line, "--json"]).stdout)["groups"]
    assert group["seeds"] == [1, 2] and group["selected"]["pass@1 on validation"]["values"] == [0.1, 0.2]


@pytest.mark.parametrize("text", ["", "a", "1,", "1,1", "1,-2", str(2**31)])
def test_seeds_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--seeds"):
        seeds.parse(text)


def test_a_dry_run_of_several_seeds_is_refused(tmp_path: Path) -> None:
    line = ["submit", "--preset", "quickstart", "--seeds", "1,2", "--dry-run", "--store", str(tmp_path)]
    done = CliRunner().invoke(cli, line, standalone_mode=False)
    assert isinstance(done.exception, UsageError) and "leave --seeds out" in str(done.exception)
    assert seeds.parse("42, 43,44") == [42, 43, 44]
