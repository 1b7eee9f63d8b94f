"""The seam between the stage, which decides what is trained and when it is saved, and whatever does the training.

A trainer never sees the run or the store. It is given whole steps and gives back their loss; how it cuts a step into
micro-batches, pads rows or shares them out among processes is its own affair, as long as the loss is the mean over the
targets of the whole step and no example sees another.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Stream = Literal["fcft", "pretraining", "joint"]


class Row(NamedTuple):
    """Examples laid end to end, which may not attend to each other."""

    input_ids: NDArray[np.int32]
    """[tokens]"""
    lengths: NDArray[np.int32]
    """[examples]; sums to the tokens."""
    loss_mask: NDArray[np.int8]
    """[tokens]; 1 where a token is a target, never an example's first."""

    @property
    def tokens(self) -> int:
        """Tokens of the row."""
        return len(self.input_ids)


class Batch(NamedTuple):
    """Rows whose losses are averaged together."""

    rows: tuple[Row, ...]

    @property
    def tokens(self) -> int:
        """Tokens of all rows."""
        return sum(row.tokens for row in self.rows)

    @property
    def num_targets(self) -> int:
        """Targets of all rows."""
        return int(sum(int(row.loss_mask.sum()) for row in self.rows))


class Step(NamedTuple):
    """One optimizer step. Its loss is the sum of its batches' mean losses; only a joint step has two."""

    number: int
    stream: Stream
    batches: tuple[Batch, ...]

    @property
    def tokens(self) -> int:
        """Tokens of all batches."""
        return sum(batch.tokens for batch in self.batches)

    @property
    def num_targets(self) -> int:
        """Targets of all batches."""
        return sum(batch.num_targets for batch in self.batches)


class Trainer(Protocol):
    """Holds weights and optimizer state. With several processes every method is called on all of them."""

    rank: int
    """This process's number; 0 writes."""
    device: torch.device
    """Where it computes."""

    def train_step(self, step: Step) -> float:
        """Take one optimizer step and return its loss; a loss that is not finite is returned and not applied."""

    def any(self, flag: bool) -> bool:
        """Whether `flag` holds on any process."""

    def check_agreement(self, value: int, what: str) -> None:
        """Raise `RetryableError` unless all processes hold the same value."""

    def save_state(self, folder: Path, *, weights: bool) -> None:
        """Write what a trainer of any kind or size goes on from (see `state`); rank 0's folder gets it."""

    def save_model(self, folder: Path) -> None:
        """Write the weights as Hugging Face has them, in the format of the run; rank 0's folder gets them."""

    def close(self) -> None:
        """Leave the process group."""
