"""Which steps an iteration takes, and how one is cut into micro-batches.

Every step is a pure function of its number, so a resumed stage takes exactly the steps that are left. The two streams
follow the official code: FCFT and pre-training steps alternate one to one, and the pre-training stream begins again
with every epoch (and therefore with every iteration), wrapping round where it is shorter than an epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from stages.contract.spec import TrainSpec
from stages.train.data import Blocks, FcftStep
from stages.train.engine import Batch, Row, Step


def plan_steps(train: TrainSpec, fcft: Iterable[FcftStep], blocks: Blocks | None) -> Iterator[Step]:
    """Yield the steps of an iteration that trains on samples; `blocks` is None without regularisation."""
    size = train.pretraining_batch_size or train.batch_size
    number = epoch = within = 0
    for step in fcft:
        within = within + 1 if step.epoch == epoch and number else 0
        epoch = step.epoch
        if blocks is None:
            planned = [Step(number, "fcft", (step.batch,))]
        else:
            regularising = blocks.batch(within * size, size)
            planned = _regularised(train, number, step.batch, regularising)
        yield from planned
        number += len(planned)


def _regularised(train: TrainSpec, number: int, fcft: Batch, regularising: Batch) -> list[Step]:
    if train.objective == "sum":
        return [Step(number, "joint", (fcft, regularising))]
    return [Step(number, "fcft", (fcft,)), Step(number + 1, "pretraining", (regularising,))]


def plan_pretraining(train: TrainSpec, steps_per_epoch: int, blocks: Blocks) -> Iterator[Step]:
    """Yield the steps of the "only pre-training" baseline: as many as FCFT would have had."""
    size = train.pretraining_batch_size or train.batch_size
    for number in range(train.epochs * steps_per_epoch):
        yield Step(number, "pretraining", (blocks.batch(number % steps_per_epoch * size, size),))


def divide(batch: Batch, processes: int, micro_batch_tokens: int) -> list[list[tuple[Row, ...]]]:
    """Return each process's micro-batches, equally many for all: collectives within a backward pass must match.

    Processes get rows of about equal sums, longest first; a micro-batch holds at most `micro_batch_tokens`, or one row
    that is longer. A process with fewer micro-batches than others ends with empty ones.
    """
    shares: list[list[Row]] = [[] for _ in range(processes)]
    for row in sorted(batch.rows, key=lambda row: -row.tokens):
        min(shares, key=_tokens).append(row)
    cut = [_micro_batches(share, micro_batch_tokens) for share in shares]
    most = max(map(len, cut))
    return [micro + [()] * (most - len(micro)) for micro in cut]


def _micro_batches(rows: Sequence[Row], limit: int) -> list[tuple[Row, ...]]:
    """First fit: each row goes to the first micro-batch with room for it."""
    opened: list[list[Row]] = []
    for row in rows:
        place = next((micro for micro in opened if _tokens(micro) + row.tokens <= limit), None)
        if place is None:
            opened.append([row])
        else:
            place.append(row)
    return [tuple(micro) for micro in opened]


def _tokens(rows: Iterable[Row]) -> int:
    return sum(row.tokens for row in rows)
