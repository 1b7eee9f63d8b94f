"""Mid-stage checkpoints in every interleaving: a trainer, one that was given up and goes on, and one that resumes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from stages.contract.errors import ArtifactError, StoreError
from stages.contract.records import StepLog
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import Store
from stages.train.checkpoint import Checkpoints
from tests.faults.explore import Ended, Explorer, Found, Memory, Objects, Op, State, Violation, Weather, Work

SPEC = RunSpec()
RECORD = "/checkpoint.json"
Loaded = tuple[str, int] | None
"""Whose state was found, and after how many steps."""


def checkpoints(store: Store) -> Checkpoints:
    run = Run(store, "r")
    vars(run).update(spec=SPEC, spec_sha256=SPEC.digest())
    return Checkpoints(run, 0)


def train(name: str, steps: Sequence[int], ends: bool, store: Store) -> None:
    """Save at these steps, and where it ends, remove all: its outputs are committed."""
    saving = checkpoints(store)
    for number in steps:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "weights").write_text(f"{name} {number}")
            saving.save(Path(folder), log_of(name, number))
    if ends:
        saving.remove()


def log_of(name: str, steps: int) -> list[StepLog]:
    """The log of a trainer that does not come to the same losses as others."""
    return [
        StepLog(step=step, stream="fcft", loss=float(ord(name)), num_targets=1, learning_rate=1.0)
        for step in range(steps)
    ]


def resume(store: Store) -> Loaded:
    """Load the newest checkpoint; weights and log must be of one trainer and one moment."""
    with tempfile.TemporaryDirectory() as folder:
        logged = checkpoints(store).load(Path(folder))
        if logged is None:
            return None
        name, steps = Path(folder, "weights").read_text().split()
        assert logged == log_of(name, int(steps)), "weights and log are of two checkpoints"
        return name, int(steps)


def check(state: State, before: State | None, ends: Sequence[Ended | None], *, least: int) -> None:
    """`least` steps are saved when it begins; whoever resumes finds them or more."""
    reader = ends[-1]
    if before is None or before.logs[-1] == state.logs[-1]:
        return  # it has been judged where it ended
    if reader:
        assert not isinstance(reader.error, (ArtifactError, StoreError)), f"refused what is there: {reader.error}"
        assert reader.result is not None, "found nothing"
        assert reader.result[1] >= least, "found less than was saved before it began"


def has_whole(objects: Objects) -> bool:
    try:
        return resume(Memory(objects)) is not None
    except ArtifactError:
        return False


def recover(objects: Objects) -> None:
    """Whatever is killed, the next trainer goes on from a whole checkpoint."""
    assert has_whole(objects), "nothing to go on from"


def explore(works: dict[str, Work], start: Objects, *, least: int) -> Found:
    found = Explorer(works, partial(check, least=least), recover, Weather(), start).explore()
    print(f"{found.schedules} schedules through {found.states} states", flush=True)
    return found


@pytest.fixture
def saved() -> Objects:
    """Step 3, as a first trainer saved it."""
    store = Memory({})
    train("z", [3], False, store)
    return store.objects


@pytest.mark.slow
def test_a_resumed_trainer_reads_one_checkpoint_whole_while_another_goes_on(saved: Objects) -> None:
    assert explore({"a": partial(train, "a", [6], False), "reader": resume}, saved, least=3).schedules > 400


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_it_does_so_however_often_it_is_overtaken(saved: Objects) -> None:
    assert explore({"a": partial(train, "a", [6, 9], False), "reader": resume}, saved, least=3).schedules > 100_000


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_trainer_that_was_given_up_never_makes_another_go_on_from_a_mixture(saved: Objects) -> None:
    # With a trainer that also ends, and so removes everything, there are more states than memory holds.
    works = {"a": partial(train, "a", [6], False), "b": partial(train, "b", [6], False), "reader": resume}
    assert explore(works, saved, least=3).schedules > 1000


@pytest.mark.slow
def test_a_trainer_that_removes_data_before_records_is_found(saved: Objects) -> None:
    class Backwards(Memory):
        """Removes records when all data are gone."""

        def __init__(self, inner: Store) -> None:
            super().__init__({})
            self.inner, self.waiting = inner, list[str]()

        def _ask(self, op: Op) -> object:
            if op.verb == "delete" and op.key.endswith(RECORD):
                self.waiting.append(op.key)
                return None
            return self.inner._ask(op)  # type: ignore[attr-defined]

    def backwards(store: Store) -> None:
        late = Backwards(store)
        train("a", [6], False, late)
        train("a", [], True, late)
        for key in late.waiting:
            store.delete(key)

    with pytest.raises(Violation, match=r"refused what is there|nothing to go on from"):
        explore({"a": backwards, "reader": resume}, saved, least=3)
