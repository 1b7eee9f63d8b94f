"""Lineage walked back to the problems and the base model, and forward to checkpoints and scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from leti_ctl.cli import cli
from stages.contract.errors import LetiError, UsageError


def trace(store: Path, *arguments: str) -> dict[str, Any]:
    line = ["trace", "made", "--store", str(store), "--json", *arguments]
    done = CliRunner().invoke(cli, line, standalone_mode=False)
    if isinstance(done.exception, LetiError):
        raise done.exception
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def sources(tree: dict[str, Any]) -> set[str]:
    """Return every ref below a tree."""
    return {tree["ref"]}.union(*(sources(each) for each in tree.get("inputs", [])))


def test_a_training_row_leads_back_to_the_problems_and_the_base_model(store: Path) -> None:
    found = trace(store, "--iteration", "1", "--row", "0")
    assert {"problem_id", "seed", "solution", "outcome", "program_sha256"} <= set(found["examples"][0])
    ancestors = sources(found["lineage"])
    assert {"iterations/0001/checkpoint", "iterations/0000/examples", "iterations/0000/checkpoint"} <= ancestors
    assert {"iterations/0000/samples/train#0/2", "problems/train", "made by a test"} <= ancestors


def test_a_sample_leads_to_the_rows_it_was_trained_in_and_the_row_back_to_it(store: Path) -> None:
    found = trace(store, "--problem", "train/1", "--sample", "2")
    assert (found["outcome"], found["error_type"]) == ("failed", "NameError")
    for row in found["training_rows"]:
        examples = trace(store, "--row", str(row))["examples"]
        assert ("train/1", 2) in {(each["problem_id"], each["sample"]) for each in examples}


def test_a_problem_leads_forward_to_checkpoints_and_scores(store: Path) -> None:
    train = trace(store, "--problem", "train/1")["became"]
    assert [(each["iteration"], each["samples"], each["passed"]) for each in train] == [(0, 4, 1), (1, 4, 1)]
    assert train[0]["trained_into"] == "iterations/0001/checkpoint"
    test = trace(store, "--problem", "test/0")["became"]
    assert [each["scored_in"] for each in test] == [f"iterations/{number:04d}/metrics/test" for number in range(3)]
    assert all(each["training_rows"] == [] for each in test)


def test_scores_lead_back_to_samples_and_executions(store: Path) -> None:
    found = trace(store, "--scores", "--iteration", "2", "--split", "test")
    assert found["metrics"]["num_samples"] == 6
    assert {"iterations/0002/samples/test", "iterations/0002/executions/test"} <= sources(found["lineage"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs one of --row"),
        (["--row", "999"], "has 7 rows, from 0"),
        (["--problem", "train/9"], "no split of the run has it"),
        (["--problem", "train/1", "--sample", "9"], "has no sample 9"),
    ],
)
def test_what_is_not_there_is_one_line(arguments: list[str], message: str, store: Path) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        trace(store, *arguments)
    assert "\n" not in str(caught.value)
