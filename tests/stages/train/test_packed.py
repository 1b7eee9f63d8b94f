"""Packed rows against the plainest thing that could be done: each example alone through the model's own forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stages.train.packed import PackedLoss, lay_out, recompute_activations
from tests.models import codegen, llama

LENGTHS = [7, 1, 19, 2, 12]
Architecture = Callable[..., Any]
architectures = pytest.mark.parametrize("architecture", [llama, codegen])


def make(architecture: Architecture, **changes: Any) -> Any:
    torch.manual_seed(0)
    return architecture(200, **changes)


def tokens() -> tuple[Tensor, Tensor]:
    """Ids and mask of the examples end to end, some tokens of each not targets."""
    torch.manual_seed(1)
    ids = torch.randint(0, 200, (sum(LENGTHS),))
    mask = (torch.rand(len(ids)) < 0.8).to(torch.int8)
    mask[torch.tensor(LENGTHS).cumsum(0) - torch.tensor(LENGTHS)] = 0
    return ids, mask


def one_by_one(model: Any, ids: Tensor, mask: Tensor) -> list[Tensor]:
    """The summed cross-entropy of each example, computed on its own."""
    losses = []
    for example, targets in zip(ids.split(LENGTHS), mask.split(LENGTHS), strict=True):
        logits = model(input_ids=example[None]).logits[0].float()
        chosen = targets[1:].bool()
        losses.append(F.cross_entropy(logits[:-1][chosen], example[1:][chosen], reduction="sum"))
    return losses


def padded(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """The summed cross-entropy of the examples as a batch padded on the right."""
    longest = max(LENGTHS)
    fill = [F.pad(example, (0, longest - len(example))) for example in ids.split(LENGTHS)]
    seen = [F.pad(torch.ones(length), (0, longest - length)) for length in LENGTHS]
    targets = torch.stack([F.pad(part, (0, longest - len(part))) for part in mask.split(LENGTHS)])[:, 1:].bool()
    logits = model(input_ids=torch.stack(fill), attention_mask=torch.stack(seen).long()).logits.float()
    return F.cross_entropy(logits[:, :-1][targets], torch.stack(fill)[:, 1:][targets], reduction="sum")


def gradients(model: Any, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


@architectures
@pytest.mark.parametrize("reference", [padded, lambda *given: sum(one_by_one(*given))], ids=["padded", "one_by_one"])
def test_a_packed_row_has_the_loss_and_gradients_of_its_examples(
    architecture: Architecture, reference: Callable[..., Tensor]
) -> None:
    ids, mask = tokens()
    plain, packed = make(architecture), PackedLoss(make(architecture))
    expected, found = reference(plain, ids, mask), packed(ids, LENGTHS, mask)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    wanted, got = gradients(plain, expected), gradients(packed.model, found)
    assert wanted.keys() <= got.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(
            got[name], gradient, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


@architectures
def test_examples_do_not_see_each_other(architecture: Architecture) -> None:
    ids, mask = tokens()
    packed = PackedLoss(make(architecture))
    last = torch.zeros_like(mask)
    last[-LENGTHS[-1] + 1 :] = 1
    before = packed(ids, LENGTHS, last)
    changed = ids.clone()
    changed[: -LENGTHS[-1]] = (ids[: -LENGTHS[-1]] + 1) % 200
    assert packed(changed, LENGTHS, last).item() == before.item()
    assert packed(changed, LENGTHS, mask).item() != packed(ids, LENGTHS, mask).item()


@architectures
def test_the_order_of_examples_does_not_matter(architecture: Architecture) -> None:
    ids, mask = tokens()
    packed = PackedLoss(make(architecture))
    turned_ids, turned_mask = (torch.cat(list(reversed(part.split(LENGTHS)))) for part in (ids, mask))
    torch.testing.assert_close(packed(turned_ids, LENGTHS[::-1], turned_mask), packed(ids, LENGTHS, mask))


@architectures
def test_activation_checkpointing_changes_nothing(architecture: Architecture) -> None:
    ids, mask = tokens()
    plain, saving = PackedLoss(make(architecture)), PackedLoss(make(architecture))
    recompute_activations(saving.model)
    saving.train()
    expected = gradients(plain.model, plain(ids, LENGTHS, mask))
    found = gradients(saving.model, saving(ids, LENGTHS, mask))
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_the_head_works_in_chunks_of_any_size(chunk: int) -> None:
    ids, mask = tokens()
    whole, cut = PackedLoss(make(llama)), PackedLoss(make(llama), head_chunk=chunk)
    torch.testing.assert_close(cut(ids, LENGTHS, mask), whole(ids, LENGTHS, mask))


def test_a_row_without_targets_has_zero_loss_and_gradients_for_every_parameter() -> None:
    ids, mask = tokens()
    packed = PackedLoss(make(codegen))
    loss = packed(ids, LENGTHS, torch.zeros_like(mask))
    assert loss.item() == 0
    found = gradients(packed.model, loss)
    assert found.keys() == {name for name, _ in packed.model.named_parameters()}
    assert all(not gradient.any() for gradient in found.values())


def test_dropout_of_the_configuration_is_switched_off() -> None:
    ids, mask = tokens()
    packed = PackedLoss(make(codegen, resid_pdrop=0.5, attn_pdrop=0.5, embd_pdrop=0.5)).train()
    assert packed(ids, LENGTHS, mask).item() == packed(ids, LENGTHS, mask).item()


@given(st.lists(st.integers(1, 60), min_size=1, max_size=20))
def test_attention_finds_every_token_where_it_laid_it(lengths: list[int]) -> None:
    layout = lay_out(lengths, torch.device("cpu"))
    laid = torch.cat([bucket.tokens for bucket in layout.buckets])
    assert laid[layout.places].tolist() == list(range(sum(lengths)))
    assert sum(bucket.shape[0] for bucket in layout.buckets) == len(lengths)
