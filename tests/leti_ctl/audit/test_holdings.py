"""Listing, reading, fetching and comparing artifacts."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from leti_ctl.cli import cli
from stages.contract.errors import ArtifactError, LetiError, UsageError


def artifacts(store: Path, command: str, *arguments: str) -> dict[str, Any]:
    line = ["artifacts", command, *arguments, "--store", str(store), "--json"]
    done = CliRunner().invoke(cli, line, standalone_mode=False)
    if isinstance(done.exception, LetiError):
        raise done.exception
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_artifact_is_listed_with_its_size(store: Path) -> None:
    rows = {row["artifact"]: row for row in artifacts(store, "ls", "made")["artifacts"]}
    samples = rows["iterations/0001/samples/train"]
    assert (samples["parts"], samples["rows"], samples["objects"]) == ("2/2", 12, 2)
    assert len(rows) == 26
    only = artifacts(store, "ls", "made", "--iteration", "2")["artifacts"]
    assert {row["artifact"].split("/")[1] for row in only} == {"0002"}


def test_training_rows_are_read_as_the_text_the_model_sees(store: Path) -> None:
    rows = artifacts(store, "show", "made", "iterations/0001/examples", "--limit", "50")["rows"]
    texts = {(row["problem_id"], row["sample"]): row["text"] for row in rows}
    assert texts["train/1", 0] == "<|good|>def f1(x):\n    return x + 1\n"
    assert texts["train/1", 2].startswith("<|bad|><|text_feedback|>Traceback")
    assert texts["train/1", 2].endswith("<|/text_feedback|>def f1(x):\n    return undefined\n")


def test_rows_of_one_part_and_files_of_a_checkpoint_are_shown(store: Path) -> None:
    rows = artifacts(store, "show", "made", "iterations/0000/executions/train#1/2", "--limit", "50")["rows"]
    assert {row["problem_id"] for row in rows} == {"train/1", "train/2"}
    files = artifacts(store, "show", "made", "iterations/0000/checkpoint")["rows"]
    assert "model.safetensors" in {row["file"].rpartition("/")[2] for row in files}


def test_fetched_files_are_the_stored_ones_or_none(store: Path, tmp_path: Path) -> None:
    found = artifacts(store, "get", "made", "iterations/0000/samples/train", "--out", str(tmp_path / "out"))
    for name in found["files"]:
        assert hashlib.sha256(Path(name).read_bytes()).hexdigest() in name
    shutil.copytree(store, tmp_path / "damaged")
    next((tmp_path / "damaged").glob("runs/made/iterations/0000/samples/train/*.jsonl")).write_text("{}")
    with pytest.raises(ArtifactError, match="SHA-256"):
        artifacts(
            tmp_path / "damaged", "get", "made", "iterations/0000/samples/train", "--out", str(tmp_path / "other")
        )
    assert not (tmp_path / "other").exists()


def test_a_run_differs_from_itself_in_nothing(store: Path) -> None:
    found = artifacts(store, "diff", "made", "made")
    assert (found["spec"], found["different"], len(found["equal"])) == ([], [], 26)


def test_iterations_are_compared_by_their_data(store: Path) -> None:
    found = artifacts(store, "diff", "made", "--iterations", "0", "1")
    assert {"checkpoint", "samples/train"} <= set(found["different"])
    assert "executions/train" in found["equal"]
    assert {row["pass"] for row in found["scores"]} == {
        "test pass@1", "test pass@2", "train pass@1", "train pass@2"
    }  # fmt: skip


@pytest.mark.parametrize("name", ["nothing", "iterations/0009/samples/train", "iterations/0000/samples/train#5/9"])
def test_an_artifact_that_is_not_there_is_one_line(name: str, store: Path) -> None:
    with pytest.raises(UsageError, match="artifact '"):
        artifacts(store, "show", "made", name)
