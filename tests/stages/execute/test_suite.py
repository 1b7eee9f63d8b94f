"""What is known of a problem's tests before they are evaluated."""

# ruff: noqa: E501 -- a program is one line
from __future__ import annotations

import pytest

from stages.execute.inside.suite import Suite


def test_calls_on_literals_are_planned() -> None:
    suite = Suite("", ["assert f(1, [2]) == 3", "assert set(f(2)) == {1}", "assert not g('a')[0]"])
    assert suite.plan == [("f", ["t", [1, ["l", [2]]]]), ("f", ["t", [2]]), ("g", ["t", ["a"]])]


@pytest.mark.parametrize(
    "test",
    ["x = f(1)", "assert f(g(1)) == 2", "assert f(x) == 1", "assert f(1) == f(2)", "assert True or f(1)", "assert all(f(i) for i in [1])",
     "assert f(a=1)", "assert (lambda: f(1))", "assert 1 == 2 == f(1)", "assert [f(1)] if 0 else 1", "f(1)", "assert f(*[1])"],
)  # fmt: skip
def test_nothing_is_planned_beyond_what_the_text_determines(test: str) -> None:
    assert Suite("", [test, "assert f(1) == 1"]).plan == []


def test_built_ins_are_the_solutions_only_where_nothing_else_can_be() -> None:
    assert Suite("", ["assert sum(1, 2) == 3"]).may_be_solutions("sum")
    assert not Suite("", ["assert f(sum([1]))"]).may_be_solutions("sum")
    assert not Suite("", ["assert set([1]) == {1}"]).may_be_solutions("set")


def test_values_of_the_tests_are_never_given_to_the_solution() -> None:
    suite = Suite("import math\nlimit = 3\ndef helper(): pass", ["import re", "expected = [1]", "def check(c): pass"])
    assert suite.needed_by(["math", "re"]) == ["import math", "import re"]
    assert suite.needed_by(["helper", "limit"]) == ["limit = 3", "def helper():\n    pass"]
    assert suite.needed_by(["expected", "check"]) == []


@pytest.mark.parametrize(
    "tests",
    [["class B(A): pass"], ["globals()['f']"], ["vars()"], ["import contextlib\ncontextlib.redirect_stdout(x)"],
     ["open('x')"], ["eval('f(1)')"]],
)  # fmt: skip
def test_tests_that_need_one_namespace_are_known(tests: list[str]) -> None:
    assert not Suite("", tests).splittable


def test_tests_that_could_leave_a_trace_are_known() -> None:
    assert Suite("", ["import math\nassert f(1) == math.pi"]).in_process
    assert not Suite("", ["import os\nos.chdir('/')"]).in_process
    assert not Suite("", ["import random\nrandom.__dict__.clear()"]).in_process
