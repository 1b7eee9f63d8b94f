"""The commit protocol among real processes, on a server that is not ours: `make interop`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from leti_ctl import control
from stages.contract.artifacts import Part, Ref
from stages.contract.records import Problem
from stages.contract.run import Run
from stages.contract.store import Store, open_store
from tests.conftest import ROOT
from tests.interop import racers
from tests.stages.contract.parts import new_run

TIMEOUT = 280
pytestmark = [pytest.mark.interop, pytest.mark.timeout(TIMEOUT + 20)]


@pytest.mark.parametrize("waiting", ["", "settle=1"])
def test_of_many_processes_one_wins_and_all_know_which(foreign: str, waiting: str, tmp_path: Path) -> None:
    uri = foreign
    if waiting:
        if not foreign.startswith("s3://"):
            pytest.skip("a folder's writers need not wait for one another")
        uri += ("&" if "?" in uri else "?") + waiting
    run = new_run(uri)
    command = [sys.executable, "-m", "tests.interop.racers", uri, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    check_records(run.store, [result["won"] for result in results])
    check_parts(run, [result["committed"] for result in results])
    claims = [[result["claims"][turn] for result in results] for turn in range(racers.ROUNDS // 3)]
    assert [[number for number in turn if number is not None] for turn in claims] == [[n] for n in range(len(claims))]
    assert control.newest(run).number == len(claims) - 1


def check_records(store: Store, won: list[list[bool]]) -> None:
    for turn in range(racers.ROUNDS):
        (winner,) = [number for number, wins in enumerate(won) if wins[turn]]
        assert store.get(f"race/{turn:02d}") == b"%d" % winner


def check_parts(run: Run, committed: list[dict[str, str]]) -> None:
    """All were told the record that stands, and the index is of these."""
    assert all(each == committed[0] for each in committed)
    for split in ("train", "test"):
        ref = Ref("problems", split=split)
        records = [run.find_part(ref, Part(number, racers.PARTS)) for number in range(racers.PARTS)]
        assert [record and record.checksum for record in records] == [
            committed[0][f"{split}/{Part(number, racers.PARTS).stem}"] for number in range(racers.PARTS)
        ]
        assert run.get_index(ref).rows == racers.PARTS == len(list(run.read(ref, Problem)))


def test_a_store_opened_anew_shows_what_was_written(foreign: str) -> None:
    first, second = open_store(foreign), open_store(foreign)
    for number in range(40):
        assert first.put_if_absent(f"a/{number:02d}", b"")
        assert len(list(second.list("a/"))) == number + 1
