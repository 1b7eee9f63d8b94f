"""From judged samples to packed training rows.

The examples of an iteration are laid out as one stream: all of them in the order of epoch 0, then of epoch 1, and so
on, each epoch shuffled on its own (or never, as the official code). Every `train.batch_size` examples of the stream
are one step, so a step may begin in one epoch and end in the next; the rows of such a step do not mix epochs. What is
left at the end of the last epoch is less than a step and is dropped. Fewer examples than `batch_size` make the steps
smaller instead: one per epoch.

The order needs no more than the number of examples, so a part of several knows its steps before it has tokenised
anything: it takes a contiguous share of them and encodes the examples they hold. The parts' rows, one after another,
are those that one part would have written.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.build.packing import Ints, fill, pack
from stages.build.parquet import Row, write_rows
from stages.build.sequence import FILES, Encoder, Example
from stages.contract.artifacts import Part, Ref
from stages.contract.errors import ArtifactError
from stages.contract.records import Execution, Problem, Sample
from stages.contract.seeds import derive_seed
from stages.contract.spec import TrainSpec
from stages.entrypoint import Job, Output

log = logging.getLogger("leti.build")
Bools = NDArray[np.bool_]
PROBLEMS = Ref("problems", split="train")


class Group(NamedTuple):
    """The examples of a step that belong to one epoch."""

    epoch: int
    step: int
    examples: Ints
    """Numbers of the examples, in training order."""


class Share(NamedTuple):
    """What one part builds."""

    groups: list[Group]
    """Of its steps, in training order."""
    needed: Bools
    """[examples]: which ones its steps hold."""
    counted: Bools
    """[examples]: which ones its facts tell of. Each is counted by one part: that of the step it is first in."""
    dropped: int
    """Places at the end of the stream that make no step; told by the last part."""


def build(job: Job) -> None:
    """Make the part's share of the iteration's packed rows and commit it."""
    inputs = [PROBLEMS, *(Ref(name, job.iteration, "train") for name in ("samples", "executions"))]
    checkpoint = Ref("checkpoint", job.iteration)
    encoder = Encoder(job.run.fetch(checkpoint, job.scratch, only=FILES), job.spec)
    labelled = have_verdict(job)
    count, train = int(labelled.sum()), job.spec.train
    share = take_share(count, schedule(count, train, _seed(job)), train.epochs, job.part)
    examples = _encode(job, encoder, labelled, share)
    job.counters["encode_seconds"] = time.time() - job.started

    started = time.perf_counter()
    lengths = np.zeros(count, dtype=np.int64)
    lengths[list(examples)] = [len(example.ids) for example in examples.values()]
    rows = list(lay_out(share.groups, lengths, job.spec.build.pack_length))
    job.counters["pack_seconds"] = time.perf_counter() - started
    path = job.scratch / "examples.parquet"
    written = write_rows(path, (_row(placed, examples) for placed in rows))
    counted = [examples[number] for number in np.flatnonzero(share.counted).tolist()]
    facts = facts_of(counted, rows, lengths, share.dropped) | {
        "excluded": sum(not labelled[row] for row in job.part.slice(len(labelled))),
        "dropped_special_ids": sum(example.dropped_special_ids for example in counted),
    }
    log.info("%d examples in %d rows", len(counted), written, extra={"event": "built", "fields": facts})
    lineage = tuple(job.run.input(ref) for ref in (*inputs, checkpoint))
    job.commit(Output(job.outputs[0], {path: written}, lineage, facts))


def _encode(job: Job, encoder: Encoder, labelled: Bools, share: Share) -> dict[int, Example]:
    """Return the examples the part is concerned with, by number, in ascending order."""
    prompts = {problem.problem_id: problem.prompt for problem in job.run.read(PROBLEMS, Problem)}
    concerned = share.needed | share.counted
    wanted = labelled.copy()
    wanted[labelled] = concerned
    encoded = encoder.encode(judged(job, prompts, wanted), prompts)
    return dict(zip(np.flatnonzero(concerned).tolist(), encoded, strict=True))


def have_verdict(job: Job) -> Bools:
    """Return which training samples were judged, in order; those with an `infra_error` make no example."""
    executions = job.run.read(Ref("executions", job.iteration, "train"), Execution)
    labelled = np.array([execution.outcome != "infra_error" for execution in executions], dtype=np.bool_)
    if not labelled.any():
        raise ArtifactError(
            f"iteration {job.iteration}: none of {len(labelled)} samples has a verdict, so there is nothing to "
            "train on; execute them again where the sandbox works"
        )
    return labelled


def judged(job: Job, known: Container[str], wanted: Bools) -> Iterator[tuple[Sample, Execution]]:
    """Yield the wanted ones of all training samples with their verdicts; every row is checked against its partner."""
    samples = job.run.read(Ref("samples", job.iteration, "train"), Sample)
    executions = job.run.read(Ref("executions", job.iteration, "train"), Execution)
    for row, (sample, execution) in enumerate(_pairs(samples, executions)):
        if sample.problem_id not in known:
            raise ArtifactError(f"there is a sample of {sample.problem_id!r}, which {PROBLEMS} does not hold")
        if wanted[row]:
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


def schedule(examples: int, train: TrainSpec, seed: int | None) -> list[Group]:
    """Return the groups of all steps in training order; `seed` None keeps the examples' own order."""
    size, epochs = min(train.batch_size, examples), train.epochs
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


def take_share(examples: int, groups: Sequence[Group], epochs: int, part: Part) -> Share:
    """Return the part's steps and the examples it is concerned with."""
    steps = groups[-1].step + 1
    mine = part.slice(steps)
    chosen = [group for group in groups if group.step in mine]
    needed, first = np.zeros(examples, dtype=np.bool_), np.full(examples, steps)
    for group in chosen:
        needed[group.examples] = True
    for group in reversed(groups):
        first[group.examples] = group.step
    last = part.number == part.of - 1
    counted = ((first >= mine.start) & (first < mine.stop)) | (last & (first == steps))
    placed = sum(len(group.examples) for group in groups)
    return Share(chosen, needed, counted, examples * epochs - placed if last else 0)


def _order(examples: int, epoch: int, seed: int | None) -> Ints:
    if seed is None:
        return np.arange(examples)
    return np.random.default_rng(derive_seed(seed, "epoch", epoch)).permutation(examples)


def lay_out(groups: Sequence[Group], lengths: Ints, pack_length: int) -> Iterator[Group]:
    """Yield one group per packed row; `lengths` by example, [examples]."""
    packed = pack([lengths[group.examples] for group in groups], pack_length)
    for group, rows in zip(groups, packed, strict=True):
        for row in rows:
            yield group._replace(examples=group.examples[row])


def facts_of(examples: Sequence[Example], rows: Sequence[Group], lengths: Ints, dropped: int) -> dict[str, int | float]:
    """Return what the part record tells; all but `packing_fill` add up over the parts."""
    steps: dict[int, list[int]] = {}
    for row in rows:
        steps.setdefault(row.step, []).append(int(lengths[row.examples].sum()))
    return {
        "examples": len(examples),
        "passed": sum(example.passed for example in examples),
        "failed": sum(not example.passed for example in examples),
        "truncated": sum(example.truncated for example in examples),
        "steps": len(steps),
        "dropped_at_end": dropped,
        "tokens": sum(map(sum, steps.values())),
        "packing_fill": round(fill(list(steps.values())), 6),
    }


def _row(placed: Group, examples: Mapping[int, Example]) -> Row:
    return Row(placed.epoch, placed.step, tuple(examples[number] for number in placed.examples.tolist()))


def _seed(job: Job) -> int | None:
    return job.seed("order") if job.spec.build.order == "shuffled" else None
