"""Load the problems, give the base model its special tokens, cut the pre-training stream; commit each.

A run that starts from another run's checkpoint copies that one instead.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from tokenizers import Tokenizer

from stages.contract.artifacts import Input, Ref
from stages.contract.origin import find_checkpoint
from stages.contract.records import write_rows
from stages.contract.spec import Split
from stages.entrypoint import Job, Output
from stages.prepare.blocks import write_blocks
from stages.prepare.corpus import read_texts
from stages.tasks import load_problems

log = logging.getLogger("leti")


def prepare(job: Job) -> None:
    """Commit what the run starts from, the checkpoint last; what an earlier try committed is not made again."""
    missing = [ref for ref in job.outputs if job.run.find_part(ref, job.part) is None]
    for ref in missing:
        if ref.artifact == "problems":
            _commit_problems(job, ref)
    with _timed(job, "checkpoint_seconds"):
        folder, source = _take_over(job) if job.spec.model.from_run else _make_checkpoint(job)
    for ref in missing:
        if ref.artifact == "pretraining":
            with _timed(job, "pretraining_seconds"):
                _commit_blocks(job, ref, folder)
    job.commit_folder(job.outputs[-1], folder, inputs=(source,))


def _commit_problems(job: Job, ref: Ref) -> None:
    split: Split = ref.split  # type: ignore[assignment]
    problems = load_problems(job.spec.task, split)
    task = job.spec.task
    name = f"task {task.name}" + (f" from {task.source}" if task.source else "")
    job.commit_rows(ref, problems, inputs=(Input(ref=name, sha256=_digest(write_rows(problems))),))
    log.info("%d %s problems", len(problems), split)


def _take_over(job: Job) -> tuple[Path, Input]:
    """Return another run's checkpoint, every file of it verified; it has the special tokens already."""
    found = find_checkpoint(job.run.store, job.spec.model)
    log.info("checkpoint %d of run %s", found.ref.iteration, found.run.name)
    found.run.watch = job.watch
    return found.run.fetch(found.ref, job.scratch), found.input()


def _make_checkpoint(job: Job) -> tuple[Path, Input]:
    """Return the base model with the special tokens."""
    # The one import of torch: what is wrong with the problems shows before its seconds are spent.
    from stages.prepare.checkpoint import digest_folder, find_model, write_checkpoint

    folder, model = job.scratch / "checkpoint", find_model(job.spec.model)
    log.info("base model: %s", model.name)
    write_checkpoint(model, job.spec.model, folder, seed=job.seed("new_token_embeddings"))
    return folder, Input(ref=model.name, sha256=digest_folder(model.folder))


def _commit_blocks(job: Job, ref: Ref, checkpoint: Path) -> None:
    spec = job.spec.pretraining
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    eos = json.loads((checkpoint / "config.json").read_text())["eos_token_id"]
    path = job.scratch / "pretraining.parquet"
    stream = write_blocks(path, read_texts(spec), tokenizer, spec, eos)
    job.counters["pretraining_tokens"] = stream.blocks * spec.block_length
    log.info("%d blocks of %d tokens from %d files", stream.blocks, spec.block_length, stream.files)
    source = Input(ref=f"texts {spec.source}" + (f" at {spec.revision}" if spec.revision else ""), sha256=stream.sha256)
    job.commit(Output(ref, {path: stream.blocks}, (source,), {"files": stream.files}))


@contextmanager
def _timed(job: Job, counter: str) -> Iterator[None]:
    started = perf_counter()
    yield
    job.counters[counter] = round(perf_counter() - started, 3)


def _digest(lines: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(lines)).hexdigest()
