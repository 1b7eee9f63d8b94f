"""Confidence intervals by the percentile bootstrap over problems (Efron 1979).

Problems are what is resampled, not samples: the samples of one problem resemble each other, and the question is how
the score would differ on other problems of the same kind.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.contract.records import Interval

CONFIDENCE = 0.95
Array = NDArray[np.float64] | NDArray[np.int64]


class Bootstrap:
    """The same resamples for every figure, so that figures of one report vary together."""

    def __init__(self, num_problems: int, *, resamples: int, seed: int, cells_at_once: int = 1 << 22) -> None:
        """Draw at most `cells_at_once` problem numbers at a time; a bound on memory that changes no figure."""
        self.num_problems, self.resamples, self.seed = num_problems, resamples, seed
        self.rows_at_once = max(1, cells_at_once // num_problems)

    def interval(self, sums: Array, counts: Array | None = None) -> Interval:
        """Return sum(sums) / sum(counts) over problems, both `[problems]`, with its 95 % interval.

        Without `counts` every problem counts once, which makes it the mean. Where there is nothing to divide by the
        value is 0, as precision is without predictions; resamples with nothing to divide by say nothing.
        """
        weights = np.ones(self.num_problems, dtype=np.int64) if counts is None else counts
        if not weights.any():
            return Interval(value=0.0, low=0.0, high=0.0)
        value = float(sums.sum() / weights.sum())
        low, high = np.quantile(self._replicates(sums, weights), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        # Few resamples of a skewed figure can all fall on one side of it.
        return Interval(value=value, low=min(float(low), value), high=max(float(high), value))

    def _replicates(self, sums: Array, counts: Array) -> NDArray[np.float64]:
        generator = np.random.default_rng(self.seed)
        replicates = []
        for start in range(0, self.resamples, self.rows_at_once):
            rows = min(self.rows_at_once, self.resamples - start)
            drawn = generator.integers(self.num_problems, size=(rows, self.num_problems))
            # Summed by numpy and not by a matrix product: BLAS adds in an order that depends on the machine.
            divisors = counts[drawn].sum(axis=1)
            some = divisors != 0
            replicates.append(sums[drawn].sum(axis=1)[some] / divisors[some])
        return np.concatenate(replicates)
