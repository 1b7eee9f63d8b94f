"""Collecting garbage and exporting checkpoints: what goes, what stays, and that an audit knows the difference."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from leti_ctl.artifacts import garbage
from leti_ctl.audit.report import audit
from leti_ctl.cli import cli
from leti_ctl.inventory.catalog import Catalog
from stages.contract.artifacts import Part
from stages.contract.errors import ArtifactError, LetiError, UsageError
from stages.contract.records import write_rows
from stages.contract.run import Commit, Run
from stages.contract.spec import RunSpec
from stages.contract.store import Entry, LocalStore
from stages.contract.store.s3 import S3Store
from tests.s3 import Fault, S3Server
from tests.stages.contract.parts import MADE, PROBLEMS, problem


def leti_ctl(run_folder: Path, command: str, *arguments: str) -> dict[str, Any]:
    line = [command, "made", "--store", str(run_folder.parents[1]), "--json", *arguments]
    done = CliRunner().invoke(cli, line, standalone_mode=False)
    if isinstance(done.exception, LetiError):
        raise done.exception
    assert done.exit_code == 0, done.exception
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def is_clean(run_folder: Path) -> bool:
    return audit(Run(LocalStore(run_folder.parents[1]), "made")).clean


def weights(run_folder: Path) -> set[int]:
    return {int(path.parents[2].name) for path in run_folder.glob("iterations/*/checkpoint/*/model.safetensors")}


def orphan(run_folder: Path, *, hours: float) -> Path:
    path = run_folder / f"iterations/0001/samples/train/00000-of-00002-{'b' * 64}.jsonl"
    path.write_text("left by a killed writer")
    then = time.time() - hours * 3600
    os.utime(path, (then, then))
    return path


def test_nothing_is_removed_without_delete(run_folder: Path) -> None:
    old = orphan(run_folder, hours=48)
    found = leti_ctl(run_folder, "gc")
    assert found["orphans"] == [str(old.relative_to(run_folder))]
    assert len(found["superseded"]) == 1
    assert old.exists()
    assert weights(run_folder) == {0, 1, 2}


def test_old_orphans_and_superseded_weights_go_and_the_audit_knows(run_folder: Path) -> None:
    old = orphan(run_folder, hours=48)
    leti_ctl(run_folder, "gc", "--delete", "--no-best")
    assert not old.exists()
    assert weights(run_folder) == {2}
    assert list(run_folder.glob("iterations/0000/checkpoint/*/tokenizer.json"))
    assert is_clean(run_folder)


def test_what_a_killed_writer_left_half_written_goes_when_it_is_old(run_folder: Path) -> None:
    now, found = time.time(), []
    for hours in (48, 1):
        path = run_folder / f"iterations/0001/samples/train/.staged-{hours}"
        path.write_text("half a sam")
        os.utime(path, (now - hours * 3600, now - hours * 3600))
        found.append(path)
    assert leti_ctl(run_folder, "gc")["unfinished"] == ["iterations/0001/samples/train"]
    leti_ctl(run_folder, "gc", "--delete")
    assert [path.exists() for path in found] == [False, True]


def test_what_a_training_went_on_from_goes_once_it_is_done(run_folder: Path) -> None:
    then, found = time.time() - 48 * 3600, []
    for iteration in (1, 2):  # of two: the third is not trained
        path = run_folder / f"iterations/{iteration:04d}/train/step-000002/checkpoint.json"
        path.parent.mkdir(parents=True)
        path.write_text("{}")
        os.utime(path, (then, then))
        found.append(path)
    assert leti_ctl(run_folder, "gc", "--delete")["orphans"] == [str(found[0].relative_to(run_folder))]
    assert [path.exists() for path in found] == [False, True]


def test_an_upload_that_was_never_completed_is_aborted(s3_uri: str) -> None:
    store = S3Store(s3_uri)
    run = Run(store, "made")
    run.create(RunSpec(iterations=2))
    key = run.key("iterations/0001/checkpoint/abc/model.safetensors")
    store.client.create_multipart_upload(Bucket=store.bucket, Key=f"leti/{key}")
    store.client.create_multipart_upload(Bucket=store.bucket, Key="leti/runs/other/object")
    retention = garbage.Retention()  # moto says of every upload that it began in 2010
    found = garbage.find(Catalog(run), retention)
    assert [each.key for each in found.leftovers] == [key]
    assert garbage.collect(run, retention) == found
    left = store.client.list_multipart_uploads(Bucket=store.bucket)["Uploads"]
    assert [each["Key"] for each in left] == ["leti/runs/other/object"]
    store.client.close()


def test_a_policy_that_forbids_listing_uploads_keeps_nothing_else_from_being_collected(
    run_folder: Path, s3_server: S3Server, s3_uri: str
) -> None:
    store = S3Store(s3_uri)
    for path in run_folder.rglob("*"):
        if path.is_file():
            store.upload(f"runs/made/{path.relative_to(run_folder)}", path)
    s3_server.faults.append(Fault("GET", "uploads", "403 Forbidden", "AccessDenied"))
    line = ["gc", "made", "--store", s3_uri, "--no-best", "--delete"]
    done = CliRunner().invoke(cli, line, standalone_mode=False)
    assert done.exit_code == 0, done.exception
    assert "which could not be listed: store s3://" in done.stdout and "AccessDenied" in done.stdout
    left = [key for key in store.list("runs/made/") if key.endswith("model.safetensors")]
    assert [key.split("/")[3] for key in left] == ["0002"]
    store.client.close()


def test_young_orphans_stay_because_their_writer_may_be_about_to_commit(run_folder: Path) -> None:
    young = orphan(run_folder, hours=1)
    leti_ctl(run_folder, "gc", "--delete")
    assert young.exists()


def test_every_kth_checkpoint_stays(run_folder: Path) -> None:
    leti_ctl(run_folder, "gc", "--delete", "--no-best", "--every", "1")
    assert weights(run_folder) == {0, 1, 2}


def test_what_unfinished_work_reads_stays(run_folder: Path) -> None:
    shutil.rmtree(run_folder / "iterations/0001/samples/test")
    for name in ("executions", "metrics"):
        shutil.rmtree(run_folder / f"iterations/0001/{name}/test")
    leti_ctl(run_folder, "gc", "--delete", "--no-best")
    assert weights(run_folder) == {1, 2}


def test_weights_lost_otherwise_are_still_an_error(run_folder: Path) -> None:
    leti_ctl(run_folder, "gc", "--delete", "--no-best")
    next(run_folder.glob("iterations/0002/checkpoint/*/model.safetensors")).unlink()
    assert not is_clean(run_folder)


def test_a_collection_that_was_edited_is_found(run_folder: Path) -> None:
    leti_ctl(run_folder, "gc", "--delete", "--no-best")
    written = next((run_folder / "gc").iterdir())
    written.write_text(written.read_text().replace("0001", "0002"))
    report = audit(Run(LocalStore(run_folder.parents[1]), run_folder.name))
    assert report.findings[0][:2] == ("record", f"gc/{written.name}")
    assert "name holds its SHA-256" in report.findings[0].found


def test_an_export_is_a_model_folder_that_says_where_it_comes_from(run_folder: Path, tmp_path: Path) -> None:
    found = leti_ctl(run_folder, "export", "--iteration", "last", "--out", str(tmp_path / "out"))
    assert found["iteration"] == 2
    out = tmp_path / "out"
    assert {"config.json", "tokenizer.json", "model.safetensors", "README.md", "leti-lineage.json"} <= {
        path.name for path in out.iterdir()
    }
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o644}
    card = (out / "README.md").read_text()
    assert "base_model: HuggingFaceTB/SmolLM2-135M-Instruct" in card
    assert "| 2 (this) |" in card
    assert json.loads((out / "leti-lineage.json").read_text())["ref"] == "iterations/0002/checkpoint"


def test_the_card_of_what_a_run_began_with_claims_no_training(run_folder: Path, tmp_path: Path) -> None:
    leti_ctl(run_folder, "export", "--iteration", "0", "--out", str(tmp_path / "out"))
    card = (tmp_path / "out/README.md").read_text()
    assert "nothing is trained yet" in card and "Fine-tuned" not in card and "Prompts of training" not in card


def test_an_export_never_writes_over_anything_and_verifies_what_it_copies(run_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(UsageError, match="exists"):
        leti_ctl(run_folder, "export", "--iteration", "last", "--out", str(out))
    weights = next(run_folder.glob("iterations/0002/checkpoint/*/model.safetensors"))
    weights.write_bytes(b"x" * weights.stat().st_size)
    with pytest.raises(ArtifactError, match="SHA-256"):
        leti_ctl(run_folder, "export", "--iteration", "last", "--out", str(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("wanted", ["7", "newest"])
def test_a_checkpoint_that_is_not_there_is_named_with_those_that_are(wanted: str, run_folder: Path) -> None:
    with pytest.raises(UsageError, match="write best, last or one of 0, 1, 2"):
        leti_ctl(run_folder, "export", "--iteration", wanted, "--out", "nowhere")


class Watched(LocalStore):
    """A folder that calls somebody before each operation."""

    def __init__(self, root: Path, before: Callable[[str, str], None]) -> None:
        super().__init__(root)
        self.before = before

    def stream(self, key: str) -> Iterator[bytes]:
        self.before("get", key)
        return super().stream(key)

    def get(self, key: str) -> bytes:
        self.before("get", key)
        return super().get(key)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self.before("put_if_absent", key)
        return super().put_if_absent(key, data)

    def scan(self, prefix: str) -> Iterator[Entry]:
        self.before("scan", prefix)
        return super().scan(prefix)

    def size(self, key: str) -> int | None:
        self.before("size", key)
        return super().size(key)

    def delete(self, key: str) -> None:
        self.before("delete", key)
        super().delete(key)


def collect_and_die(root: Path, writes: int) -> bool:
    """Collect in a process that is killed before its next write after so many; return whether it was."""
    if child := os.fork():
        return os.waitpid(child, 0)[1] != 0
    left = itertools.count(writes, -1)

    def before(verb: str, _: str) -> None:
        if verb in ("put_if_absent", "delete") and not next(left):
            os._exit(9)

    garbage.collect(Run(Watched(root, before), "made"), garbage.Retention(best=False))
    os._exit(0)


@pytest.mark.slow
def test_a_collection_that_is_killed_before_any_write_leaves_a_clean_run_and_another_ends_it(
    run_folder: Path, tmp_path: Path
) -> None:
    orphan(run_folder, hours=48)
    for writes in itertools.count():
        copy = tmp_path / str(writes) / "runs/made"
        shutil.copytree(run_folder, copy)
        run = Run(LocalStore(copy.parents[1]), "made")
        was_killed = collect_and_die(copy.parents[1], writes)
        assert audit(run).clean
        garbage.collect(run, garbage.Retention(best=False))
        assert audit(run).clean and Catalog(run).orphans() == [] and weights(copy) == {2}
        if not was_killed:
            break
    assert writes > 5


def test_what_is_made_again_past_every_claim_stays_but_for_one_round_trip(tmp_path: Path) -> None:
    """A writer uploads at any moment of a collection, and commits after it."""
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(b"".join(write_rows([problem(1)])))
    for turn in itertools.count():
        run = Run(LocalStore(tmp_path / str(turn)), "r")
        run.create(RunSpec(iterations=1))
        (item,) = run.commit(Commit(PROBLEMS, Part(), {rows: 1}, (), seed=7, made=MADE)).objects
        key, record = run.key(item.key), run.key(f"problems/train/parts/{Part().stem}.json")
        text = run.store.get(record)
        for written in (record, run.key("problems/train/index.json")):
            run.store.delete(written)
        data = tmp_path / str(turn) / key
        os.utime(data, (0, 0))
        asked = collect_while(tmp_path / str(turn), turn, partial(run.store.upload, key, rows))
        if turn >= len(asked):
            break
        run.store.put_if_absent(record, text)
        assert data.exists() != (asked[turn] == ("delete", key))
    assert turn > 15 and ("delete", key) in asked and not data.exists()


def collect_while(root: Path, turn: int, act: Callable[[], None]) -> list[tuple[str, str]]:
    """Collect, with something that another does before one operation; return all operations."""
    asked: list[tuple[str, str]] = []

    def before(verb: str, key: str) -> None:
        asked.append((verb, key))
        if len(asked) == turn + 1:
            act()

    garbage.collect(Run(Watched(root, before), "r"), garbage.Retention(best=False))
    return asked
