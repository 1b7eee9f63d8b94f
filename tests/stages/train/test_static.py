"""Micro-batches of one shape: nothing lost, nothing seen across examples, the loss of the packed row."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.contract.spec import RunSpec
from stages.train.engine import Batch, Row
from stages.train.packed import PackedLoss
from stages.train.static import MicroBatch, Shape, StaticLoss, cut, lay_out, shape_of, within
from tests.models import codegen, llama


def make_row(lengths: list[int], seed: int = 0) -> Row:
    random = np.random.default_rng(seed)
    total = sum(lengths)
    mask = (random.random(total) < 0.8).astype(np.int8)
    mask[np.cumsum(lengths) - lengths] = 0
    return Row(random.integers(1, 200, total, dtype=np.int32), np.array(lengths, np.int32), mask)


def tensors(slots: list[Any], shape: Shape) -> MicroBatch:
    return MicroBatch(*(torch.from_numpy(array) for array in lay_out(slots, shape)))


def packed_arguments(row: Row) -> tuple[torch.Tensor, list[int], torch.Tensor]:
    return torch.from_numpy(row.input_ids).long(), row.lengths.tolist(), torch.from_numpy(row.loss_mask)


@pytest.mark.parametrize("architecture", [llama, codegen])
@pytest.mark.parametrize("head_chunk", [7, 2048])
def test_it_has_the_loss_and_gradients_of_the_packed_rows(architecture: Any, head_chunk: int) -> None:
    rows = [make_row([7, 1, 19], 1), make_row([5, 2], 2), make_row([30], 3)]
    torch.manual_seed(0)
    model = architecture(200)
    packed = PackedLoss(model)
    expected = sum(packed(*packed_arguments(row)) for row in rows)
    expected.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    found = StaticLoss(model, head_chunk)(tensors([(rows[0], rows[1]), (rows[2],), ()], Shape(3, 40)))
    found.backward()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-5)


@given(st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=5), min_size=1, max_size=12), st.integers(1, 4))
def test_every_token_is_in_one_slot_with_its_place_and_follower(lengths: list[list[int]], processes: int) -> None:
    shape = Shape(3, 160)
    batch = Batch(tuple(make_row(each, seed) for seed, each in enumerate(lengths)))
    shares = cut(batch, processes, shape)
    assert len({len(share) for share in shares}) == 1
    targets, places = 0, Counter[int]()
    for slots in (slots for share in shares for slots in share):
        micro = tensors(slots, shape)
        assert micro.input_ids.shape == shape
        targets += int(micro.weights.sum())
        assert (micro.segments > 0).sum() == sum(row.tokens for slot in slots for row in slot)
        places.update(micro.positions[micro.segments > 0].tolist())
        crossing = (micro.segments != micro.segments.roll(-1, 1)) & (micro.weights > 0)
        assert not crossing.any()
    assert targets == batch.num_targets
    assert places == Counter(place for each in lengths for length in each for place in range(length))


def test_a_token_sees_its_own_example_up_to_itself() -> None:
    visible = within(torch.tensor([[1, 1, 2, 0]])).visible[0, 0].int().tolist()
    assert visible == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("objective", "block_length", "expected"),
    [("alternate", 32, Shape(2, 256)), ("alternate", 512, Shape(1, 512)), ("fcft", 512, Shape(2, 256)),
     ("pretraining", 64, Shape(10, 64))],
)  # fmt: skip
def test_the_shape_holds_what_the_run_trains_on(objective: str, block_length: int, expected: Shape) -> None:
    train = {"objective": objective, "micro_batch_tokens": 640}
    build, pretraining = {"max_length": 256, "pack_length": 256}, {"block_length": block_length}
    spec = RunSpec.model_validate({"train": train, "build": build, "pretraining": pretraining})
    assert shape_of(spec) == expected
