"""What tests may show beside a pass: plain data, rebuilt, bounded in size and depth."""

from __future__ import annotations

import json
import math
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.execute.inside import exhibit
from stages.execute.inside.suite import Suite
from stages.execute.judge import Judge, Program, Verdict

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abé", max_size=3), inner, max_size=4),
    max_leaves=20,
)


def show(judge: Judge, solution: str, *tests: str) -> Verdict:
    (verdict,) = judge.run([Program("", solution, "", tests or ("exhibit = f()",))])
    return verdict


@given(PLAIN)
def test_json_data_is_shown_as_it_is(value: object) -> None:
    shown = exhibit.plain(value)
    assert shown == value and json.dumps(shown) == json.dumps(value)


@given(PLAIN)
def test_what_is_shown_shares_nothing_with_what_was_given(value: object) -> None:
    shown = exhibit.plain([value, value])
    assert shown == [value, value]
    if isinstance(value, (list, dict)) and value:
        shown[0].clear()
        assert shown[1] == value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ((1, (2,)), [1, [2]]),
        (deque("ab", maxlen=2), ["a", "b"]),
        (Counter("aab"), {"a": 2, "b": 1}),
        (OrderedDict(b=1), {"b": 1}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (Decimal("18"), 18),
        (Decimal("12345678901234567890"), 12345678901234567890),
        (Decimal("0.5"), 0.5),
        (Decimal("0.1"), "0.1"),
        (Decimal("18." + "0" * 30 + "1"), "18.0"),
        (Decimal("-1e-999999"), "-0.0"),
        (Decimal("1e999999"), "inf"),
        (Decimal("NaN"), "nan"),
        (Decimal("Infinity"), math.inf),
        (Fraction(1, 3), "0.3333333333333333"),
        (Fraction(18 * 10**30 + 1, 10**30), "18.0"),
        (Fraction(36, 2), 18),
        (Fraction(1, 4), 0.25),
    ],
)
def test_containers_and_numbers_of_the_library_become_built_in_ones(value: object, shown: object) -> None:
    assert exhibit.plain(value) == shown
    assert type(exhibit.plain(value)) is type(shown)


def _nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def _doubled(times: int) -> list[object]:
    """2 ** times values in memory for so few."""
    value: list[object] = [1]
    for _ in range(times):
        value = [value, value]
    return value


def _circle() -> list[object]:
    value: list[object] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [{1, 2}, b"a", 1j, object(), int, len, {1: 2}, {(): 2}, [object()], "\ud800", range(3), 10**2000,
     "x" * exhibit.MOST_BYTES, [0] * exhibit.MOST_BYTES, _nested(exhibit.DEEPEST + 1), _doubled(18), _circle(),
     Decimal("sNaN"), Fraction(10**400)],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_anything_else_shows_nothing(value: object) -> None:
    assert exhibit.plain(value) is None


def test_the_bounds_are_met_exactly() -> None:
    assert exhibit.plain("x" * (exhibit.MOST_BYTES - 1)) is not None
    assert exhibit.plain(_nested(exhibit.DEEPEST)) == _nested(exhibit.DEEPEST)


def test_only_tests_that_bind_the_name_are_looked_at() -> None:
    assert Suite("", ["exhibit = f()"]).exhibits
    assert not Suite("", ["assert f() == 1"]).exhibits


def test_an_exhibit_goes_out_with_a_pass_alone(judge: Judge) -> None:
    passed = show(judge, "def f(): return [1, (2.5, 'a')]")
    assert (passed.outcome, passed.exhibit, passed.isolation) == ("passed", [1, [2.5, "a"]], "process-split")
    failed = show(judge, "def f(): return 1", "exhibit = f()", "assert f() == 2")
    assert (failed.outcome, failed.exhibit) == ("failed", None)
    assert show(judge, "def f(): return 1", "assert f() == 1").exhibit is None


def test_tests_may_make_an_exhibit_of_what_they_see(judge: Judge) -> None:
    solution = "class Event:\n    def __init__(self): self.agent = ['Bo']\ndef f(): return Event()"
    test = "exhibit = {name: [type(value).__name__, *value] for name, value in vars(f()).items()}"
    assert show(judge, solution, test).exhibit == {"agent": ["list", "Bo"]}


@pytest.mark.parametrize("first", ["pass", "import os"], ids=["in the referee", "in a fork of it"])
@pytest.mark.parametrize("value", ["2 ** 4000", "float('-inf')", "'\\x00é\\n'", "{'a': [None, False, {}]}"])
def test_the_value_is_the_same_outside(judge: Judge, first: str, value: str) -> None:
    verdict = show(judge, f"def f(): return {value}", first, "exhibit = f()")
    assert verdict.exhibit == eval(value)
    assert verdict.isolation == "process-split"


def test_identical_programs_show_the_same(judge: Judge) -> None:
    program = Program("", "def f(): return {'a': 1}", "", ("exhibit = f()",))
    assert [verdict.exhibit for verdict in judge.run([program] * 3)] == [{"a": 1}] * 3


def test_tests_that_need_one_process_show_nothing(judge: Judge) -> None:
    verdict = show(judge, "def f(): return 1", "exhibit = eval('f()')")
    assert (verdict.outcome, verdict.exhibit, verdict.isolation) == ("passed", None, "process-beside")
