from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stages.contract.spec import TrainSpec
from stages.train.data import Blocks, FcftStep
from stages.train.engine import Batch, Row
from stages.train.plan import divide, plan_pretraining, plan_steps


def row(length: int, first: int = 0) -> Row:
    mask = np.ones(length, np.int8)
    mask[0] = 0
    return Row(np.arange(first, first + length, dtype=np.int32), np.array([length], np.int32), mask)


class Counted(Blocks):
    """Blocks whose one token is their number."""

    def __init__(self, count: int) -> None:
        self.count = count

    def _block(self, number: int) -> Row:
        return row(2, number)


def numbers(batch: Batch) -> list[int]:
    return [int(row.input_ids[0]) for row in batch.rows]


def fcft(epochs: list[int]) -> list[FcftStep]:
    return [FcftStep(epoch, Batch((row(3), row(4)))) for epoch in epochs]


@given(st.lists(st.integers(2, 50), min_size=1, max_size=30), st.integers(1, 4), st.integers(50, 120))
def test_every_row_is_in_one_micro_batch_of_one_process(lengths: list[int], processes: int, limit: int) -> None:
    batch = Batch(tuple(row(length) for length in lengths))
    shares = divide(batch, processes, limit)
    placed = [len(row.input_ids) for share in shares for micro in share for row in micro]
    assert Counter(placed) == Counter(lengths)
    assert len({len(share) for share in shares}) == 1
    assert all(sum(row.tokens for row in micro) <= limit for share in shares for micro in share)


def test_processes_get_about_equal_shares() -> None:
    lengths = np.random.default_rng(0).integers(100, 900, 128)
    shares = divide(Batch(tuple(row(int(length)) for length in lengths)), 4, 4096)
    loads = [sum(row.tokens for micro in share for row in micro) for share in shares]
    assert max(loads) - min(loads) < 0.01 * sum(loads)


def test_a_row_longer_than_a_micro_batch_is_one_by_itself() -> None:
    ((micro,),) = divide(Batch((row(70),)), 1, 50)
    assert micro[0].tokens == 70


def test_streams_alternate_one_to_one() -> None:
    steps = list(plan_steps(TrainSpec(batch_size=2), fcft([0, 0, 1]), Counted(100)))
    assert [step.stream for step in steps] == ["fcft", "pretraining"] * 3
    assert [step.number for step in steps] == list(range(6))


def test_the_pretraining_stream_begins_again_with_every_epoch() -> None:
    steps = list(plan_steps(TrainSpec(batch_size=2), fcft([0, 0, 1, 1, 1]), Counted(100)))
    assert [numbers(step.batches[0]) for step in steps[1::2]] == [[0, 1], [2, 3], [0, 1], [2, 3], [4, 5]]


def test_a_short_stream_wraps_round() -> None:
    steps = list(plan_steps(TrainSpec(batch_size=2), fcft([0, 0, 0]), Counted(3)))
    assert [numbers(step.batches[0]) for step in steps[1::2]] == [[0, 1], [2, 0], [1, 2]]


def test_a_joint_step_holds_both_batches() -> None:
    (step,) = plan_steps(TrainSpec(batch_size=2, objective="sum"), fcft([0]), Counted(9))
    assert step.stream == "joint"
    assert step.num_targets == (2 + 3) + (1 + 1)


def test_without_regularisation_only_fcft_steps() -> None:
    steps = list(plan_steps(TrainSpec(objective="fcft"), fcft([0, 1]), None))
    assert [(step.number, step.stream) for step in steps] == [(0, "fcft"), (1, "fcft")]


def test_only_pretraining_takes_as_many_steps_as_fcft_would() -> None:
    train = TrainSpec(objective="pretraining", epochs=2, pretraining_batch_size=3)
    steps = list(plan_pretraining(train, 2, Counted(100)))
    assert [numbers(step.batches[0]) for step in steps] == [[0, 1, 2], [3, 4, 5]] * 2
