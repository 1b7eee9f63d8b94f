"""pass@k against exact combinatorics."""

from __future__ import annotations

import itertools
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.evaluate.passk import pass_at_k, per_problem


@st.composite
def draws(draw: st.DrawFn, most: int = 300) -> tuple[int, int, int]:
    """(samples, passes, k) that are possible."""
    num_samples = draw(st.integers(1, most))
    return num_samples, draw(st.integers(0, num_samples)), draw(st.integers(1, num_samples))


@given(draws())
def test_it_is_one_minus_the_share_of_draws_without_a_pass(case: tuple[int, int, int]) -> None:
    num_samples, num_passed, k = case
    exact = 1 - Fraction(comb(num_samples - num_passed, k), comb(num_samples, k))
    assert pass_at_k(*case) == pytest.approx(float(exact), rel=1e-12, abs=1e-13)


@given(draws(most=7))
def test_it_is_what_trying_every_draw_gives(case: tuple[int, int, int]) -> None:
    num_samples, num_passed, k = case
    drawn = list(itertools.combinations([True] * num_passed + [False] * (num_samples - num_passed), k))
    assert pass_at_k(*case) == pytest.approx(sum(map(any, drawn)) / len(drawn))


@pytest.mark.parametrize(
    ("case", "value"),
    [
        ((16, 0, 1), 0.0),
        ((16, 4, 1), 0.25),
        ((16, 16, 10), 1.0),
        ((16, 7, 10), 1.0),
        ((2, 1, 2), 1.0),
        ((4, 1, 2), 0.5),
    ],
)
def test_known_values(case: tuple[int, int, int], value: float) -> None:
    assert pass_at_k(*case) == pytest.approx(value, abs=1e-15)


def test_nothing_overflows_or_cancels_where_binomials_would() -> None:
    assert pass_at_k(100_000, 1, 10) == pytest.approx(1e-4, rel=1e-9)
    assert pass_at_k(100_000, 50_000, 1) == pytest.approx(0.5, rel=1e-9)


@pytest.mark.parametrize("case", [(4, 5, 1), (4, -1, 1), (4, 2, 5), (4, 2, 0), (0, 0, 1)])
def test_an_impossible_draw_is_an_error(case: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="not defined"):
        pass_at_k(*case)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(1, 5))
def test_per_problem_is_the_same_for_each(passed: list[int], k: int) -> None:
    values = per_problem(np.full(len(passed), 5), np.array(passed), k)
    assert values.tolist() == [pass_at_k(5, one, k) for one in passed]
