"""The unbiased estimator of pass@k (Chen et al. 2021, arXiv 2107.03374, section 2.1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pass_at_k(num_samples: int, num_passed: int, k: int) -> float:
    """Return 1 - C(n - c, k) / C(n, k): the chance that `k` of `num_samples` drawn without replacement hold a pass.

    Multiplied out factor by factor, so that no binomial coefficient overflows and nothing cancels.
    """
    if not 0 <= num_passed <= num_samples or not 1 <= k <= num_samples:
        raise ValueError(f"pass@{k} of {num_passed} passes in {num_samples} samples is not defined")
    if num_samples - num_passed < k:
        return 1.0
    drawn_from = np.arange(num_samples - num_passed + 1, num_samples + 1)
    return float(1.0 - np.prod(1.0 - k / drawn_from))


def per_problem(num_samples: NDArray[np.int64], num_passed: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Return pass@k of every problem, `float64[problems]`."""
    return np.array([pass_at_k(n, c, k) for n, c in zip(num_samples.tolist(), num_passed.tolist(), strict=True)])
