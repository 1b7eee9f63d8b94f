"""Values cross between processes unchanged, and nothing else does."""

# ruff: noqa: E501 -- tables of values
from __future__ import annotations

import contextlib
import json
import math
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.execute.inside.codec import CodecError, Decoder, Encoder

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(exclude_categories=())) | st.binary()
    | st.complex_numbers(allow_nan=False) | st.fractions() | st.decimals(allow_nan=False) | st.dates() | st.datetimes() | st.times()
    | st.timedeltas() | st.just(...) | st.builds(range, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 9))
)  # fmt: skip
keys = st.none() | st.booleans() | st.integers() | st.text() | st.tuples(st.integers(), st.text())


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(keys, inner) | st.sets(keys) | st.frozensets(keys)
        | st.lists(inner).map(deque) | st.dictionaries(keys, inner).map(OrderedDict) | st.lists(keys).map(Counter)
        | st.dictionaries(keys, inner).map(lambda d: defaultdict(list, d)) | st.binary().map(bytearray)
    )  # fmt: skip


def refuse(value: object) -> Any:
    raise CodecError(f"foreign: {type(value).__name__}")


def cross(value: Any) -> Any:
    tree = json.loads(json.dumps(Encoder(refuse).encode(value)))
    return Decoder(refuse).decode(tree)


@given(st.recursive(scalars, _containers, max_leaves=20))
def test_a_value_comes_out_equal_and_of_its_type(value: Any) -> None:
    result = cross(value)
    assert result == value
    assert type(result) is type(value)


@given(scalars)
def test_a_scalar_comes_out_with_all_its_digits(value: Any) -> None:
    assert repr(cross(value)) == repr(value)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_json_decodes_to_plain_values_or_is_refused(tree: Any) -> None:
    with contextlib.suppress(CodecError):
        Decoder(refuse).decode(tree)


@pytest.mark.parametrize(
    "tree",
    [[], ["R", 0], ["R", -1], ["l"], ["l", 3], ["d", [1]], ["d", [["l", []], 1]], ["s", [["l", []]]], ["named", "a", ["x y"], [1]],
     ["named", "P", ["x"], []], ["Fraction", 1, 0], ["date", [2020, 13, 1]], ["type", "os"], ["int", "zz"], ["q", "x", []],
     ["import", "os", "system"], ["range", [1, 2, 0]], ["dd", "eval", []], ["complex", "a", 1.0], {"a": 1}],
)  # fmt: skip
def test_what_the_encoder_cannot_have_written_is_refused(tree: Any) -> None:
    with pytest.raises(CodecError):
        Decoder(refuse).decode(tree)


def test_cycles_and_aliases_survive() -> None:
    inner: list[Any] = []
    value: list[Any] = [inner, inner]
    value.append(value)
    result = cross(value)
    assert result[0] is result[1]
    assert result[2] is result


def test_special_values_survive() -> None:
    point = namedtuple("point", "x y")(1, [2])
    result = cross(point)
    assert result == (1, [2])
    assert (result.x, type(result).__name__) == (1, "point")
    assert math.isnan(cross(float("nan")))
    assert math.copysign(1, cross(-0.0)) == -1
    assert cross(10**6000) == 10**6000
    assert cross([int, str, Counter]) == [int, str, Counter]
    assert cross({1: 2}.keys()) == {1}
    assert cross(datetime(2020, 1, 1, tzinfo=UTC)).tzinfo == UTC
    assert cross(time(1, tzinfo=timezone(timedelta(hours=2)))).utcoffset() == timedelta(hours=2)
    assert cross([date.max, Decimal("NaN").is_nan(), Fraction(-1, 3)]) == [date.max, True, Fraction(-1, 3)]


def test_an_instance_of_a_subclass_is_no_plain_value() -> None:
    class Liar(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    with pytest.raises(CodecError, match="foreign: Liar"):
        cross([Liar(3)])


def test_deep_and_exploding_values_are_refused() -> None:
    deep: list[Any] = []
    for _ in range(1000):
        deep = [deep]
    wide: tuple[Any, ...] = (1,)
    for _ in range(60):
        wide = (wide, wide, *range(33_000))  # 60 of these are within the limit, all 2**60 are not
    for value in (deep, wide):
        with pytest.raises(CodecError):
            Encoder(refuse).encode(value)


def test_a_container_is_refilled_in_place() -> None:
    target = [1, [2]]
    Decoder(refuse, [target, target[1]]).refill(0, ["l", [["R", 1], 5]])
    assert target == [[2], 5]
    with pytest.raises(CodecError):
        Decoder(refuse, [target]).refill(0, ["s", []])
