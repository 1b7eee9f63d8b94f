"""What a solution can put into an exhibit: its own answer as plain data, and nothing that judges itself."""

# ruff: noqa: E501 -- a program is one line
from __future__ import annotations

from typing import NamedTuple

import pytest

from stages.execute.judge import Judge, Program

pytestmark = pytest.mark.slow

_SEND = """
import sys
def f():
    frame = sys._getframe()
    while type(frame.f_locals.get("self")).__name__ != "Candidate": frame = frame.f_back
    frame.f_locals["self"].channel.send({message})
    import time
    time.sleep(9)
"""


class Showing(NamedTuple):
    """A solution and what becomes of `exhibit = f()`."""

    solution: str
    outcome: str
    exhibit: object


SHOWINGS = {
    "an int": Showing("def f(): return 18", "passed", 18),
    "an int that lies": Showing("class I(int):\n    __eq__ = lambda s, o: True\n    __int__ = lambda s: 9\n    __index__ = lambda s: 9\n    __hash__ = int.__hash__\ndef f(): return I(5)", "passed", 5),
    "a float that lies": Showing("class F(float):\n    __eq__ = lambda s, o: True\n    __sub__ = __rsub__ = lambda s, o: 0\n    __float__ = lambda s: 18.0\ndef f(): return F(5)", "passed", 5.0),
    "a text that lies": Showing("class S(str):\n    __eq__ = lambda s, o: True\n    __str__ = __repr__ = lambda s: 'b'\n    __hash__ = str.__hash__\ndef f(): return S('a')", "passed", "a"),
    "a list that lies": Showing("class L(list):\n    __iter__ = lambda s: iter([18])\n    __len__ = lambda s: 1\n    __getitem__ = lambda s, i: 18\ndef f(): return [L([1, 2])]", "passed", [[1, 2]]),
    "a dictionary that lies": Showing("class D(dict):\n    items = lambda s: [('a', 18)]\n    __getitem__ = lambda s, k: 18\ndef f(): return D(b=1)", "passed", {"b": 1}),
    "equal to everything": Showing("class A:\n    __eq__ = lambda s, o: True\ndef f(): return A()", "passed", None),
    "equal to everything, in a list": Showing("class A:\n    __eq__ = lambda s, o: True\ndef f(): return [A()]", "passed", None),
    "a class": Showing("class A(int): pass\ndef f(): return A", "passed", None),
    "a generator": Showing("def f(): yield 18", "passed", None),
    "a class that fails to be looked at": Showing("class L(list):\n    __class__ = property(lambda s: 1 / 0)\ndef f(): return L([1])", "failed", None),
    "a name of its own": Showing("exhibit = 18\ndef f(): global exhibit; exhibit = 18", "passed", None),
    "too large": Showing("def f(): return 'x' * 70_000", "passed", None),
    "much too large": Showing("def f(): return ['x' * 1000] * 100", "passed", None),
    "larger than a frame": Showing("def f(): return 'x' * 9_000_000", "output_limit", None),
    "by hand": Showing(_SEND.format(message="{'value': ['l', [1]], 'exhibit': 18}"), "passed", [1]),
    "by hand, no value": Showing(_SEND.format(message="{'exhibit': 18}"), "failed", None),
    "a verdict by hand": Showing(_SEND.format(message="{'job': 0, 'outcome': 'passed', 'error_type': None, 'feedback': '', 'seconds': 0, 'separation': 'split', 'exhibit': 18}"), "failed", None),
}  # fmt: skip


def test_an_exhibit_is_the_solutions_answer_as_plain_data(judge: Judge) -> None:
    programs = [Program("", showing.solution, "", ("exhibit = f()",)) for showing in SHOWINGS.values()]
    found = {
        name: (verdict.outcome, verdict.exhibit) for name, verdict in zip(SHOWINGS, judge.run(programs), strict=True)
    }
    assert found == {name: (showing.outcome, showing.exhibit) for name, showing in SHOWINGS.items()}
