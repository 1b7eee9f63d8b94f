"""Continuous batching: a sample that ends makes room for the next one, and every prompt is read once.

The n samples of a problem share their prompt's prefill. Prompts go longest first, so that rows beside each other are
alike in length, and a batch is filled up when a quarter of it has become free: often enough to stay busy, seldom
enough that prompts are prefilled several at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache

from stages.contract.records import FinishReason
from stages.generate.cache import ColumnCache
from stages.generate.sampling import Sampler, uniforms

SLACK_COLUMNS = 64
"""Cache columns beyond the longest row; when they are used up, the batch moves to the left once."""
REFILL_SHARE = 4
"""New samples join when one part in so many of the batch is free; 1 would wait until all of it is."""
PREFILL_TOKENS = 8192
"""Padded tokens of one prefill; bounds its memory."""


class Prompt(NamedTuple):
    """A problem's prompt, its samples' seeds, and how many tokens each sample may have."""

    ids: list[int]
    seeds: tuple[int, ...]
    limit: int


class Written(NamedTuple):
    """The ids of one finished sample, without the end-of-sequence token."""

    prompt: int
    sample: int
    ids: list[int]
    finish_reason: FinishReason


@dataclass
class Row:
    """A sample that is being written."""

    prompt: int
    sample: int
    seed: int
    prompt_length: int
    limit: int
    ids: list[int] = field(default_factory=list)


class Prefill(NamedTuple):
    """What the model made of some prompts, and which row is whose."""

    cache: DynamicCache
    logits: Tensor
    """[prompts, vocabulary]: for the token after each prompt."""
    rows: dict[int, int]


@dataclass
class Tally:
    """What decoding did and where its time went."""

    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    prefilled_prompts: int = 0
    steps: int = 0
    tokens: int = 0


class Decoder:
    """Writes the samples of many prompts with one model."""

    def __init__(self, model: PreTrainedModel, sampler: Sampler, ends: frozenset[int], batch_size: int) -> None:
        self.model, self.sampler, self.ends, self.batch_size = model, sampler, ends, batch_size
        self.tally = Tally()
        self._rows: list[Row] = []
        self._cache: ColumnCache | None = None
        self._prefills: list[Prefill] = []

    def run(self, prompts: Sequence[Prompt]) -> Iterator[list[Written]]:
        """Yield after every step the samples that ended with it; those of a prompt with a limit of 0 are empty."""
        yield from unwritten(prompts)
        waiting = queue(prompts)
        size = min(self.batch_size, len(waiting))
        columns = max((row.prompt_length + row.limit for row in waiting), default=0) + SLACK_COLUMNS
        while waiting or self._rows:
            # Not around the loop: whoever takes the samples in between does not run in inference mode.
            with torch.inference_mode():
                free = size - len(self._rows)
                if waiting and free >= max(1, size // REFILL_SHARE):
                    self._join([waiting.popleft() for _ in range(min(free, len(waiting)))], prompts, (size, columns))
                    self._forget(waiting)
                else:
                    self._step()
                ended = list(self._finished())
            yield ended
        self._cache = None

    def _join(self, joining: list[Row], prompts: Sequence[Prompt], room: tuple[int, int]) -> None:
        """Append rows to the batch, each with the first token after its prompt."""
        started = perf_counter()
        known = {number for prefill in self._prefills for number in prefill.rows}
        unread = [number for number in dict.fromkeys(row.prompt for row in joining) if number not in known]
        for numbers in _chunks(unread, prompts):
            self._prefills.append(self._prefill(numbers, [prompts[number].ids for number in numbers]))
        for prefill in self._prefills:
            rows = [row for row in joining if row.prompt in prefill.rows]
            sources = [prefill.rows[row.prompt] for row in rows]
            if rows:
                self._cache = self._cache or ColumnCache(*room, like=prefill.cache)
                self._cache.join(prefill.cache, sources, [row.prompt_length for row in rows])
                self._draw(rows, prefill.logits[sources])
                self._rows += rows
        self.tally.prefill_seconds += perf_counter() - started

    def _prefill(self, numbers: list[int], prompts: list[list[int]]) -> Prefill:
        """Read prompts, padded on the left so that all end at the last column."""
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        cache = DynamicCache()
        logits = forward(self.model, ids, mask, positions, cache)
        self.tally.prefilled_prompts += len(prompts)
        return Prefill(cache, logits, {number: row for row, number in enumerate(numbers)})

    def _step(self) -> None:
        """Add one token to every row."""
        started = perf_counter()
        assert self._cache is not None, "rows are joined before they are stepped"
        newest = torch.tensor([[row.ids[-1]] for row in self._rows])
        positions = torch.tensor([[row.prompt_length + len(row.ids) - 1] for row in self._rows])
        mask = self._cache.advance()
        self._draw(self._rows, forward(self.model, newest, mask, positions, self._cache.as_cache))
        self.tally.steps += 1
        self.tally.decode_seconds += perf_counter() - started

    def _draw(self, rows: list[Row], logits: Tensor) -> None:
        seeds = np.array([row.seed for row in rows], np.uint64)
        numbers = np.array([len(row.ids) for row in rows], np.uint64)
        draws = torch.from_numpy(uniforms(seeds, numbers)).to(logits.device)
        for row, token in zip(rows, self.sampler.draw(logits, draws).tolist(), strict=True):
            row.ids.append(token)
        self.tally.tokens += len(rows)

    def _finished(self) -> Iterator[Written]:
        """Take the samples that have ended out of the batch."""
        assert self._cache is not None, "only joined rows can end"
        # From the last row down: the row that moves into a gap has been looked at already.
        for number in reversed(range(len(self._rows))):
            row = self._rows[number]
            written = finished(row, self.ends)
            if written is None:
                continue
            yield written
            self._cache.remove(number)
            self._rows[number] = self._rows[-1]
            self._rows.pop()

    def _forget(self, waiting: deque[Row]) -> None:
        """Drop prefills whose prompts have no sample left to start."""
        needed = waiting[0].prompt if waiting else None
        self._prefills = [prefill for prefill in self._prefills if needed in prefill.rows]


def forward(model: PreTrainedModel, ids: Tensor, mask: Tensor, positions: Tensor, cache: Cache) -> Tensor:
    """Return the logits after the last column, [rows, vocabulary]; `cache` takes the columns in."""
    output = model(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        position_ids=positions.to(model.device),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits: Tensor = output.logits[:, -1]
    return logits


def unwritten(prompts: Sequence[Prompt]) -> Iterator[list[Written]]:
    """Yield the samples of prompts that leave no room for any token."""
    for number, prompt in enumerate(prompts):
        if prompt.limit == 0:
            yield [Written(number, sample, [], "length") for sample in range(len(prompt.seeds))]


def finished(row: Row, ends: frozenset[int]) -> Written | None:
    """Return the sample if its newest token ended it, else None."""
    if row.ids[-1] in ends:
        return Written(row.prompt, row.sample, row.ids[:-1], "eos")
    return Written(row.prompt, row.sample, row.ids, "length") if len(row.ids) == row.limit else None


def queue(prompts: Sequence[Prompt]) -> deque[Row]:
    """Return the samples to write, those with the longest prompts first, a prompt's samples side by side."""
    order = sorted(range(len(prompts)), key=lambda number: -len(prompts[number].ids))
    return deque(
        Row(number, sample, seed, len(prompts[number].ids), prompts[number].limit)
        for number in order
        for sample, seed in enumerate(prompts[number].seeds)
        if prompts[number].limit > 0
    )


def _chunks(numbers: list[int], prompts: Sequence[Prompt]) -> Iterator[list[int]]:
    """Split prompts, longest first, so that each chunk padded to its longest stays within `PREFILL_TOKENS`."""
    while numbers:
        count = max(1, PREFILL_TOKENS // len(prompts[numbers[0]].ids))
        yield numbers[:count]
        numbers = numbers[count:]
