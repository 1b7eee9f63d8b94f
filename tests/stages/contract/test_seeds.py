"""Seeds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stages.contract.seeds import derive_seed

paths = st.lists(st.integers() | st.text(max_size=5), max_size=4).map(tuple)


@given(st.integers(0, 2**31 - 1), paths)
def test_equal_paths_give_equal_63_bit_seeds(root: int, path: tuple[int | str, ...]) -> None:
    assert derive_seed(root, *path) == derive_seed(root, *path)
    assert 0 <= derive_seed(root, *path) < 2**63


@given(paths, paths)
def test_different_paths_give_different_seeds(one: tuple[int | str, ...], other: tuple[int | str, ...]) -> None:
    assert (derive_seed(42, *one) == derive_seed(42, *other)) == (one == other)


def test_how_a_path_is_spelled_counts() -> None:
    paths: list[tuple[int | str, ...]] = [(2,), ("2",), (), ("2\0",), ("2", ""), ("2", "\0")]
    assert len({derive_seed(1, *path) for path in paths}) == len(paths)


def test_seeds_stay_what_they_were() -> None:
    assert derive_seed(42, "sample", 3, "train", "mbpp/601", 7) == 4879173837070859968
