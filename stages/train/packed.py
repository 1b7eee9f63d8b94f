"""The loss of packed examples: one long row in which no example attends to another.

A micro-batch is a single row of tokens without padding. Position ids begin again at every example, and attention is
computed example by example, so its cost is the sum of the squared lengths of the examples and not the square of the
row's. That holds for models on transformers' attention interface (Llama, Qwen, ...) and for CodeGen, which predates it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, PreTrainedModel
from transformers.models.codegen.modeling_codegen import CodeGenAttention

from stages.contract.errors import ModelError

INTERFACE = "leti_packed"
HEAD_CHUNK = 2048
"""Targets whose logits exist at a time: 400 MB in fp32 at a vocabulary of 50 k."""


def attend(query: Tensor, key: Tensor, value: Tensor, lengths: list[int], scale: float) -> Tensor:
    """Return causal attention within each example; [1, heads, tokens, head_dim] throughout, fewer key heads allowed."""
    spans = zip(*(tensor.split(lengths, dim=2) for tensor in (query, key, value)), strict=True)
    grouped = query.shape[1] != key.shape[1]
    outputs = [
        F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=grouped) for q, k, v in spans
    ]
    return torch.cat(outputs, dim=2)


def _interface(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    lengths: list[int],
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers' interface calls it; returns [1, tokens, heads, head_dim]."""
    for name in ("softcap", "s_aux"):
        if options.get(name) is not None:
            raise ModelError(f"{type(module).__name__} uses {name}, which packed attention has not; use another model")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return attend(query, key, value, lengths, scale).transpose(1, 2), None


AttentionInterface.register(INTERFACE, _interface)


class PackedLoss(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A causal language model whose forward pass is the summed cross-entropy of packed examples."""

    def __init__(self, model: PreTrainedModel, head_chunk: int = HEAD_CHUNK) -> None:
        super().__init__()
        self.model, self.head_chunk = model, head_chunk
        self.codegen = [module for module in model.modules() if isinstance(module, CodeGenAttention)]
        if not self.codegen:
            _use_interface(model)
        _switch_off_dropout(model)

    def forward(self, input_ids: Tensor, lengths: list[int], loss_mask: Tensor) -> Tensor:
        """Return the sum of the targets' cross-entropies, fp32. `input_ids` and `loss_mask` are [tokens]."""
        positions = torch.cat([torch.arange(length, device=input_ids.device) for length in lengths])
        options: dict[str, Any] = {} if self.codegen else {"lengths": lengths}
        for module in self.codegen:
            module._attn = _CodeGenAttend(module, lengths)
        hidden = self.model.base_model(
            input_ids=input_ids[None], position_ids=positions[None], use_cache=False, **options
        ).last_hidden_state[0]
        targets = loss_mask.nonzero().squeeze(1)
        return self._sum_over_chunks(hidden[targets - 1], input_ids[targets]) + 0 * hidden[0, 0]

    def _sum_over_chunks(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Sum chunk by chunk, logits computed again in the backward pass: they are the largest tensor of all."""
        if len(targets) <= self.head_chunk:
            return self._head_loss(hidden, targets)
        total = hidden.new_zeros((), dtype=torch.float32)
        for some, ids in zip(hidden.split(self.head_chunk), targets.split(self.head_chunk), strict=True):
            total = total + checkpoint(self._head_loss, some, ids, use_reentrant=False)
        return total

    def _head_loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        logits = self.model.get_output_embeddings()(hidden)
        return F.cross_entropy(logits.float(), targets, reduction="sum")


class _CodeGenAttend:
    """Stands in for `CodeGenAttention._attn`."""

    def __init__(self, module: nn.Module, lengths: list[int]) -> None:
        self.scale, self.lengths = 1 / float(module.scale_attn), lengths

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> tuple[Tensor, None]:
        query, key = query.to(value.dtype), key.to(value.dtype)
        return attend(query, key, value, self.lengths, self.scale), None


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
