"""A finished run in a folder, made by the stages themselves in this process; only training is played."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from leti_ctl.inventory.parquet import packed_in
from leti_ctl.pipeline import Unit, plan
from stages.build.stage import build
from stages.contract.artifacts import Input, Ref, parse_ref
from stages.contract.errors import RetryableError
from stages.contract.flow import inputs
from stages.contract.origin import find_checkpoint
from stages.contract.records import Problem, StepLog
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import LocalStore, Store
from stages.entrypoint import Job
from stages.evaluate.stage import evaluate
from stages.execute.stage import run as execute
from stages.generate.stage import generate
from tests.models import make_tokenizer

BODIES = ("\n    return x + {0}\n", "\n    return x\n", "\n    return undefined\n", "\n  (\n")
WORLD = (Input(ref="made by a test", sha256="0" * 64),)


def make_spec(folder: Path) -> RunSpec:
    """Return a spec of two iterations whose solutions come from a script; also writes the script."""
    script = folder / "script.jsonl"
    rows = [
        {"problem_id": f"{split}/{number}", "solutions": [body.format(number) for body in BODIES]}
        for split in ("train", "test")
        for number in range(3)
    ]
    script.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sizes = {"max_length": 256, "pack_length": 256}
    return RunSpec.model_validate_json(
        json.dumps(
            {
                "iterations": 2,
                "generate": {"engine": "scripted", "script": str(script), "samples_per_problem": 4, "parts": 2},
                "execute": {"sandbox": "process", "workers": 1},
                "build": sizes,
                "train": {"objective": "fcft", "epochs": 2, "batch_size": 5, "micro_batch_tokens": 256},
                "evaluate": {"samples_per_problem": 2, "splits": ["test"], "k": [1, 2], "bootstrap_resamples": 50},
            }
        )
    )


def make_run(
    folder: Path, store: Store | None = None, spec: RunSpec | None = None, *, tries: int = 1, name: str = "made"
) -> Run:
    """Make the run `made` in a store, `folder/store` if none is given, every unit of it in graph order.

    A unit that fails in a way that another try may cure is tried so many times in all, as drivers do.
    """
    run = Run(store or LocalStore(folder / "store"), name)
    run.create(spec or make_spec(folder))
    for unit in plan(run.spec).units:
        for attempt in range(tries):
            try:
                _work(run, unit, folder)
                break
            except RetryableError:
                if attempt + 1 == tries:
                    raise
    return run


def _work(run: Run, unit: Unit, folder: Path) -> None:
    """Do what the unit's container does, which ends at once where everything is committed."""
    if all(run.find_part(ref, unit.part) for ref in unit.outputs(run.spec)):
        return
    with _job(run, unit, folder) as job:
        {"prepare": _prepare, "train": _train, "generate": generate, "execute": execute, "build": build,
         "evaluate": evaluate}[unit.stage](job)  # fmt: skip


@contextmanager
def _job(run: Run, unit: Unit, folder: Path) -> Iterator[Job]:
    scratch = Path(tempfile.mkdtemp(prefix=unit.id, dir=folder))
    yield Job(run, unit.stage, unit.iteration, unit.split, unit.part, scratch)


def _prepare(job: Job) -> None:
    for ref in job.outputs[:-1]:
        problems = [_problem(str(ref.split), number) for number in range(3)]
        job.commit_rows(ref, problems, inputs=WORLD)
    if job.spec.model.from_run:
        found = find_checkpoint(job.run.store, job.spec.model)
        job.commit_folder(job.outputs[-1], found.run.fetch(found.ref, job.scratch), inputs=(found.input(),))
        return
    model = job.scratch / "model"
    _write_model(model, weights=b"base")
    job.commit_folder(job.outputs[-1], model, inputs=WORLD)


def _problem(split: str, number: int) -> Problem:
    return Problem(
        problem_id=f"{split}/{number}",
        prompt=f"def f{number}(x):",
        tests=(f"assert f{number}(2) == {number + 2}",),
        reference=f"    return x + {number}",
    )


def _train(job: Job) -> None:
    """Log steps and pass the checkpoint on with other weights."""
    wanted = inputs("train", job.spec, iteration=job.iteration, split="train")
    lineage = tuple(job.run.input(found[0]) for text in wanted if (found := parse_ref(text)))
    steps, optimizer, checkpoint = job.outputs
    rate, counts = job.spec.train.learning_rate, enumerate(_targets(job))
    rows = [
        StepLog(step=step, stream="fcft", loss=1.5, num_targets=count, learning_rate=rate) for step, count in counts
    ]
    job.commit_rows(steps, rows, inputs=lineage, targets=sum(row.num_targets for row in rows))
    state = job.scratch / "state"
    state.mkdir()
    (state / "state.json").write_text("{}")
    job.commit_folder(optimizer, state, inputs=lineage)
    model = job.scratch / "model"
    _write_model(model, weights=b"trained in iteration %d" % job.iteration)
    job.commit_folder(checkpoint, model, inputs=lineage)


def _targets(job: Job) -> list[int]:
    """What each step learns from."""
    counts: Counter[int] = Counter()
    for row in packed_in(job.run, job.run.get_index(Ref("examples", job.iteration)).objects):
        counts[row.step] += sum(row.loss_mask)
    return [counts[step] for step in sorted(counts)]


def _write_model(folder: Path, *, weights: bytes) -> None:
    make_tokenizer(folder)
    (folder / "config.json").write_text('{"eos_token_id": 0}')
    (folder / "model.safetensors").write_bytes(weights * 100)
