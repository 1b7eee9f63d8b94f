"""A whole run on a server that is not ours, calm and again with all that can be killed or held up, the server's own
processes among it: `make interop`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from stages.contract.errors import StoreError
from stages.contract.run import Run
from stages.contract.store import open_store
from stages.contract.store.s3 import S3Store
from tests.interop.ceph import Ceph
from tests.test_loop import fingerprints, leti_ctl, stage_processes, weights, workplace

__all__ = ["workplace"]
pytestmark = [pytest.mark.interop, pytest.mark.timeout(1500)]
PATIENT = 400


def ask(home: Path, uri: str, *words: str, code: int = 0) -> str:
    """Return what a command prints that is to end with `code`."""
    done = leti_ctl(*words, "--store", uri, cwd=home, timeout=PATIENT)
    assert done.returncode == code, done.stderr
    return done.stdout


def copied(uri: str, name: str, folder: Path) -> Path:
    """Copy a run, object by object; return its folder."""
    store = open_store(uri)
    for key in store.list(Run(store, name).key("")):
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.get(key))
    if isinstance(store, S3Store):
        store.client.close()
    return folder / "runs" / name


def check(home: Path, uri: str, name: str, folder: Path) -> Path:
    """Hold a finished run against all that can be asked of it; return the folder with its copy."""
    report = json.loads(ask(home, uri, "audit", name, "--deep", "--json"))
    assert report["errors"] == 0
    copy = copied(uri, name, folder)
    assert ask(home, str(folder), "audit", name, "--expect", report["digest"])
    assert "verified" in ask(home, uri, "trace", name, "--iteration", "1", "--row", "0")
    assert "checkpoint" in ask(home, uri, "artifacts", "ls", name)
    ask(home, uri, "export", name, "--iteration", "last", "--out", str(folder / "exported"))
    assert list((folder / "exported").glob("*.safetensors"))
    ask(home, uri, "gc", name, "--delete")
    assert json.loads(ask(home, uri, "audit", name, "--deep", "--json"))["digest"] == report["digest"]
    return copy


@pytest.fixture
def finished(workplace: Path, foreign: str, tmp_path: Path) -> Path:
    """The run, undisturbed, and checked; its folder in a copy of the store."""
    ask(workplace, foreign, "submit", "-f", "run.yaml", "--name", "calm")
    return check(workplace, foreign, "calm", tmp_path / "calm")


def test_a_calm_run_is_as_in_a_folder(workplace: Path, finished: Path) -> None:
    ask(workplace, "store", "submit", "-f", "run.yaml", "--name", "calm")
    assert fingerprints(finished) == fingerprints(workplace / "store" / "runs" / "calm")


def make_trouble(ceph: Ceph, chance: random.Random, is_over: Callable[[], bool]) -> list[str]:
    """Kill the gateway or the OSD, or hold it up for longer than a request is waited for, now and then."""
    made = []
    while not is_over():
        made.append(chance.choice(["gateway killed", "OSD killed", "OSD held up"]))
        daemon = "radosgw" if "gateway" in made[-1] else "osd"
        ceph.send(daemon, signal.SIGSTOP if "held" in made[-1] else signal.SIGKILL)
        time.sleep(chance.uniform(1, 9))
        if "held" in made[-1]:
            ceph.send(daemon, signal.SIGCONT)
        else:
            ceph.start(daemon)
        ceph.wait()
        time.sleep(chance.uniform(10, 25))
    return made


def drive(home: Path, uri: str, run: str, chance: random.Random) -> int:
    """Start and resume a run, and kill its driver or one of its stages now and then; return how many were killed."""
    killed, command = 0, [sys.executable, "-m", "leti_ctl"]
    for _ in range(4):
        is_new = not is_there(uri, "runs/killed/spec.json")
        words = ["submit", "-f", "run.yaml", "--name", "killed"] if is_new else ["resume", "killed"]
        with open(home / "drivers.log", "a") as log:
            driver = subprocess.Popen([*command, *words, "--store", uri], cwd=home, stdout=log, stderr=log)
        while not has_ended(driver, chance.uniform(10, 40)):
            with suppress(ProcessLookupError):
                os.kill(chance.choice([*stage_processes(run), driver.pid]), signal.SIGKILL)
                killed += 1
    return killed


def is_there(uri: str, key: str) -> bool:
    """Return whether an object is, however long the server takes to say so."""
    while True:
        with suppress(StoreError):
            return open_store(uri).size(key) is not None


def has_ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.poll() is not None


def test_killing_the_run_and_the_server_changes_nothing(
    ceph: Ceph, workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Shorter than the OSD is held up: requests are sent again while the first are still to be carried out.
    uri = f"s3://{ceph.make_bucket()}/leti?endpoint_url={ceph.url}&timeout=5"
    ask(workplace, uri, "submit", "-f", "run.yaml", "--name", "calm")
    calm = copied(uri, "calm", tmp_path / "calm")
    run = Run(open_store(uri), "killed").uri
    with ThreadPoolExecutor(1) as pool:
        driving = pool.submit(drive, workplace, uri, run, random.Random(20261))
        # In this thread: with the thread that starts them, daemons end.
        troubles = make_trouble(ceph, random.Random(20262), driving.done)
    print((workplace / "drivers.log").read_text())
    ask(workplace, uri, "resume", "killed")
    with capsys.disabled():
        print(f" {driving.result()} processes killed; {', '.join(troubles)}", end="")
    found = check(workplace, uri, "killed", tmp_path / "killed")
    assert driving.result() >= 3 and len(troubles) >= 3
    assert fingerprints(found) == fingerprints(calm)
    for name, value in weights(found, 2).items():
        assert (value == weights(calm, 2)[name]).all()
    ask(workplace, uri, "artifacts", "diff", "calm", "killed")
    assert stage_processes(run) == []
