"""Decoding with tensors of few, fixed shapes, for devices that compile a program per shape.

There is one shape per bucket of prompt lengths for reading prompts, and one for writing; both stay the same from the
first sample of a part to the last. Samples are those of `decode`, token for token, up to the rounding of the logits:
the numbers behind them are a hash of seed and position and nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache

from stages.contract.spec import Sampling
from stages.generate.decode import (
    PREFILL_TOKENS,
    REFILL_SHARE,
    Prompt,
    Row,
    Tally,
    Written,
    finished,
    forward,
    queue,
    unwritten,
)
from stages.generate.sampling import Sampler, uniforms
from stages.generate.slots import SlotCache
from stages.generate.transformer import TransformersEngine

SMALLEST_BUCKET = 64
COLUMNS_MULTIPLE = 128
"""Slots are as long as a multiple of so many columns, so that parts of a pass mostly share their programs."""
LOOK_EVERY = {"tpu": 8}
"""Tokens written before the host looks which samples ended. Until then a TPU works ahead, some of it for nothing."""


class Prefill(NamedTuple):
    """What the model made of some prompts of one bucket."""

    width: int
    cache: DynamicCache
    logits: Tensor
    """[rows, vocabulary]: for the token after each prompt."""
    rows: dict[int, int]
    """Which row is which prompt's."""


class StaticDecoder:
    """Writes the samples of many prompts with one model, in slots."""

    def __init__(self, model: PreTrainedModel, sampler: Sampler, ends: frozenset[int], batch_size: int) -> None:
        self.model, self.sampler, self.ends, self.batch_size = model, sampler, ends, batch_size
        self.tally = Tally()
        self.look_every = LOOK_EVERY.get(model.device.type, 1)
        self._slots: list[Row | None] = []
        self._widths: list[int] = []
        self._cache: SlotCache | None = None
        self._prefills: list[Prefill] = []

    def run(self, prompts: Sequence[Prompt]) -> Iterator[list[Written]]:
        """Yield after every look the samples that ended with it; those of a prompt with a limit of 0 are empty."""
        yield from unwritten(prompts)
        waiting = queue(prompts)
        size = min(self.batch_size, len(waiting))
        self._slots, self._widths = [None] * size, [0] * size
        self.columns = _rounded(max((bucket(row.prompt_length) + row.limit for row in waiting), default=0))
        self.together = max(1, -(-size // max((len(prompt.seeds) for prompt in prompts), default=1)))
        while waiting or any(self._slots):
            # Not around the loop: whoever takes the samples in between does not run in inference mode.
            with torch.inference_mode():
                free = self._slots.count(None)
                if waiting and free >= max(1, size // REFILL_SHARE):
                    self._join([waiting.popleft() for _ in range(min(free, len(waiting)))], prompts)
                    self._forget(waiting)
                else:
                    self._write()
                ended = list(self._finished())
            yield ended
        self._cache = None

    def _join(self, joining: list[Row], prompts: Sequence[Prompt]) -> None:
        """Give rows slots, each with the first token after its prompt."""
        started = perf_counter()
        known = {number for prefill in self._prefills for number in prefill.rows}
        unread = [number for number in dict.fromkeys(row.prompt for row in joining) if number not in known]
        for width, numbers in _chunks(unread, prompts, self.together):
            self._prefills.append(self._prefill(width, numbers, [prompts[number].ids for number in numbers]))
        free = deque(number for number, row in enumerate(self._slots) if row is None)
        for prefill in self._prefills:
            placed = {free.popleft(): row for row in joining if row.prompt in prefill.rows}
            if placed:
                self._enter(placed, prefill)
        self.tally.prefill_seconds += perf_counter() - started

    def _prefill(self, width: int, numbers: list[int], prompts: list[list[int]]) -> Prefill:
        """Read prompts, padded on the left to the bucket's width and with empty rows to its number of rows."""
        height = _height(width, self.together)
        lengths = torch.tensor([len(ids) for ids in prompts] + [1] * (height - len(prompts)))
        ids = torch.zeros(height, width, dtype=torch.long)
        for row, prompt in zip(ids, prompts, strict=False):
            row[width - len(prompt) :] = torch.tensor(prompt)
        columns = torch.arange(width)
        starts = width - lengths[:, None]
        visible = (columns >= starts)[:, None, :] & (columns <= columns[:, None])
        mask = torch.zeros(visible.shape, dtype=self.model.dtype)
        mask.masked_fill_(~visible, torch.finfo(mask.dtype).min)
        cache = DynamicCache()
        logits = forward(self.model, ids, mask[:, None], (columns - starts).clamp(min=0), cache)
        self.tally.prefilled_prompts += len(prompts)
        return Prefill(width, cache, logits, {number: row for row, number in enumerate(numbers)})

    def _enter(self, placed: dict[int, Row], prefill: Prefill) -> None:
        self._cache = self._cache or SlotCache(len(self._slots), self.columns, like=prefill.cache)
        sources, starts = torch.zeros((2, len(self._slots)), dtype=torch.long)
        joined = torch.zeros(len(self._slots), dtype=torch.bool)
        for slot, row in placed.items():
            sources[slot], starts[slot] = prefill.rows[row.prompt], prefill.width - row.prompt_length
            joined[slot] = True
            self._slots[slot], self._widths[slot] = row, prefill.width
        sources, starts, joined = (tensor.to(self.model.device) for tensor in (sources, starts, joined))
        self._cache.join(prefill.cache, sources, joined, starts)
        first = self.sampler.draw(prefill.logits.index_select(0, sources), self._draws(0)).tolist()
        for slot, row in placed.items():
            row.ids.append(first[slot])
        self.tally.tokens += len(placed)

    def _write(self) -> None:
        """Add tokens to every row, as many as are written between two looks or fewer where it ends before."""
        started = perf_counter()
        newest = self._per_slot([row.ids[-1] if row else 0 for row in self._slots])
        written = []
        for ahead in range(self.look_every):
            newest = self._step(newest, ahead)
            written.append(newest)
        for row, ids in zip(self._slots, torch.stack(written, 1).tolist(), strict=True):
            if row is not None:
                kept = _until_end(ids[: row.limit - len(row.ids)], self.ends)
                row.ids += kept
                self.tally.tokens += len(kept)
        self.tally.steps += self.look_every
        self.tally.decode_seconds += perf_counter() - started

    def _step(self, newest: Tensor, ahead: int) -> Tensor:
        """Return the token after `newest`, [slots], of which the host has not seen the last `ahead`."""
        assert self._cache is not None, "rows are joined before they are stepped"
        places = [len(row.ids) - 1 + ahead if row else 0 for row in self._slots]
        positions = self._per_slot(
            [row.prompt_length + at if row else 0 for row, at in zip(self._slots, places, strict=True)]
        )
        ends = [min(width + at, self.columns - 1) for width, at in zip(self._widths, places, strict=True)]
        mask = self._cache.advance(self._per_slot(ends))
        logits = forward(self.model, newest[:, None], mask, positions[:, None], self._cache.as_cache)
        return self.sampler.draw(logits, self._draws(ahead))

    def _draws(self, ahead: int) -> Tensor:
        """Return the number behind each slot's next token but `ahead`; slots without a row get one nobody uses."""
        seeds = np.array([row.seed if row else 0 for row in self._slots], np.uint64)
        numbers = np.array([len(row.ids) + ahead if row else 0 for row in self._slots], np.uint64)
        return torch.from_numpy(uniforms(seeds, numbers)).to(self.model.device)

    def _per_slot(self, values: list[int]) -> Tensor:
        return torch.tensor(values).to(self.model.device)

    def _finished(self) -> Iterator[Written]:
        """Take the samples that have ended out of their slots."""
        for slot, row in enumerate(self._slots):
            if row is None:
                continue
            written = finished(row, self.ends)
            if written is None:
                continue
            yield written
            self._slots[slot] = None

    def _forget(self, waiting: deque[Row]) -> None:
        """Drop prefills whose prompts have no sample left to start."""
        needed = waiting[0].prompt if waiting else None
        self._prefills = [prefill for prefill in self._prefills if needed in prefill.rows]


class StaticEngine(TransformersEngine):
    """Samples with a model from a checkpoint folder, in fixed shapes."""

    def make_decoder(self, sampling: Sampling) -> StaticDecoder:
        """Return what writes the samples."""
        sampler = Sampler(sampling, self._banned(), self.model.device, static=True)
        return StaticDecoder(self.model, sampler, self.codec.ends, self.batch_size)


def bucket(length: int) -> int:
    """Return the width that prompts of this length are padded to: a power of two."""
    return max(SMALLEST_BUCKET, 1 << (length - 1).bit_length())


def _height(width: int, together: int) -> int:
    """Return how many prompts of a bucket are read together."""
    return max(1, min(together, PREFILL_TOKENS // width))


def _rounded(columns: int) -> int:
    return -(-columns // COLUMNS_MULTIPLE) * COLUMNS_MULTIPLE


def _until_end(ids: list[int], ends: frozenset[int]) -> list[int]:
    """Return the ids up to the first that ends a sample, and with it."""
    last = next((place for place, number in enumerate(ids) if number in ends), len(ids))
    return ids[: last + 1]


def _chunks(numbers: list[int], prompts: Sequence[Prompt], together: int) -> Iterator[tuple[int, list[int]]]:
    """Split prompts, longest first, into what is read together: width, and prompts of that bucket."""
    while numbers:
        width = bucket(len(prompts[numbers[0]].ids))
        alike = [number for number in numbers if bucket(len(prompts[number].ids)) == width]
        taken = alike[: _height(width, together)]
        yield width, taken
        numbers = numbers[len(taken) :]
