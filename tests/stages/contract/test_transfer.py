"""What is told of a transfer while it goes on."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stages.contract.artifacts import Made, Part, Ref
from stages.contract.run import Commit, Run
from stages.contract.store import Moved
from stages.contract.transfer import Meter, amount

CHECKPOINT = Ref("checkpoint", 0)
MADE = Made(started_at="2026-01-01T00:00:00+00:00", seconds=0, host="here")


def test_every_byte_is_told_once_each_way(anywhere: Run, tmp_path: Path) -> None:
    seen: list[tuple[str, int, list[int]]] = []

    def watch(what: str, size: int) -> Moved:
        seen.append((what, size, []))
        return seen[-1][2].append

    anywhere.watch = watch
    (tmp_path / "model").mkdir()
    for name, size in {"large": 17 << 20, "small": 9, "empty": 0}.items():
        (tmp_path / "model" / name).write_bytes(os.urandom(size))
    files = {path: 0 for path in sorted((tmp_path / "model").iterdir())}
    anywhere.commit(Commit(CHECKPOINT, Part(), files, (), seed=0, made=MADE, root=tmp_path / "model"))
    for _ in range(2):  # the second time they are there already
        anywhere.fetch(CHECKPOINT, tmp_path / "scratch")
    back, size = "verifying" if anywhere.store.local_path("runs") else "downloading", (17 << 20) + 9
    assert [what for what, _, _ in seen] == [f"{doing} {CHECKPOINT}" for doing in ("uploading", back, back)]
    assert [(total, sum(counts)) for _, total, counts in seen] == [(size, size)] * 3


def test_threads_lose_no_byte_of_each_other() -> None:
    told: list[tuple[int, int]] = []
    meter = Meter(8000, lambda done, total: told.append((done, total)), seconds=0)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(meter, [1] * 8000))
    assert max(told) == (8000, 8000) and len(set(told)) == 8000


def test_a_quick_transfer_is_not_worth_a_word() -> None:
    told: list[int] = []
    meter = Meter(8, lambda done, _: told.append(done), seconds=3600)
    for _ in range(8):
        meter(1)
    assert told == []


@pytest.mark.parametrize(
    ("done", "total", "text"),
    [
        (0, 0, "0/0 B"),
        (17, 999, "17/999 B"),
        (1_240_000_000, 4_900_000_000, "1.2/4.9 GB"),
        (500_000, 10_000_000, "0.5/10.0 MB"),
        (1000, 1000, "1.0/1.0 kB"),
    ],
)
def test_amounts_are_in_the_unit_of_the_larger(done: int, total: int, text: str) -> None:
    assert amount(done, total) == text
