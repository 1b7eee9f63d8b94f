"""Keys and values of a batch whose rows come and go.

Every live row ends at the same column, so that one step writes one column for all rows; rows begin at different
columns and a mask hides what lies before. Live rows are the first ones: the last row moves into the place of one that
finished, which copies one row instead of the batch.

    column      0 1 2 3 4 5 6 7 8 . . .
    row 0           # # # # # # #
    row 1       # # # # # # # # #
    row 2                 # # # #          joined later
                                ^ next step writes column 9
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer


class Columns:
    """Which part of the buffers is live: rows [0, rows), columns [start, stop)."""

    def __init__(self) -> None:
        self.rows = self.start = self.stop = 0


class ColumnLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's buffers, [rows, heads, columns, head size]."""

    def __init__(self, rows: int, columns: int, like: DynamicLayer, live: Columns) -> None:
        super().__init__()
        self.live = live
        # Zeros, not what memory holds: hidden columns get no weight, but NaN times no weight is NaN.
        self.keys, self.values = (
            states.new_zeros(rows, states.shape[1], columns, states.shape[3]) for states in (like.keys, like.values)
        )
        self.dtype, self.device, self.is_initialized = self.keys.dtype, self.keys.device, True

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: object, **_kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write the newest column of every live row; return what is live."""
        rows, start, stop = self.live.rows, self.live.start, self.live.stop
        self.keys[:rows, :, stop - 1] = key_states[:, :, 0]
        self.values[:rows, :, stop - 1] = value_states[:, :, 0]
        return self.keys[:rows, :, start:stop], self.values[:rows, :, start:stop]

    def get_seq_length(self) -> int:
        """Columns before the one that is being written."""
        return self.live.stop - self.live.start - 1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys that a mask covers, and where they begin."""
        return self.live.stop - self.live.start, 0


class ColumnCache:
    """The batch's cache; `as_cache` is what the model takes."""

    def __init__(self, rows: int, columns: int, *, like: DynamicCache) -> None:
        self.columns, self.live = columns, Columns()
        self._starts: list[int] = []
        layers = [ColumnLayer(rows, columns, layer, self.live) for layer in like.layers]
        self.as_cache = Cache(layers=layers)
        self._buffers = [buffer for layer in layers for buffer in (layer.keys, layer.values)]
        self._device = self._buffers[0].device
        self._dtype = self._buffers[0].dtype

    @property
    def rows(self) -> int:
        """Live rows."""
        return self.live.rows

    def join(self, prompts: DynamicCache, sources: list[int], lengths: list[int]) -> None:
        """Append a row for each of `sources`, rows of a left-padded prefill whose last columns are `lengths` long."""
        width = prompts.layers[0].keys.shape[2]
        if self.rows == 0:
            self.live.stop = width
        elif self.live.stop < max(lengths):
            self._shift(max(lengths) - self.live.stop)
        new, longest, stop = slice(self.rows, self.rows + len(sources)), max(lengths), self.live.stop
        index = torch.tensor(sources, device=self._device)
        filled = (states for layer in prompts.layers for states in (layer.keys, layer.values))
        for buffer, states in zip(self._buffers, filled, strict=True):
            buffer[new, :, stop - longest : stop] = states[index, :, width - longest :]
        self._starts += [stop - length for length in lengths]
        self._refresh()

    def remove(self, row: int) -> None:
        """Take a row out; the last row moves into its place."""
        last = self.rows - 1
        if row != last:
            for buffer in self._buffers:
                buffer[row, :, self.live.start : self.live.stop] = buffer[last, :, self.live.start : self.live.stop]
            self._starts[row] = self._starts[last]
        self._starts.pop()
        self._refresh()

    def advance(self) -> Tensor:
        """Open the next column and return its mask: [rows, 1, 1, live columns], 0 or the dtype's smallest number."""
        if self.live.stop == self.columns:
            self._shift(-self.live.start)
        self.live.stop += 1
        starts = torch.tensor(self._starts, device=self._device)
        columns = torch.arange(self.live.start, self.live.stop, device=self._device)
        hidden = columns[None, :] < starts[:, None]
        mask = torch.zeros(hidden.shape, dtype=self._dtype, device=self._device)
        return mask.masked_fill_(hidden, torch.finfo(self._dtype).min)[:, None, None, :]

    def _refresh(self) -> None:
        self.live.rows = len(self._starts)
        self.live.start = min(self._starts, default=self.live.stop)

    def _shift(self, by: int) -> None:
        """Move the live columns right by `by` (left where negative)."""
        rows, start, stop = self.rows, self.live.start, self.live.stop
        for buffer in self._buffers:
            buffer[:rows, :, start + by : stop + by] = buffer[:rows, :, start:stop].clone()
        self.live.stop += by
        self._starts = [begin + by for begin in self._starts]
        self._refresh()
