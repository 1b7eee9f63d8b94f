"""Micro-batches of one shape, padded as far as it takes, for devices that compile a program per shape.

A slot is one row of the shape. Several packed rows may share a slot, as several examples share a packed row: segment
ids say which tokens see each other. Slots without rows, and tokens behind the last row of a slot, have segment 0, are
nobody's target and see only each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from stages.contract.spec import RunSpec
from stages.train.engine import Batch, Row
from stages.train.packed import LossModule
from stages.train.plan import divide

Slot = tuple[Row, ...]


class Shape(NamedTuple):
    """The shape of every micro-batch."""

    rows: int
    length: int
    """Tokens per row."""


class MicroBatch(NamedTuple):
    """Tensors of [rows, length]; on the host they are numpy arrays."""

    input_ids: Tensor
    """int64."""
    segments: Tensor
    """int32: the example's number within its slot, from 1; 0 is padding."""
    positions: Tensor
    """int64: the token's place in its example."""
    next_ids: Tensor
    """int64: the token that follows."""
    weights: Tensor
    """fp32: 1 where the token that follows is a target, else 0."""


def shape_of(spec: RunSpec) -> Shape:
    """Return the shape that holds every row of the run, as many rows as `train.micro_batch_tokens` allows."""
    lengths = [spec.build.pack_length] if spec.uses_samples() else []
    lengths += [spec.pretraining.block_length] if spec.uses_pretraining() else []
    return Shape(max(1, spec.train.micro_batch_tokens // max(lengths)), max(lengths))


def cut(batch: Batch, processes: int, shape: Shape) -> list[list[list[Slot]]]:
    """Return the slots of each process's micro-batches: equally many micro-batches for all, equally many slots in each.

    Processes get about equal shares; slots that stay empty pad the last micro-batch.
    """
    shares = divide(batch, processes, shape.length)
    whole = -(-len(shares[0]) // shape.rows) * shape.rows
    padded = [[*share, *[()] * (whole - len(share))] for share in shares]
    return [[share[first : first + shape.rows] for first in range(0, whole, shape.rows)] for share in padded]


def lay_out(slots: Sequence[Slot], shape: Shape) -> Iterator[NDArray[np.generic]]:
    """Yield the arrays of a `MicroBatch`, in its order."""
    ids, positions = np.zeros((2, *shape), dtype=np.int64)
    segments, weights = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.float32)
    for number, slot in enumerate(slots):
        lengths = np.concatenate([row.lengths for row in slot]) if slot else np.zeros(0, dtype=np.int64)
        used = slice(0, int(lengths.sum()))
        if not slot:
            continue
        ids[number, used] = np.concatenate([row.input_ids for row in slot])
        segments[number, used] = np.repeat(np.arange(1, len(lengths) + 1), lengths)
        positions[number, used] = np.concatenate([np.arange(length) for length in lengths])
        # An example's first token is never a target, so no token is weighed for one of the next example.
        weights[number, : used.stop - 1] = np.concatenate([row.loss_mask for row in slot])[1:]
    yield from (ids, segments, positions, np.roll(ids, -1, axis=1), weights)


class Segments(NamedTuple):
    """Attention within segments, by a mask over the whole row."""

    visible: Tensor
    """[rows, 1, length, length]: whether a token (third axis) sees another (fourth)."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Return causal attention within each segment."""
        grouped = query.shape[1] != key.shape[1]
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=self.visible, scale=scale, enable_gqa=grouped
        )


def within(segments: Tensor) -> Segments:
    """Return the attention of segment ids, [rows, length]; every token sees at least itself."""
    length = segments.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    return Segments(((segments[:, :, None] == segments[:, None, :]) & causal)[:, None])


class StaticLoss(LossModule):
    """The summed cross-entropy of a micro-batch, by operations whose shapes depend on its shape alone."""

    def forward(self, micro: MicroBatch) -> Tensor:
        """Return the sum of the targets' cross-entropies, fp32."""
        hidden = self.hidden(micro.input_ids, micro.positions, within(micro.segments)).flatten(0, 1)
        targets, weights = micro.next_ids.flatten(), micro.weights.flatten()
        if len(targets) <= self.head_chunk:
            return self._weighed(hidden, targets, weights)
        # Logits are computed again in the backward pass, chunk by chunk: they are the largest tensor of all.
        parts = zip(*(whole.split(self.head_chunk) for whole in (hidden, targets, weights)), strict=True)
        return torch.stack([checkpoint(self._weighed, *part, use_reentrant=False) for part in parts]).sum()

    def _weighed(self, hidden: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        return (self.head_loss(hidden, targets, "none") * weights).sum()
