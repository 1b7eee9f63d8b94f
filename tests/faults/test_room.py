"""Every stage on a disk that is full, or that nobody may write to: for its scratch files, and for its store."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from leti_ctl.audit.report import audit
from stages.contract.run import Run
from stages.contract.store import LocalStore
from tests.disks import small_disk
from tests.faults.victims import STAGES, Ended, Victims
from tests.faults.world import NAME, World, arguments, comparable, environment

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]
each_stage = pytest.mark.parametrize("stage", STAGES)
each_disk = pytest.mark.parametrize("what", ["scratch", "store"])


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    with small_disk(tmp_path / "disk", "64m") as folder:
        yield folder


@pytest.fixture
def place(world: World, victims: Victims, stage: str, what: str, disk: Path, tmp_path: Path) -> Place:
    """A stage with its store, or its scratch files, on the disk."""
    store, scratch = (disk / "store", tmp_path / "scratch") if what == "store" else (tmp_path / "store", disk)
    return Place(world, victims, stage, store=store, scratch=scratch)


def fill(disk: Path) -> None:
    """Leave no byte free."""
    with open(disk / "filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass


class Place:
    """Where a stage's chosen unit starts: a store in a folder, and a folder for scratch."""

    def __init__(self, world: World, victims: Victims, stage: str, *, store: Path, scratch: Path) -> None:
        self.world, self.victims, self.stage, self.scratch = world, victims, stage, scratch
        self.run = Run(LocalStore(store), NAME)
        for key in world.before[stage]:
            (store / key).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(world.folder / "store" / key, store / key)
        scratch.mkdir(exist_ok=True)

    def work(self) -> Ended:
        line = arguments(self.world.units[self.stage], self.run.uri)
        self.victims.start(self.stage, line, environment(self.scratch))
        ended = self.victims.wait()
        assert ended is not None
        return ended

    def fails(self, code: int, *words: str) -> None:
        """One line says what is wrong; what was there is as it was."""
        ended = self.work()
        assert ended.code == code, ended
        assert all(word in ended.error for word in words), ended.error
        assert "Traceback" not in ended.log

    def goes_on(self) -> None:
        """With room, it ends as it does undisturbed."""
        ended = self.work()
        assert ended.code == 0, ended.log
        found = {key: comparable(key, self.run.store.get(key)) for key in self.run.store.list("")}
        expected = self.world.expected(self.stage)
        assert found.keys() == expected.keys()
        assert [key for key in found if found[key] != expected[key]] == []
        assert [finding.line for finding in audit(self.run).findings if finding.level == "error"] == []


@each_stage
@each_disk
def test_a_full_disk_is_said_and_gone_on_from(place: Place, disk: Path) -> None:
    fill(disk)
    place.fails(73, "No space left on device", "free some room")
    (disk / "filler").unlink()
    place.goes_on()


@each_stage
@each_disk
def test_a_disk_that_may_not_be_written_to_is_said_and_gone_on_from(place: Place, disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    place.fails(2, "Read-only file system", str(disk))
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    place.goes_on()
