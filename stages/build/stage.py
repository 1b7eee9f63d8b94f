"""From judged samples to packed training rows.

The examples of an iteration are laid out as one stream: all of them in the order of epoch 0, then of epoch 1, and so
on, each epoch shuffled on its own (or never, as the official code). Every `train.batch_size` examples of the stream
are one step, so a step may begin in one epoch and end in the next; the rows of such a step do not mix epochs. What is
left at the end of the last epoch is less than a step and is dropped. Fewer examples than `batch_size` make the steps
smaller instead: one per epoch.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from stages.build.packing import Ints, fill, pack
from stages.build.parquet import Row, write_rows
from stages.build.sequence import Encoder, Example
from stages.contract.artifacts import Ref
from stages.contract.errors import ArtifactError
from stages.contract.records import Execution, Problem, Sample
from stages.contract.seeds import derive_seed
from stages.entrypoint import Job

log = logging.getLogger("leti.build")
PROBLEMS = Ref("problems", split="train")


class Group(NamedTuple):
    """The examples of a step that belong to one epoch."""

    epoch: int
    step: int
    examples: Ints
    """Numbers of the examples, in training order."""


def build(job: Job) -> None:
    """Make the iteration's packed rows and commit them."""
    inputs = [PROBLEMS, *(Ref(name, job.iteration, "train") for name in ("samples", "executions"))]
    checkpoint = Ref("checkpoint", job.iteration)
    tallied: Counter[str] = Counter()
    encoder = Encoder(job.run.fetch(checkpoint, job.scratch), job.spec)
    prompts = {problem.problem_id: problem.prompt for problem in job.run.read(PROBLEMS, Problem)}
    examples = list(encoder.encode(judged(job, prompts, tallied), prompts))
    if not examples:
        raise ArtifactError(
            f"iteration {job.iteration}: none of {tallied['excluded']} samples has a verdict, so there is nothing to "
            "train on; execute them again where the sandbox works"
        )
    tallied["dropped_special_ids"] = encoder.dropped_special_ids
    job.counters["encode_seconds"] = time.time() - job.started

    groups = schedule(len(examples), job.spec.train.batch_size, job.spec.train.epochs, _seed(job))
    started = time.perf_counter()
    rows = list(lay_out(groups, [len(example.ids) for example in examples], job.spec.build.pack_length))
    job.counters["pack_seconds"] = time.perf_counter() - started
    path = job.scratch / "examples.parquet"
    count = write_rows(path, (_row(placed, examples) for placed in rows))
    facts = {**facts_of(examples, rows, job.spec.train.epochs), **tallied}
    log.info("%d examples in %d rows", len(examples), count, extra={"event": "built", "fields": facts})
    lineage = tuple(job.run.input(ref) for ref in (*inputs, checkpoint))
    job.commit(job.outputs[0], {path: count}, inputs=lineage, facts=facts)


def judged(job: Job, known: Container[str], tallied: Counter[str]) -> Iterator[tuple[Sample, Execution]]:
    """Yield every training sample with its verdict; those without one (`infra_error`) are counted and left out."""
    samples = job.run.read(Ref("samples", job.iteration, "train"), Sample)
    executions = job.run.read(Ref("executions", job.iteration, "train"), Execution)
    for sample, execution in _pairs(samples, executions):
        if sample.problem_id not in known:
            raise ArtifactError(f"there is a sample of {sample.problem_id!r}, which {PROBLEMS} does not hold")
        excluded = execution.outcome == "infra_error"
        tallied["excluded"] += excluded
        if not excluded:
            yield sample, execution


def _pairs(samples: Iterator[Sample], executions: Iterator[Execution]) -> Iterator[tuple[Sample, Execution]]:
    """Yield row by row; both artifacts list the same samples in the same order, or something is broken."""
    try:
        for sample, execution in zip(samples, executions, strict=True):
            if (sample.problem_id, sample.sample) != (execution.problem_id, execution.sample):
                raise ArtifactError(
                    f"the execution of {execution.problem_id}, sample {execution.sample} stands where that of "
                    f"{sample.problem_id}, sample {sample.sample} belongs; execute the part again"
                )
            yield sample, execution
    except ValueError as error:
        raise ArtifactError(f"samples and executions differ in number ({error}); execute the pass again") from error


def schedule(examples: int, batch_size: int, epochs: int, seed: int | None) -> list[Group]:
    """Return the groups of all steps in training order; `seed` None keeps the examples' own order."""
    size = min(batch_size, examples)
    steps = examples * epochs // size
    order = [_order(examples, epoch, seed) for epoch in range(epochs)]
    stream = np.concatenate(order)[: steps * size]
    epoch_of = np.repeat(np.arange(epochs), examples)[: steps * size]
    return [
        Group(int(epoch), step, numbers[epochs_here == epoch])
        for step, (numbers, epochs_here) in enumerate(
            zip(stream.reshape(steps, size), epoch_of.reshape(steps, size), strict=True)
        )
        for epoch in np.unique(epochs_here)
    ]


def _order(examples: int, epoch: int, seed: int | None) -> Ints:
    if seed is None:
        return np.arange(examples)
    return np.random.default_rng(derive_seed(seed, "epoch", epoch)).permutation(examples)


def lay_out(groups: Sequence[Group], lengths: Sequence[int], pack_length: int) -> Iterator[Group]:
    """Yield one group per packed row."""
    tokens = np.array(lengths, dtype=np.int64)
    packed = pack([tokens[group.examples] for group in groups], pack_length)
    for group, rows in zip(groups, packed, strict=True):
        for row in rows:
            yield group._replace(examples=group.examples[row])


def facts_of(examples: Sequence[Example], rows: Sequence[Group], epochs: int) -> dict[str, int | float]:
    """Return what the part record tells about the rows."""
    steps: dict[int, list[int]] = {}
    for row in rows:
        steps.setdefault(row.step, []).append(sum(len(examples[number].ids) for number in row.examples))
    placed = sum(len(row.examples) for row in rows)
    return {
        "examples": len(examples),
        "passed": sum(example.passed for example in examples),
        "failed": sum(not example.passed for example in examples),
        "truncated": sum(example.truncated for example in examples),
        "steps": len(steps),
        "dropped_at_end": len(examples) * epochs - placed,
        "tokens": sum(map(sum, steps.values())),
        "packing_fill": round(fill(list(steps.values())), 6),
    }


def _row(placed: Group, examples: Sequence[Example]) -> Row:
    return Row(placed.epoch, placed.step, tuple(examples[number] for number in placed.examples))


def _seed(job: Job) -> int | None:
    return job.seed("order") if job.spec.build.order == "shuffled" else None
