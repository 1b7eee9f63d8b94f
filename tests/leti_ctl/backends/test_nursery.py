"""Stages forked from the nursery are as stages of their own: logs, exit codes, signals, what `ps` shows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from leti_ctl.backends.local import nursery
from leti_ctl.backends.local.nursery import Forked, Nursery
from stages.contract.run import Run
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
LIMIT = 120.0
Start = Callable[..., Forked]


LOOK = """
import os, signal, sys, threading
print(os.environ['MARK'], os.getpid() == os.getsid(0), sys.argv[1:], __name__)
print(open('/proc/self/cmdline').read().rstrip('\\0').split('\\0')[1:], os.read(0, 1))
print(signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL, threading.active_count(), 'torch' in sys.modules)
sys.exit(7)
"""
WAIT = "import time\nprint('up', flush=True)\ntime.sleep(600)\n"


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Two modules that a nursery can start: one looks around, one waits."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "look_around.py").write_text(LOOK)
    (folder / "wait_long.py").write_text(WAIT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        yield


@pytest.fixture(scope="module")
def shared(modules: None) -> Iterator[Nursery]:
    """One nursery for all tests that leave it alive: it takes seconds to come up."""
    made = Nursery()
    yield made
    made.close()


@pytest.fixture
def start(shared: Nursery, tmp_path: Path) -> Start:
    """`start("stages.evaluate", "--run", URI, NAME="value")`; the log is `tmp_path/log`."""

    def begin(*line: str, **environment: str) -> Forked:
        (tmp_path / "log").write_bytes(b"")
        forked = shared.start(line, tmp_path / "log", {**os.environ, **environment})
        assert forked is not None
        return forked

    return begin


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_gone(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_forked_stage_does_what_one_of_its_own_does(start: Start, run: Run, tmp_path: Path) -> None:
    line = ("stages.evaluate", "--run", run.uri.replace("r1", "r2"), "--split", "test")
    forked = start(*line)
    assert forked.wait(LIMIT) == 2
    alone = subprocess.run([sys.executable, "-m", *line], cwd=ROOT, capture_output=True, text=True, check=False)
    # All but the clock that the line begins with.
    assert (tmp_path / "log").read_text()[8:] == alone.stderr[8:] and alone.returncode == 2


def test_a_forked_stage_has_its_own_environment_session_and_arguments(start: Start, tmp_path: Path) -> None:
    assert start("look_around", "--run", "x", MARK="here").wait(LIMIT) == 7
    seen = (tmp_path / "log").read_text().splitlines()
    assert seen == [
        "here True ['--run', 'x'] __main__",
        "['-m', 'look_around', '--run', 'x'] b''",
        "True 1 True",
    ]


def test_a_killed_stage_is_reported_as_killed(start: Start, tmp_path: Path) -> None:
    forked = start("wait_long")
    until(lambda: "up" in (tmp_path / "log").read_text())
    assert forked.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        forked.wait(0.1)
    os.killpg(forked.pid, signal.SIGTERM)
    assert forked.wait(LIMIT) == -signal.SIGTERM
    assert is_gone(forked.pid)


def test_what_it_forks_goes_with_the_nursery_and_counts_as_killed(modules: None, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"")
    made = Nursery()
    forked = made.start(("wait_long",), tmp_path / "log", os.environ)
    assert forked is not None and made.has_served
    until(lambda: "up" in (tmp_path / "log").read_text())
    os.kill(made._process.pid, signal.SIGKILL)
    assert forked.wait(LIMIT) == -signal.SIGKILL
    until(lambda: is_gone(forked.pid))
    assert made.start(("wait_long",), tmp_path / "log", os.environ) is None
    made.close()


def test_a_nursery_that_never_comes_up_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    made = Nursery()
    (tmp_path / "log").write_bytes(b"")
    assert made.start(("stages.evaluate", "--help"), tmp_path / "log", os.environ) is None
    assert not made.has_served
    made.close()


@pytest.mark.parametrize("wanted", ["0", "1"])
def test_the_environment_decides_whether_there_is_one(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(nursery.VARIABLE, wanted)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with nursery.kept():
        assert (nursery._nursery is not None) == (wanted == "1")
    assert nursery._nursery is None
