from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stages.build.packing import fill, pack

CAPACITY = 300
groups = st.lists(st.lists(st.integers(1, CAPACITY), min_size=1, max_size=40), min_size=1, max_size=6)


def arrays(given_groups: list[list[int]]) -> list[np.ndarray]:
    return [np.array(group, dtype=np.int64) for group in given_groups]


def mbpp_like(count: int) -> np.ndarray:
    """Lengths of FCFT sequences on MBPP: mean 260 tokens, long tail."""
    drawn = np.random.default_rng(0).lognormal(np.log(230), 0.5, count)
    return np.clip(drawn, 40, 900).astype(np.int64)


@given(groups)
def test_every_example_is_in_exactly_one_row(lengths: list[list[int]]) -> None:
    for group, rows in zip(lengths, pack(arrays(lengths), CAPACITY), strict=True):
        assert sorted(int(position) for row in rows for position in row) == list(range(len(group)))


@given(groups)
def test_no_row_is_longer_than_the_pack_length(lengths: list[list[int]]) -> None:
    for group, rows in zip(arrays(lengths), pack(arrays(lengths), CAPACITY), strict=True):
        assert all(group[row].sum() <= CAPACITY for row in rows)


@given(groups)
def test_packing_one_step_does_not_depend_on_the_others(lengths: list[list[int]]) -> None:
    together = pack(arrays(lengths), CAPACITY)
    for group, rows in zip(arrays(lengths), together, strict=True):
        alone = pack([group], CAPACITY)[0]
        assert [row.tolist() for row in rows] == [row.tolist() for row in alone]


@given(st.lists(st.integers(1, CAPACITY), min_size=1, max_size=40))
def test_rows_are_at_most_twice_as_many_as_the_tokens_need(lengths: list[int]) -> None:
    (rows,) = pack([np.array(lengths, dtype=np.int64)], CAPACITY)
    assert len(rows) <= 2 * -(-sum(lengths) // CAPACITY)


def test_mbpp_like_lengths_fill_99_percent_of_rows_of_2048() -> None:
    lengths = mbpp_like(128 * 40).reshape(40, 128)
    packed = pack(list(lengths), 2048)
    steps = [[int(group[row].sum()) for row in rows] for group, rows in zip(lengths, packed, strict=True)]
    assert fill(steps) >= 0.99


def test_an_example_longer_than_a_row_is_refused() -> None:
    try:
        pack([np.array([301])], CAPACITY)
    except ValueError as error:
        assert "301" in str(error)
    else:
        raise AssertionError("accepted")
