"""One token per row from the model's logits, by temperature, top-k and nucleus (Holtzman et al. 2020).

Randomness is counter-based: the uniform number behind a token is a hash of the sample's seed and the token's
position. A sample is therefore the same whichever rows share its batch, and nothing has to be carried between steps.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.contract.spec import Sampling

LIKELIEST = 512
"""Tokens looked at first for the nucleus; sorting a whole vocabulary costs more than the model's forward pass."""
_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def uniforms(seeds: NDArray[np.uint64], positions: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return one number in [0, 1) per row: output `position` of SplitMix64 seeded with `seed` (Steele et al. 2014).

    48 bits are kept, so that the largest number times any mass stays below that mass in double precision.
    """
    mixed = seeds + (positions + np.uint64(1)) * _GAMMA
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    kept: NDArray[np.float64] = (mixed >> np.uint64(16)).astype(np.float64)
    return np.ldexp(kept, -48)


class Sampler:
    """Draws tokens as a `Sampling` says; `banned` ids are never drawn.

    `static` keeps to operations whose shapes do not depend on what is drawn; the tokens are the same.
    """

    def __init__(
        self, sampling: Sampling, banned: Iterable[int], device: torch.device, *, static: bool = False
    ) -> None:
        self.sampling, self.static = sampling, static
        self.banned = torch.tensor(sorted(banned), dtype=torch.long, device=device)

    def draw(self, logits: Tensor, draws: Tensor) -> Tensor:
        """Return an id per row.

        `logits`: [rows, vocabulary], changed in place. `draws`: [rows] in [0, 1), float64.
        """
        logits[:, self.banned] = -torch.inf
        if self.sampling.temperature == 0:
            return logits.argmax(-1)
        weights = torch.softmax(logits.float() / self.sampling.temperature, -1)
        return pick(self._truncated(weights), draws, static=self.static)

    def _truncated(self, weights: Tensor) -> Tensor:
        """Set what top-k and then the nucleus leave out to zero; tokens as likely as the last one kept stay."""
        top_k, top_p = self.sampling.top_k, self.sampling.top_p
        if top_k and top_k < weights.shape[-1]:
            last = weights.topk(top_k).values[:, -1:]
            weights = weights.where(weights >= last, 0)
        if top_p < 1:
            looked_at = weights.shape[-1] if self.static else LIKELIEST
            weights = weights.where(weights >= _nucleus_border(weights, top_p, looked_at), 0)
        return weights


def pick(weights: Tensor, draws: Tensor, *, static: bool = False) -> Tensor:
    """Return per row the first id whose running sum exceeds `draw` times the row's sum; zero weights are never hit."""
    # In single precision the running sum over a vocabulary is off by more than a rare token's probability.
    running = weights.cumsum(-1, dtype=torch.float64)
    mark = (draws * running[:, -1]).unsqueeze(-1)
    if static:  # compilers of static shapes know no binary search; counting finds the same id
        return (running <= mark).sum(-1)
    return torch.searchsorted(running, mark, right=True).squeeze(-1)


def _nucleus_border(weights: Tensor, top_p: float, looked_at: int) -> Tensor:
    """Return per row ([rows, 1]) the smallest weight in the smallest set of likeliest tokens with mass `top_p`."""
    total = weights.sum(-1, keepdim=True)
    for count in (min(looked_at, weights.shape[-1]), weights.shape[-1]):
        likeliest = weights.topk(count).values
        before = likeliest.cumsum(-1) - likeliest
        kept = before < top_p * total
        if count == weights.shape[-1] or not bool(kept[:, -1].any()):
            break
    return likeliest.where(kept, torch.inf).amin(-1, keepdim=True)
