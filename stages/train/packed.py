"""The loss of packed examples: one long row in which no example attends to another.

A micro-batch is a single row of tokens without padding. Position ids begin again at every example, and attention runs
over examples of like length at a time, so its cost is near the sum of the squared lengths of the examples and not the
square of the row's. That holds for models on transformers' attention interface (Llama, Qwen, ...) and for CodeGen,
which predates it.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, PreTrainedModel
from transformers.models.codegen.modeling_codegen import CodeGenAttention

from stages.contract.errors import ModelError

INTERFACE = "leti_packed"
ALIKE = 0.75
"""Shortest example, as a share of the longest, that attention takes together with it."""
HEAD_CHUNK = 2048
"""Targets whose logits exist at a time: 400 MB in fp32 at a vocabulary of 50 k."""


class Bucket(NamedTuple):
    """Examples of like length. Filled up at the end, where causal attention does not look, they need no mask."""

    shape: tuple[int, int]
    """Examples, tokens of the longest."""
    tokens: Tensor
    """[examples x longest]: which tokens of the row stand there; an example's last one also fills it up."""


class Attention(Protocol):
    """Says which tokens see each other, and computes their attention."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Return causal attention within each example; [rows, heads, tokens, head_dim], key heads may be fewer."""


class Layout(NamedTuple):
    """How a row's tokens are laid out for attention and brought back."""

    buckets: list[Bucket]
    places: Tensor
    """[tokens]: where each token of the row is among the outputs of all buckets, laid end to end."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Return causal attention within each example; there is one row."""
        grouped = query.shape[1] != key.shape[1]
        outputs = []
        for bucket in self.buckets:
            q, k, v = (_take(tensor, bucket) for tensor in (query, key, value))
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=grouped)
            outputs.append(out.transpose(0, 1).flatten(1, 2))
        return torch.cat(outputs, dim=1).index_select(1, self.places)[None]


def lay_out(lengths: list[int], device: torch.device) -> Layout:
    """Return the layout of a row of examples of these lengths."""
    starts = np.cumsum(lengths) - lengths
    places = np.empty(sum(lengths), dtype=np.int64)
    buckets, offset = [], 0
    for examples in _alike(lengths):
        longest = lengths[examples[0]]
        tokens = np.stack([starts[one] + np.minimum(np.arange(longest), lengths[one] - 1) for one in examples])
        for number, one in enumerate(examples):
            first = offset + number * longest
            places[starts[one] : starts[one] + lengths[one]] = np.arange(first, first + lengths[one])
        buckets.append(Bucket((len(examples), longest), torch.from_numpy(tokens.ravel()).to(device)))
        offset += tokens.size
    return Layout(buckets, torch.from_numpy(places).to(device))


def _alike(lengths: list[int]) -> list[list[int]]:
    """Return the examples' numbers in groups, longest first, none shorter than `ALIKE` of its group's longest."""
    groups: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        if groups and lengths[number] >= ALIKE * lengths[groups[-1][0]]:
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups


def _take(tensor: Tensor, bucket: Bucket) -> Tensor:
    """Return the bucket's tokens as [examples, heads, longest, head_dim]."""
    return tensor[0].index_select(1, bucket.tokens).unflatten(1, bucket.shape).transpose(0, 1)


def _interface(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    within: Attention,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers' interface calls it; returns [rows, tokens, heads, head_dim]."""
    for name in ("softcap", "s_aux"):
        if options.get(name) is not None:
            raise ModelError(f"{type(module).__name__} uses {name}, which packed attention has not; use another model")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return within.attend(query, key, value, scale).transpose(1, 2), None


AttentionInterface.register(INTERFACE, _interface)


class LossModule(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A causal language model whose forward pass is a loss, and whose attention is ours."""

    def __init__(self, model: PreTrainedModel, head_chunk: int = HEAD_CHUNK) -> None:
        super().__init__()
        self.model, self.head_chunk = model, head_chunk
        self.codegen = [module for module in model.modules() if isinstance(module, CodeGenAttention)]
        if not self.codegen:
            _use_interface(model)
        _switch_off_dropout(model)

    def hidden(self, input_ids: Tensor, positions: Tensor, within: Attention) -> Tensor:
        """Return the last hidden states, [rows, tokens, width]; `input_ids` and `positions` are [rows, tokens]."""
        options: dict[str, Any] = {} if self.codegen else {"within": within}
        for module in self.codegen:
            module._attn = _CodeGenAttend(module, within)
        output = self.model.base_model(input_ids=input_ids, position_ids=positions, use_cache=False, **options)
        states: Tensor = output.last_hidden_state
        return states

    def head_loss(self, hidden: Tensor, targets: Tensor, reduction: str = "sum") -> Tensor:
        """Return the cross-entropies, fp32, of `targets` ([tokens]) after `hidden` ([tokens, width])."""
        logits = self.model.get_output_embeddings()(hidden)
        return F.cross_entropy(logits.float(), targets, reduction=reduction)


class PackedLoss(LossModule):
    """The summed cross-entropy of examples packed end to end."""

    def forward(self, input_ids: Tensor, lengths: list[int], loss_mask: Tensor) -> Tensor:
        """Return the sum of the targets' cross-entropies, fp32. `input_ids` and `loss_mask` are [tokens]."""
        positions = torch.cat([torch.arange(length, device=input_ids.device) for length in lengths])
        layout = lay_out(lengths, input_ids.device)
        hidden = self.hidden(input_ids[None], positions[None], layout)[0]
        targets = loss_mask.nonzero().squeeze(1)
        return self._sum_over_chunks(hidden[targets - 1], input_ids[targets]) + 0 * hidden[0, 0]

    def _sum_over_chunks(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Sum chunk by chunk, logits computed again in the backward pass: they are the largest tensor of all."""
        if len(targets) <= self.head_chunk:
            return self.head_loss(hidden, targets)
        total = hidden.new_zeros((), dtype=torch.float32)
        for some, ids in zip(hidden.split(self.head_chunk), targets.split(self.head_chunk), strict=True):
            total = total + checkpoint(self.head_loss, some, ids, use_reentrant=False)
        return total


class _CodeGenAttend:
    """Stands in for `CodeGenAttention._attn`."""

    def __init__(self, module: nn.Module, within: Attention) -> None:
        self.scale, self.within = 1 / float(module.scale_attn), within

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> tuple[Tensor, None]:
        query, key = query.to(value.dtype), key.to(value.dtype)
        return self.within.attend(query, key, value, self.scale), None


def recompute_activations(model: PreTrainedModel) -> None:
    """Keep only each layer's input and compute the rest again in the backward pass."""
    # Renamed within transformers 5; the old name warns where the new one exists.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def _use_interface(model: PreTrainedModel) -> None:
    if not getattr(model, "_supports_attention_backend", False):
        raise ModelError(
            f"{type(model).__name__} is not on transformers' attention interface, so packed examples would see each "
            "other; use a Llama-like model or CodeGen"
        )
    model.config._attn_implementation = INTERFACE


def _switch_off_dropout(model: nn.Module) -> None:
    """The method trains without dropout, whatever the model's configuration says."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
