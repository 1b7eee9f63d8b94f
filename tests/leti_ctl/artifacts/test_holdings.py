"""Listing, reading, fetching and comparing artifacts."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from leti_ctl.artifacts import holdings
from leti_ctl.cli import cli
from stages.contract.artifacts import Ref
from stages.contract.errors import ArtifactError, LetiError, UsageError
from stages.contract.run import Run
from stages.contract.store import open_store


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


def test_a_part_is_fetched_alone(store: Path, tmp_path: Path) -> None:
    found = artifacts(store, "get", "made", "iterations/0000/samples/train#1/2", "--out", str(tmp_path / "out"))
    (name,) = found["files"]
    assert "00001-of-00002" in name


def test_a_checkpoint_is_fetched_as_the_folder_it_was(store: Path, tmp_path: Path) -> None:
    stranger = next(store.glob("runs/made/iterations/0000/checkpoint/*/config.json")).parent
    artifacts(store, "get", "made", "iterations/0000/checkpoint", "--out", str(tmp_path / "out"))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in stranger.iterdir()}


def test_a_fetch_that_was_interrupted_goes_on_and_leaves_no_half_a_folder(bucket: str, tmp_path: Path) -> None:
    chosen = holdings.choose(Run(open_store(bucket), "made"), "iterations/0000/checkpoint")

    class Interrupted(Exception):
        """What a person who presses Ctrl-C does."""

    def interrupt(done: int, total: int) -> None:
        if done > total // 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        holdings.get(chosen, tmp_path / "out", interrupt)
    assert not (tmp_path / "out").exists()
    told: list[tuple[int, int]] = []
    files = holdings.get(chosen, tmp_path / "out", lambda done, total: told.append((done, total)))
    assert {path.name for path in files} == {item.key.rpartition("/")[2] for item in chosen.objects}
    assert told[-1][0] == told[-1][1] == sum(item.size for item in chosen.objects)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []


def test_training_rows_are_shown_with_their_verdicts(store: Path) -> None:
    rows = artifacts(store, "show", "made", "iterations/0000/examples", "--limit", "50")["rows"]
    assert {(row["outcome"], row["error_type"]) for row in rows if row["text"].startswith("<|good|>")} == {
        ("passed", None)
    }
    assert {row["outcome"] for row in rows if row["text"].startswith("<|bad|>")} == {"failed"}


def test_a_damaged_record_is_named_before_anything_is_told_of_it(run_folder: Path) -> None:
    record = run_folder / "iterations/0000/samples/train/parts/00001-of-00002.json"
    record.write_text(record.read_text().replace('"rows": 8', '"rows": 9'))
    for command, name in (
        ("show", "iterations/0000/samples/train"),
        ("ls", ""),
        ("get", "iterations/0000/samples/train"),
    ):
        out = ["--out", str(run_folder / "out")] if command == "get" else []
        with pytest.raises(ArtifactError, match=r"samples/train/parts/00001-of-00002\.json"):
            artifacts(run_folder.parents[1], command, "made", *([name] if name else []), *out)


def test_an_iteration_that_is_not_there_is_one_line(store: Path) -> None:
    with pytest.raises(UsageError, match="--iteration 9: run made has 0 to 2"):
        artifacts(store, "ls", "made", "--iteration", "9")


@pytest.mark.parametrize("name", ["nothing", "iterations/0009/samples/train", "iterations/0000/samples/train#5/9"])
def test_an_artifact_that_is_not_there_is_one_line(name: str, store: Path) -> None:
    with pytest.raises(UsageError, match="artifact '"):
        artifacts(store, "show", "made", name)


def test_rows_are_shown_from_any_row_on(store: Path) -> None:
    for name in ("iterations/0001/samples/train", "iterations/0001/samples/train#1/2", "iterations/0000/checkpoint"):
        rows = artifacts(store, "show", "made", name, "--limit", "50")["rows"]
        assert artifacts(store, "show", "made", name, "--row", "2", "--limit", "50")["rows"] == rows[2:]
    packed = artifacts(store, "show", "made", "iterations/0001/examples", "--row", "4", "--limit", "50")["rows"]
    assert {row["row"] for row in packed} == {4, 5}
    with pytest.raises(UsageError, match="--row 12: iterations/0001/samples/train has no such row"):
        artifacts(store, "show", "made", "iterations/0001/samples/train", "--row", "12")


def test_rows_are_printed_as_they_are_read(store: Path) -> None:
    run = Run(open_store(str(store)), "made")
    rows = holdings.rows(run, Ref("samples", 0, "train"), None, None)
    assert next(rows)["sample"] == 0
    (path,) = (store / "runs/made/iterations/0000/samples/train").glob("00001-of-00002-*.jsonl")
    held = path.read_bytes()
    path.unlink()  # the second part is not looked at before the first is printed
    try:
        assert [row["sample"] for _, row in zip(range(3), rows, strict=False)] == [1, 2, 3]
    finally:
        path.write_bytes(held)
