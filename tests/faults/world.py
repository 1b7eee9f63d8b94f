"""One small run of real stages in a folder, undisturbed, with what was in the store before each of its units.

The model is tiny, its weights are random, and a script writes the solutions, so that a stage takes less than a second.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from leti_ctl.pipeline import Unit, plan
from stages.contract.artifacts import PartRecord
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import LocalStore
from tests.faults.victims import Victims
from tests.models import make_model
from tests.scripts import write_script

NAME = "made"
CHOSEN = {
    "prepare": "prepare",
    "generate": "0000-generate-train-00001-of-00002",
    "execute": "0000-execute-train-00001-of-00002",
    "build": "0000-build-00000-of-00001",
    "train": "0000-train-00000-of-00001",
    "evaluate": "0000-evaluate-train-00000-of-00001",
}
"""The unit of each stage that is disturbed; of several parts the last, which also writes the index."""


class World(NamedTuple):
    """A finished run and how to do any of its units again."""

    folder: Path
    run: Run
    units: dict[str, Unit]
    """By stage: those chosen."""
    before: dict[str, set[str]]
    """Keys in the store when a stage's chosen unit started."""
    after: dict[str, set[str]]

    def expected(self, stage: str) -> dict[str, bytes]:
        """What is in the store when the stage's chosen unit has ended, as `comparable` has it."""
        return {key: comparable(key, self.run.store.get(key)) for key in self.after[stage]}


def make_world(folder: Path, victims: Victims) -> World:
    """Make the run, unit after unit."""
    spec = make_spec(folder)
    run = Run(LocalStore(folder / "store"), NAME)
    run.create(spec)
    world = World(folder, run, {}, {}, {})
    stages = {unit: stage for stage, unit in CHOSEN.items()}
    for unit in plan(spec).units:
        stage = stages.get(unit.id)
        if stage:
            world.units[stage] = unit
            world.before[stage] = set(run.store.list(""))
        victims.start(unit.stage, arguments(unit, run.uri), environment(folder))
        ended = victims.wait()
        assert ended and ended.code == 0, ended
        if stage:
            world.after[stage] = set(run.store.list(""))
    return world


def make_spec(folder: Path) -> RunSpec:
    """Write the model and the script; return a spec of one iteration that uses them."""
    make_model(folder / "model")
    script = write_script(folder / "script.jsonl", train=4, test=2, wrong=["\nraise KeyError('no')"])
    return RunSpec.model_validate(
        {
            "iterations": 1,
            "model": {"source": str(folder / "model")},
            "task": {"name": "basics", "train_problems": 4, "test_problems": 2},
            "generate": {"engine": "scripted", "script": str(script), "samples_per_problem": 2,
                         "max_new_tokens": 32, "parts": 2},
            "execute": {"sandbox": "process", "workers": 1},
            "build": {"max_length": 256, "pack_length": 256},
            "pretraining": {"num_files": 3, "block_length": 64, "max_blocks": 8},
            "train": {"engine": "torch", "epochs": 1, "batch_size": 4, "pretraining_batch_size": 2,
                      "micro_batch_tokens": 1024, "checkpoint_steps": 2, "learning_rate": 1e-3},
            "evaluate": {"splits": ("test",), "samples_per_problem": 2, "max_new_tokens": 32,
                         "k": (1, 2), "bootstrap_resamples": 50},
        }
    )  # fmt: skip


def arguments(unit: Unit, uri: str) -> list[str]:
    """What stands after `python -m stages.<stage>`."""
    return unit.arguments(uri)[1:]


def environment(scratch: Path) -> dict[str, str]:
    """Of a stage: one thread, so that equal work gives equal bytes, and its scratch folder."""
    return {"LETI_SCRATCH": str(scratch), "OMP_NUM_THREADS": "1", "LETI_THREADS": "1"}


def comparable(key: str, data: bytes) -> bytes:
    """An object's bytes; of a part record what is the same whenever it is made."""
    if "/parts/" not in key:
        return data
    return PartRecord.model_validate_json(data).model_dump_json(exclude={"made", "checksum"}).encode()
