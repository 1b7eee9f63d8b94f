"""A command that is asked to end says so in one line, and what to do, whenever that comes."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from leti_ctl import ending
from leti_ctl.backends.local.drive import work
from stages.contract.errors import Stopped
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import Entry, LocalStore
from tests.conftest import ROOT

LIMIT = 120
ASKED = {signal.SIGTERM: ("asked to stop", 143), signal.SIGINT: ("interrupted", 130)}


def start(*arguments: str, path: Path = ROOT) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), str(ROOT)])}
    command = [sys.executable, "-m", "leti_ctl", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LIMIT)
        yield listener


@pytest.mark.parametrize("number", ASKED, ids=["SIGTERM", "SIGINT"])
def test_a_command_that_is_asked_to_end_during_its_imports_says_so(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "click.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(600)\n")
    with start("resume", "any", path=tmp_path) as process:
        assert process.stdout is not None and process.stdout.readline() == "importing\n"
        process.send_signal(number)
        _, told = process.communicate(timeout=LIMIT)
    what, code = ASKED[number]
    assert (told, process.returncode) == (f"leti-ctl: {what}; run the command again\n", code)


@pytest.mark.parametrize("number", ASKED, ids=["SIGTERM", "SIGINT"])
def test_a_command_that_is_asked_to_end_while_it_looks_for_its_run_says_so(
    silent: socket.socket, number: signal.Signals
) -> None:
    store = f"s3://bucket/leti?endpoint_url=http://127.0.0.1:{silent.getsockname()[1]}"
    with start("resume", "any", "--store", store, "--json") as process, silent.accept()[0]:
        process.send_signal(number)
        said, told = process.communicate(timeout=LIMIT)
    what, code = ASKED[number]
    line = f"{what}; run the command again"
    assert (told.strip(), process.returncode) == (f"leti-ctl: {line}", code)
    assert json.loads(said) == {"error": {"kind": "Stopped", "message": line, "exit_code": code}}


class Impatient(LocalStore):
    """Asks this process to stop as soon as somebody looks what there is."""

    def scan(self, prefix: str) -> Iterator[Entry]:
        signal.raise_signal(signal.SIGTERM)
        return super().scan(prefix)


def test_a_run_that_was_begun_is_gone_on_with(tmp_path: Path) -> None:
    Run(LocalStore(tmp_path), "r").create(RunSpec())
    run = Run(Impatient(tmp_path), "r")
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        ending.listen()
        with pytest.raises(Stopped) as stopped:
            work(run, RunSpec.model_validate({"execute": {"sandbox": "process"}}), why="of a test")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert str(stopped.value).startswith("asked to stop; ")
    assert shlex.split(str(stopped.value).split("`")[1]) == ["leti-ctl", "resume", "r", "--store", run.store.uri]


def test_who_ignores_the_signal_goes_on_ignoring_it() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        ending.listen()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
