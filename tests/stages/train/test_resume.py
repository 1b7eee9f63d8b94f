"""Stopping a real training process, gently and not, and going on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch

from stages.contract.artifacts import Part, Ref
from stages.contract.run import Run
from tests.conftest import ROOT
from tests.stages.train.runs import make_run, steps_of, weights_of

pytestmark = pytest.mark.slow
StartStage = Callable[..., CompletedProcess[str]]


def start(run: Run) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-m", "stages.train", "--run", run.uri]
    return subprocess.Popen(line, cwd=ROOT, stderr=subprocess.DEVNULL)


def checkpoints(run: Run) -> list[str]:
    return [key for key in run.store.list(run.key("iterations/0000/train/")) if key.endswith("/checkpoint.json")]


def wait_for(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 200
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, "the stage ended before it could be stopped"
        time.sleep(0.02)


def whole(folder: Path, start_stage: StartStage) -> Run:
    """The same training, never interrupted."""
    folder.mkdir()
    run = make_run(folder, epochs=20)
    assert start_stage("train", run).returncode == 0
    return run


def assert_same(run: Run, uninterrupted: Run, scratch: Path) -> None:
    assert steps_of(run) == steps_of(uninterrupted)
    expected = weights_of(uninterrupted, 1, scratch)
    for name, value in weights_of(run, 1, scratch).items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.soak
def test_a_killed_stage_ends_as_if_it_had_not_been(tmp_path: Path, start_stage: StartStage) -> None:
    run = make_run(tmp_path, epochs=20, checkpoint_steps=7)
    for steps in (1, 100):
        process = start(run)
        wait_for(lambda steps=steps: [key for key in checkpoints(run) if int(key[-22:-16]) >= steps], process)
        process.kill()
        process.wait()
        assert not run.find_part(Ref("checkpoint", 1), Part())
    done = start_stage("train", run)
    assert "resuming after step" in done.stderr
    # The interval between checkpoints is part of the spec, but decides no step.
    assert_same(run, whole(tmp_path / "whole", start_stage), tmp_path)
    assert checkpoints(run) == []


def test_asked_to_stop_it_saves_first(tmp_path: Path, start_stage: StartStage) -> None:
    run = make_run(tmp_path, epochs=20, checkpoint_steps=7)
    process = start(run)
    wait_for(lambda: checkpoints(run), process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(100) == 143
    assert len(checkpoints(run)) == 1
    done = start_stage("train", run)
    assert done.returncode == 0 and "resuming after step" in done.stderr
    assert [step.step for step in steps_of(run)] == list(range(240))


def test_a_killed_launcher_leaves_no_process_behind(tmp_path: Path) -> None:
    run = make_run(tmp_path, epochs=20, checkpoint_steps=3, processes=2)
    process = start(run)
    wait_for(lambda: checkpoints(run), process)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 100
    while alive := processes_of(run):
        assert time.monotonic() < deadline, alive
        time.sleep(0.1)


def processes_of(run: Run) -> list[str]:
    """Command lines of the processes that train this run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if run.uri in line and "stages.train" in line:
                found.append(line)
    return found
