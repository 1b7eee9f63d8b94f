"""Confidence intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.evaluate.bootstrap import Bootstrap

rates = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@given(rates, st.integers(0, 2**63 - 1), st.integers(1, 50))
def test_the_interval_covers_the_value_and_stays_within_the_data(
    values: list[float], seed: int, resamples: int
) -> None:
    found = Bootstrap(len(values), resamples=resamples, seed=seed).interval(np.array(values))
    assert found.value == pytest.approx(sum(values) / len(values))
    assert found.low <= found.value <= found.high
    assert min(values) - 1e-12 <= found.low
    assert found.high <= max(values) + 1e-12


@given(rates, st.integers(0, 2**63 - 1))
def test_the_same_seed_gives_the_same_bits(values: list[float], seed: int) -> None:
    one, other = (Bootstrap(len(values), resamples=20, seed=seed).interval(np.array(values)) for _ in range(2))
    assert one == other


def test_problems_that_agree_leave_no_doubt() -> None:
    found = Bootstrap(40, resamples=200, seed=1).interval(np.full(40, 0.3))
    assert found.low == pytest.approx(0.3)
    assert found.high == pytest.approx(0.3)


def test_the_width_is_that_of_the_normal_approximation() -> None:
    solved = (np.arange(400) < 100).astype(np.float64)
    found = Bootstrap(400, resamples=4000, seed=3).interval(solved)
    half = 1.96 * np.sqrt(0.25 * 0.75 / 400)
    assert found.low == pytest.approx(0.25 - half, abs=0.006)
    assert found.high == pytest.approx(0.25 + half, abs=0.006)


def test_about_95_of_100_intervals_cover_the_truth() -> None:
    draws = np.random.default_rng(5).random((200, 100)) < 0.4
    found = [Bootstrap(100, resamples=400, seed=n).interval(row.astype(np.float64)) for n, row in enumerate(draws)]
    assert 180 <= sum(one.low <= 0.4 <= one.high for one in found) <= 199


def test_a_share_of_samples_weighs_problems_by_their_samples() -> None:
    found = Bootstrap(2, resamples=500, seed=1).interval(np.array([9.0, 0.0]), np.array([9, 1]))
    assert found.value == 0.9
    assert (found.low, found.high) == (0.0, 1.0)


def test_how_many_are_drawn_at_once_changes_nothing() -> None:
    values = np.linspace(0, 1, 7)
    found = {
        Bootstrap(7, resamples=100, seed=9, cells_at_once=cells).interval(values).low for cells in (1, 15, 1 << 22)
    }
    assert len(found) == 1
