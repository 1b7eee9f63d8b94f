"""The one main of all stages: what it skips, how it ends, what it logs."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stages.contract import errors
from stages.contract.artifacts import Part, Ref
from stages.contract.errors import LetiError, ResourceError, RetryableError, UsageError, describe_os_error
from stages.contract.records import StepLog
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import LocalStore
from stages.entrypoint import Job
from tests.conftest import ROOT, StartStage
from tests.disks import small_disk
from tests.forks import Forks
from tests.stages.acting import ROWS

STEPS, OPTIMIZER, CHECKPOINT = Ref("steps", 0), Ref("optimizer", 1), Ref("checkpoint", 1)


Start = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    folder = tmp_path_factory.mktemp("forks")
    with Forks("tests.stages.acting", folder, imported=("stages.entrypoint", "stages.contract.records")) as made:
        yield made


@pytest.fixture
def start(forks: Forks) -> Start:
    """`start("commit", run, "--part", "0/1", LETI_LOG="json")` runs an acting stage to its end."""

    def run_stage(act: str, run: Run, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return forks.run([act, "--run", run.uri, *arguments], {**os.environ, **environment})

    return run_stage


def stop(act: str, run: Run, number: int, **environment: str) -> tuple[int, str]:
    """Send a signal to an acting stage that has paused; return its exit code and what it logged."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.stages.acting", act, "--run", run.uri],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "paused\n"
        process.send_signal(number)
        _, logged = process.communicate(timeout=120)
    return process.returncode, logged


def entries(logged: str) -> list[dict[str, Any]]:
    """Return the log's lines, every one of which must be a JSON object."""
    return [json.loads(line) for line in logged.splitlines()]


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("LETI_SCRATCH", str(folder))
    return folder


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    with small_disk(tmp_path / "disk", "256k") as folder:
        yield folder


def new_run(folder: Path) -> Run:
    run = Run(LocalStore(folder), "r1")
    run.create(RunSpec())
    return run


# Work, once


def test_a_unit_commits_and_is_skipped_ever_after(run: Run, scratch: Path, start: Start) -> None:
    first = start("commit", run)
    assert first.returncode == 0, first.stderr
    assert len(list(run.read(STEPS, StepLog))) == ROWS
    assert run.fetch(CHECKPOINT, scratch).joinpath("config.json").read_text() == "{}"
    record = run.find_part(STEPS, Part())
    assert record is not None
    assert record.made.counters == {"rows": ROWS}
    assert record.made.environment["python"]
    before = {key: run.store.get(key) for key in run.store.list("")}
    again = start("fail", run, ACT_ERROR="ModelError")
    assert again.returncode == 0
    assert "already done" in again.stderr
    assert [text.count("swept iterations/0001/checkpoint") for text in (first.stderr, again.stderr)] == [0, 1]
    assert {key: run.store.get(key) for key in run.store.list("")} == before
    assert list(scratch.iterdir()) == []


def test_the_image_is_written_into_the_record(run: Run, start: Start) -> None:
    start("commit", run, LETI_IMAGE="registry/leti@sha256:abc")
    record = run.find_part(STEPS, Part())
    assert record is not None
    assert record.made.environment["image"] == "registry/leti@sha256:abc"


def test_seeds_differ_by_stage_iteration_pass_and_path_but_not_by_part(run: Run) -> None:
    base = Job(run, "generate", 1, "train").seed("a")
    assert Job(run, "generate", 1, "train", Part(3, 4)).seed("a") == base
    others = [
        Job(run, "execute", 1, "train").seed("a"),
        Job(run, "generate", 2, "train").seed("a"),
        Job(run, "generate", 1, "test").seed("a"),
        Job(run, "generate", 1, "train").seed("b"),
    ]
    assert len({base, *others}) == 5


# How it ends


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("UsageError", 2),
        ("ArtifactError", 65),
        ("ModelError", 66),
        ("ResourceError", 73),
        ("RetryableError", 75),
        ("StoreError", 75),
        ("SandboxUnavailable", 75),
        ("SpecError", 78),
        ("Stopped", 143),
    ],
)
def test_an_error_is_one_line_and_its_own_exit_code(name: str, code: int, run: Run, start: Start) -> None:
    ended = start("fail", run, ACT_ERROR=name)
    assert ended.returncode == code
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.rstrip().endswith(f"train ERROR ordered {name}")


def test_every_error_has_its_code_and_only_retryable_ones_say_retry() -> None:
    members = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LetiError)]
    assert len(members) == 11
    for kind in members:
        assert (kind.exit_code == 75) == issubclass(kind, RetryableError)
        assert 0 < kind.exit_code < 256


@pytest.mark.parametrize(("error", "word"), [("MemoryError", "memory"), ("RuntimeError", "another thread")])
def test_memory_or_threads_that_ran_out_are_a_resource(run: Run, start: Start, error: str, word: str) -> None:
    ended = start("fail", run, ACT_ERROR=error)
    assert ended.returncode == 73
    assert ended.stderr.count("\n") == 1
    assert word in ended.stderr


def test_a_bug_shows_its_traceback_and_exits_with_1(run: Run, scratch: Path, start: Start) -> None:
    ended = start("fail", run, ACT_ERROR="ZeroDivisionError")
    assert ended.returncode == 1
    assert "Traceback (most recent call last)" in ended.stderr
    assert "ZeroDivisionError: a bug" in ended.stderr
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--iteration", "-1"], "--iteration"),
        (["--iteration", "x"], "--iteration"),
        (["--part", "1/1"], "write K/N with K from 0 to N-1"),
        (["--part", "0/2"], "--part '0/2': train of this run has 1 parts; write K/1"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_a_wrong_argument_is_named(arguments: list[str], message: str, run: Run, start: Start) -> None:
    ended = start("commit", run, *arguments)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_pass_the_spec_does_not_have_is_refused(run: Run, start_stage: StartStage) -> None:
    ended = start_stage("evaluate", run, "--split", "test-t0.2")
    assert ended.returncode == 2
    assert "--split 'test-t0.2': this run has train, validation, test" in ended.stderr


def test_a_run_that_is_not_there_is_a_wrong_argument(tmp_path: Path, start_stage: StartStage) -> None:
    ended = start_stage("evaluate", f"{tmp_path}/runs/none")
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "no run 'none'" in ended.stderr


def test_a_truncated_spec_is_a_broken_artifact(run: Run, start: Start) -> None:
    path = run.store.local_path(run.key("spec.json"))
    assert path is not None
    path.write_bytes(path.read_bytes()[:-30])
    ended = start("commit", run)
    assert ended.returncode == 65
    assert ended.stderr.count("\n") == 1
    assert "restore the file" in ended.stderr


def test_scratch_that_is_not_there_is_a_wrong_setting(run: Run, tmp_path: Path, start: Start) -> None:
    ended = start("commit", run, LETI_SCRATCH=str(tmp_path / "none"))
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert str(tmp_path / "none") in ended.stderr


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, ResourceError),
        (errno.EDQUOT, ResourceError),
        (errno.ENOMEM, ResourceError),
        (errno.EACCES, UsageError),
        (errno.EROFS, UsageError),
        (errno.ENOENT, UsageError),
        (errno.ENOTDIR, UsageError),
        (errno.ENAMETOOLONG, UsageError),
        (errno.EIO, RetryableError),
        (errno.ECONNRESET, RetryableError),
    ],
)
def test_an_os_error_becomes_a_member_of_the_tree(number: int, kind: type[LetiError]) -> None:
    found = describe_os_error(OSError(number, os.strerror(number), "/some/path"))
    assert type(found) is kind
    assert str(found).startswith(f"{os.strerror(number)}: /some/path")


# Stopping


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_whole_parts_and_a_second_run_goes_on(
    number: int, run: Run, scratch: Path, start: Start
) -> None:
    code, logged = stop("commit", run, number, ACT_PAUSE="1")
    assert code == 143
    assert "what is committed stays, resume goes on from there" in logged
    assert "Traceback" not in logged
    assert run.find_index(STEPS) is not None
    assert run.find_index(CHECKPOINT) is None
    assert list(scratch.iterdir()) == []
    assert start("commit", run).returncode == 0
    assert run.find_index(CHECKPOINT) is not None


def test_a_signal_in_the_middle_of_a_log_line_is_not_lost(run: Run, start: Start) -> None:
    ended = start("log", run, LETI_LOG="json")
    assert ended.returncode == 143
    assert [entry["kind"] for entry in entries(ended.stderr)] == ["Stopped"]


# No room, no right


@pytest.mark.slow
@pytest.mark.parametrize("full", ["store", "scratch"])
def test_a_full_disk_loses_nothing_and_is_gone_on_from(full: str, disk: Path, tmp_path: Path, start: Start) -> None:
    run = new_run(disk / "store" if full == "store" else tmp_path / "store")
    environment = {"LETI_SCRATCH": str(disk)} if full == "scratch" else {}
    ended = start("commit", run, **environment)
    assert ended.returncode == 73
    assert ended.stderr.count("\n") == 2  # the progress line, then the error
    assert "No space left on device" in ended.stderr
    assert "free some room" in ended.stderr
    written = [key for key in run.store.list("") if not key.startswith(run.key("environments/"))]
    assert written == [run.key("spec.json"), run.key("spec.sha256")]
    assert not list(disk.rglob(".staged-*"))
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    assert start("commit", run, **environment).returncode == 0
    assert run.find_index(CHECKPOINT) is not None


@pytest.mark.slow
def test_a_read_only_store_is_named(disk: Path, start: Start) -> None:
    run = new_run(disk / "store")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    ended = start("commit", run)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 2  # the progress line, then the error
    assert "Read-only file system" in ended.stderr
    assert str(disk) in ended.stderr


# The log


def test_a_machine_reads_one_json_object_per_line(run: Run, start: Start) -> None:
    ended = start("commit", run, LETI_LOG="json")
    found = entries(ended.stderr)
    assert [entry["event"] for entry in found] == ["progress", "committed", "committed", "committed", "done"]
    for entry in found:
        assert {"time", "level", "message"} <= entry.keys()
        assert (entry["stage"], entry["iteration"], entry["split"], entry["part"]) == ("train", 0, "train", "0/1")
    progress = found[0]
    assert (progress["done"], progress["total"], progress["unit"], progress["rows_per_second"]) == (
        ROWS,
        ROWS,
        "rows",
        3.5,
    )
    assert found[1]["rows"] == ROWS


@pytest.mark.parametrize(("name", "kind"), [("ModelError", "ModelError"), ("ZeroDivisionError", "ZeroDivisionError")])
def test_a_machine_reads_why_a_unit_failed(name: str, kind: str, run: Run, start: Start) -> None:
    (entry,) = entries(start("fail", run, ACT_ERROR=name, LETI_LOG="json").stderr)
    assert (entry["event"], entry["level"], entry["kind"]) == ("failed", "error", kind)


def test_a_person_reads_text(run: Run, start: Start) -> None:
    logged = start("commit", run).stderr.splitlines()
    assert logged[0].split(maxsplit=1)[1] == f"train INFO {ROWS} of {ROWS} rows"


def test_a_container_leaves_its_log_in_the_store(run: Run, start: Start) -> None:
    done = start("commit", run, LETI_KEEP_LOG="true")
    assert done.returncode == 0, done.stderr
    (key,) = run.store.list(run.key("logs/"))
    assert "/logs/0000-train-train-00000-of-00001." in key
    entries = [json.loads(line) for line in run.store.get(key).splitlines()]
    assert {entry["event"] for entry in entries} >= {"committed", "done"}


def test_a_failed_container_leaves_its_log_too_and_others_none(run: Run, start: Start) -> None:
    assert start("fail", run, ACT_ERROR="ArtifactError").returncode == 65
    assert list(run.store.list(run.key("logs/"))) == []
    assert start("fail", run, ACT_ERROR="ArtifactError", LETI_KEEP_LOG="true").returncode == 65
    (key,) = run.store.list(run.key("logs/"))
    assert b"ordered ArtifactError" in run.store.get(key)
