"""What the refusal of forgeries must not cost, and what no program may leave to the next."""

# ruff: noqa: E501 -- a program is one line
from __future__ import annotations

import pytest

from stages.execute.judge import Judge, Program, Verdict

pytestmark = pytest.mark.slow

_MONEY = """
class Money:
    def __init__(self, v): self.v = v
    def __add__(self, o): return Money(self.v + getattr(o, 'v', o))
    __radd__ = __add__
    def __eq__(self, o): return isinstance(o, Money) and self.v == o.v
def f(x): return Money(x)
"""
_BAG = """
class Bag:
    def __init__(self, v): self.v = set(v)
    def __or__(self, o): return Bag(self.v | set(getattr(o, 'v', o)))
    def __eq__(self, o): return self.v == o.v
"""
_LRU = """
from collections import OrderedDict
class LRU(OrderedDict):
    def get(self, k): return 'got' if k in self else -1
    def put(self, k, v): self[k] = v
def f(): return LRU()
"""
HONEST = {
    "numbers added to an object": (_MONEY, ("assert (f(1) + 2).v == 3 and (2 + f(1)).v == 3", "assert sum([f(1), f(2)]) == Money(3)")),
    "union of an object": (_BAG, ("assert Bag([1]) | {2} == Bag([1, 2])",)),
    "methods of a derived dictionary": (_LRU, ("c = f()", "c.put(1, 2)", "assert c.get(1) == 'got' and c.get(2) == -1")),
    "isclose that the solution imports": ("from math import isclose\ndef f(x): return x * 1.5", ("assert isclose(f(1), 1.5)",)),
    "isclose as the function under test": ("def isclose(a, b): return a + b", ("assert isclose(1, 2) == 3",)),
    "a class named Counter": ("class Counter:\n    n = 0\n    def increment(self):\n        self.n += 1\n        return self.n\ndef f(): return Counter()", ("c = Counter()", "assert c.increment() == 1 and f().n == 0")),
    "iterator of a deque": ("from collections import deque\ndef f(x): return deque(x)\ndef g(it): return list(it)", ("assert g(iter(f('ab'))) == ['a', 'b']",)),
    "fields of an object of the tests": ("def f(t):\n    t.v = 2\n    return t", ("class T:\n    v = 1\n    def m(self): return self.v", "assert f(T()).m() == 2")),
}  # fmt: skip

LEAVERS = {
    "decimal context": ("import decimal", "decimal.getcontext().prec = 3", "f(1)"),
    "calendar": ("import calendar", "calendar.mdays[2] = 30", "calendar.setfirstweekday(6)", "f(1)"),
    "constant of a module": ("import math", "math.pi = 3", "f(1)"),
}
UNTOUCHED = (
    "import calendar, math",
    "from decimal import Decimal",
    "assert f(Decimal(1) / 3) == Decimal('0.3333333333333333333333333333')",
    "assert calendar.mdays[2] == 28 and calendar.firstweekday() == 0 and math.pi > 3.1",
)


def _verdicts(judge: Judge, *programs: tuple[str, tuple[str, ...]]) -> list[Verdict]:
    return list(judge.run([Program("", solution, "", tests) for solution, tests in programs]))


@pytest.mark.parametrize("name", HONEST)
def test_honest_objects_and_names_are_still_what_python_makes_of_them(judge: Judge, name: str) -> None:
    (verdict,) = _verdicts(judge, HONEST[name])
    assert verdict.outcome == "passed", verdict
    assert verdict.isolation.endswith("-split")


def test_settings_that_tests_change_are_forgotten_with_them(judge: Judge) -> None:
    echo = "def f(x): return x  # {}"
    for name, leaver in LEAVERS.items():
        rows = [(echo.format(f"{name} {n}"), tests) for n in range(4) for tests in (leaver, UNTOUCHED)]
        assert {verdict.outcome for verdict in _verdicts(judge, *rows)} == {"passed"}, name


def test_named_tuples_of_one_shape_do_not_share_their_defaults(judge: Judge) -> None:
    make = "from collections import namedtuple\nP = namedtuple('P', 'a b'{})\ndef f(): return P(1, 2)  # {}"
    rows = []
    for n in range(4):
        rows.append((make.format(", defaults=[5, 6]", n), ("p = P()", "assert p == (5, 6) and f() == (1, 2)")))
        rows.append((make.format("", n), ("assert type(f())._field_defaults == {}",)))
    assert {verdict.outcome for verdict in _verdicts(judge, *rows)} == {"passed"}


def test_random_numbers_of_the_tests_are_the_same_in_every_run(judge: Judge) -> None:
    tests = ("from random import random", "assert f(1) == 2, [random() for _ in range(3)]")
    verdicts = _verdicts(judge, *((f"def f(x): return x  # {n}", tests) for n in range(6)))
    assert len({verdict.feedback for verdict in verdicts}) == 1
