from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.contract.artifacts import MidStage
from stages.contract.errors import ArtifactError, StoreError
from stages.contract.records import StepLog
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import LocalStore, Moved, open_store
from stages.train.checkpoint import RECORD, Checkpoints


def log_of(steps: int) -> list[StepLog]:
    return [
        StepLog(step=step, stream="fcft", loss=1 / (step + 3), num_targets=9, learning_rate=1e-5)
        for step in range(steps)
    ]


def state(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "weights.safetensors").write_text(text)
    (folder / "state.json").write_text("{}")
    return folder


def keys(run: Run) -> list[str]:
    return list(run.store.list(run.key("iterations/0000/train/")))


@pytest.fixture(params=["folder", "s3"])
def any_run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """A run in a folder, and one in S3 over HTTP."""
    uri = str(tmp_path / "store") if request.param == "folder" else request.getfixturevalue("s3_uri")
    made = Run(open_store(uri), "r1")
    made.create(RunSpec())
    return made


def test_what_is_saved_comes_back(any_run: Run, tmp_path: Path) -> None:
    checkpoints = Checkpoints(any_run, 0)
    assert checkpoints.newest() is None
    checkpoints.save(state(tmp_path / "a", "three"), log_of(3))
    found = checkpoints.newest()
    assert found is not None and found.steps == 3
    assert checkpoints.fetch(found, tmp_path / "back") == log_of(3)
    assert (tmp_path / "back" / "weights.safetensors").read_text() == "three"


def test_older_checkpoints_go_when_a_newer_one_is_complete(run: Run, tmp_path: Path) -> None:
    checkpoints = Checkpoints(run, 0)
    for steps in (3, 6):
        checkpoints.save(state(tmp_path / "a", str(steps)), log_of(steps))
    assert {key.split("/")[-2] for key in keys(run)} == {"step-000006"}
    checkpoints.remove()
    assert keys(run) == []


def test_half_a_checkpoint_is_not_there(run: Run, tmp_path: Path) -> None:
    checkpoints = Checkpoints(run, 0)
    checkpoints.save(state(tmp_path / "a", "3"), log_of(3))
    run.store.upload(run.key("iterations/0000/train/step-000006/0-weights.safetensors"), tmp_path / "a" / "state.json")
    found = checkpoints.newest()
    assert found is not None and found.steps == 3


class Slow(LocalStore):
    """A folder that is written to only when it is let."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.let = threading.Event()
        self.broken = False

    def upload(self, key: str, path: Path, moved: Moved = lambda _: None) -> None:
        assert self.let.wait(60)
        if self.broken:
            raise StoreError("cannot be reached")
        super().upload(key, path)


@pytest.fixture
def slow(tmp_path: Path) -> Run:
    made = Run(Slow(tmp_path / "slow"), "r1")
    made.create(RunSpec())
    return made


def test_training_goes_on_while_a_checkpoint_is_published(slow: Run, tmp_path: Path) -> None:
    assert isinstance(slow.store, Slow)
    checkpoints = Checkpoints(slow, 0)
    logged = log_of(3)
    checkpoints.save_beside(state(tmp_path / "a", "3"), logged)
    logged += log_of(9)[3:]
    assert checkpoints.newest() is None
    slow.store.let.set()
    checkpoints.save_beside(state(tmp_path / "b", "9"), logged)
    checkpoints.wait()
    found = checkpoints.newest()
    assert found is not None and found.steps == 9
    assert checkpoints.fetch(found, tmp_path / "back") == log_of(9)
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


def test_the_checkpoint_before_stays_until_the_next_is_complete(slow: Run, tmp_path: Path) -> None:
    assert isinstance(slow.store, Slow)
    checkpoints = Checkpoints(slow, 0)
    slow.store.let.set()
    checkpoints.save_beside(state(tmp_path / "a", "3"), log_of(3))
    checkpoints.wait()
    slow.store.let.clear()
    checkpoints.save_beside(state(tmp_path / "b", "6"), log_of(6))
    found = checkpoints.newest()
    assert found is not None and found.steps == 3
    slow.store.let.set()
    checkpoints.wait()


def test_a_checkpoint_that_cannot_be_published_is_told_at_the_next(slow: Run, tmp_path: Path) -> None:
    assert isinstance(slow.store, Slow)
    checkpoints = Checkpoints(slow, 0)
    slow.store.broken = True
    slow.store.let.set()
    checkpoints.save_beside(state(tmp_path / "a", "3"), log_of(3))
    with pytest.raises(StoreError, match="cannot be reached"):
        checkpoints.save_beside(state(tmp_path / "b", "6"), log_of(6))
    checkpoints.wait()


def test_checkpoints_of_another_iteration_are_its_own(run: Run, tmp_path: Path) -> None:
    Checkpoints(run, 1).save(state(tmp_path / "a", "3"), log_of(3))
    assert Checkpoints(run, 0).newest() is None
    Checkpoints(run, 0).remove()
    assert Checkpoints(run, 1).newest() is not None


def test_damaged_data_is_noticed(run: Run, tmp_path: Path) -> None:
    checkpoints = Checkpoints(run, 0)
    checkpoints.save(state(tmp_path / "a", "three"), log_of(3))
    (weights,) = [key for key in keys(run) if "weights" in key]
    path = run.store.local_path(weights)
    assert path is not None
    path.write_text("threx")
    found = checkpoints.newest()
    assert found is not None
    with pytest.raises(ArtifactError, match=r"weights\.safetensors: SHA-256 is"):
        checkpoints.fetch(found, tmp_path / "back")


def test_a_damaged_record_is_noticed(run: Run) -> None:
    run.store.put_if_absent(run.key(f"iterations/0000/train/step-000003/{RECORD}"), b"{")
    with pytest.raises(ArtifactError, match="delete it and resume"):
        Checkpoints(run, 0).newest()


def saved(run: Run, folder: Path, steps: int) -> str:
    """Save a checkpoint; return the key of its record."""
    Checkpoints(run, 0).save(state(folder, str(steps)), log_of(steps))
    return run.key(f"iterations/0000/train/step-{steps:06d}/{RECORD}")


def test_any_flipped_bit_in_a_record_is_found(run: Run, tmp_path: Path) -> None:
    key = saved(run, tmp_path / "a", 3)
    path = run.store.local_path(key)
    assert path is not None
    intact = path.read_bytes()
    # Changed where it stands: a file system may write a file to its disk whenever it has been cut and written anew.
    with path.open("r+b", buffering=0) as file:
        for place, byte in enumerate(intact):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), place)
                with pytest.raises(ArtifactError, match=r"step-000003/checkpoint.json.*; delete it and resume"):
                    Checkpoints(run, 0).newest()
            os.pwrite(file.fileno(), bytes([byte]), place)
    assert path.read_bytes() == intact
    assert Checkpoints(run, 0).newest() is not None


@pytest.mark.parametrize("other", ["iterations/0000/train/step-000006", "iterations/0001/train/step-000003"])
def test_the_record_of_another_checkpoint_does_not_pass_for_this_ones(other: str, run: Run, tmp_path: Path) -> None:
    key = saved(run, tmp_path / "a", 3)
    run.store.put_if_absent(run.key(f"{other}/{RECORD}"), run.store.get(key))
    with pytest.raises(ArtifactError, match=r"is the record of another checkpoint; delete it and resume"):
        Checkpoints(run, int(other.split("/")[1])).newest()


def test_the_newest_is_that_of_most_steps_however_many_digits_they_have(run: Run, tmp_path: Path) -> None:
    for steps in (999_999, 1_000_000):
        record = MidStage(steps=steps, spec_sha256=run.spec_sha256, objects=()).sealed()
        key = run.key(f"iterations/0000/train/step-{steps:06d}/{RECORD}")
        run.store.put_if_absent(key, record.model_dump_json().encode())
    found = Checkpoints(run, 0).newest()
    assert found is not None and found.steps == 1_000_000


class Overtaken(LocalStore):
    """A folder in which another trainer publishes its next checkpoint, and removes the one before, at each read."""

    def __init__(self, root: Path, folder: Path) -> None:
        super().__init__(root)
        self.folder, self.times = folder, 0
        self.steps = 3
        self.turn = threading.Lock()

    def stream(self, key: str) -> Iterator[bytes]:
        with self.turn:  # objects are read side by side, and there is one other trainer
            if "/train/step-" in key and self.times:
                self.times -= 1
                self.steps += 3
                other = Run(LocalStore(self.root), "r1")
                saved(other, self.folder, self.steps)
        return super().stream(key)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_checkpoint_that_another_trainer_removes_as_it_is_read_gives_way_to_the_newer(
    times: int, tmp_path: Path
) -> None:
    store = Overtaken(tmp_path / "store", tmp_path / "a")
    run = Run(store, "r1")
    run.create(RunSpec())
    saved(run, tmp_path / "a", 3)
    store.times = times
    logged = Checkpoints(run, 0).load(tmp_path / "back")
    assert logged is not None and len(logged) == store.steps == 3 + 3 * times
    assert (tmp_path / "back" / "weights.safetensors").read_text() == str(store.steps)


def test_data_that_is_damaged_is_no_race(run: Run, tmp_path: Path) -> None:
    saved(run, tmp_path / "a", 3)
    (weights,) = [key for key in keys(run) if "weights" in key]
    run.store.delete(weights)
    with pytest.raises(ArtifactError, match=r"delete runs/\w+/iterations/0000/train/step-000003 and resume"):
        Checkpoints(run, 0).load(tmp_path / "back")
