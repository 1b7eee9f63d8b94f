"""Keys and values of a batch whose shape never changes: a sample has a slot of fixed length for as long as it lives.

A slot holds its prompt, padded on the left to a bucket's width, and behind it the solution. Slots are at different
columns at the same time, so each writes where it is, and a mask hides what lies before its prompt or behind its newest
token. Whatever an earlier sample left there is never seen.

    column      0 1 2 3 4 5 6 7 8 . . .
    slot 0      . . # # # # # # #           prompt of 6 in a bucket of 8, 1 token written
    slot 1      # # # # . . . .             prompt of 4 in a bucket of 4
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer


class Cursor:
    """The columns that the slots write next, [slots]; shared by all layers."""

    def __init__(self, slots: int, device: torch.device) -> None:
        self.slots = torch.arange(slots, device=device)
        self.columns = torch.zeros(slots, dtype=torch.long, device=device)


class SlotLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's buffers, [slots, heads, columns, head size]."""

    def __init__(self, columns: int, like: DynamicLayer, cursor: Cursor) -> None:
        super().__init__()
        self.cursor, slots = cursor, len(cursor.slots)
        # Zeros, not what memory holds: hidden columns get no weight, but NaN times no weight is NaN.
        self.keys, self.values = (
            states.new_zeros(slots, states.shape[1], columns, states.shape[3]) for states in (like.keys, like.values)
        )
        self.dtype, self.device, self.is_initialized = self.keys.dtype, self.keys.device, True

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: object, **_kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write each slot's newest column; return everything."""
        self.keys[self.cursor.slots, :, self.cursor.columns] = key_states[:, :, 0]
        self.values[self.cursor.slots, :, self.cursor.columns] = value_states[:, :, 0]
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Columns besides the one that is being written."""
        return int(self.keys.shape[2]) - 1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys that a mask covers, and where they begin."""
        return int(self.keys.shape[2]), 0


class SlotCache:
    """The batch's cache; `as_cache` is what the model takes."""

    def __init__(self, slots: int, columns: int, *, like: DynamicCache) -> None:
        device = like.layers[0].keys.device
        self._cursor = Cursor(slots, device)
        layers = [SlotLayer(columns, layer, self._cursor) for layer in like.layers]
        self.as_cache = Cache(layers=layers)
        self._buffers = [buffer for layer in layers for buffer in (layer.keys, layer.values)]
        self._starts = torch.zeros(slots, dtype=torch.long, device=device)
        self._all = torch.arange(columns, device=device)

    def join(self, prompts: DynamicCache, sources: Tensor, joined: Tensor, starts: Tensor) -> None:
        """Give each slot that is `joined` ([slots], bool) a row of the prefill `prompts`.

        `sources`: [slots], which row; `starts`: [slots], the column its prompt begins at. Both are ignored elsewhere.
        """
        width = prompts.layers[0].keys.shape[2]
        here = joined[:, None, None, None]
        filled = (states for layer in prompts.layers for states in (layer.keys, layer.values))
        for buffer, states in zip(self._buffers, filled, strict=True):
            buffer[:, :, :width] = torch.where(here, states.index_select(0, sources), buffer[:, :, :width])
        self._starts = torch.where(joined, starts, self._starts)

    def advance(self, columns: Tensor) -> Tensor:
        """Have the slots write `columns` ([slots]) next; return the mask, [slots, 1, 1, columns], 0 or near -inf."""
        self._cursor.columns = columns
        visible = (self._all >= self._starts[:, None]) & (self._all <= columns[:, None])
        kind = self._buffers[0].dtype
        mask = torch.zeros(visible.shape, dtype=kind, device=visible.device)
        return mask.masked_fill_(~visible, torch.finfo(kind).min)[:, None, None, :]
