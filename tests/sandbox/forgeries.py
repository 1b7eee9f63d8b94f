"""Forgeries: solutions whose objects, names and messages answer as a test hopes, and what could be left for others.

K objects that answer questions about plain data, L names that the tests judge with, M messages that no candidate of
ours would send, N objects of the tests in the solution's hands, O tests that run beside, P what programs leave.
"""

# ruff: noqa: E501 -- a program is one line
from __future__ import annotations

from tests.sandbox.attacks import Attack

_FAILED = ("failed",)
_UNABLE = ("failed", "output_limit", "out_of_memory")


def _object(name: str, members: str, *tests: str, base: str = "", value: str = "L()") -> Attack:
    """`f` returns an object with these members, each a name and what it answers."""
    lines = "".join(f"\n    {member}" for member in members.split("; "))
    return Attack(name, f"class L{base}:{lines}\ndef f(x): return {value}", _UNABLE, tests)


_TRUE = "= lambda s, *a: True"
_EQUAL = f"__eq__ {_TRUE}; __hash__ = lambda s: 1"
QUESTIONS = [
    _object("K1 startswith", f"startswith {_TRUE}", "assert f('x').startswith('Hello')", base="(str)"),
    _object("K1 endswith", f"endswith {_TRUE}", "assert f('x').endswith('Hello')", base="(str)"),
    _object("K1 find", "find = lambda s, *a: 0", "assert f('x').find('Hello') == 0", base="(str)"),
    _object("K1 isupper", f"isupper {_TRUE}", "assert f('x').isupper()", base="(str)"),
    _object("K1 is_integer", f"is_integer {_TRUE}", "assert f('x').is_integer()", base="(float)", value="L(.5)"),
    _object("K1 count", f"count {_TRUE}", "assert f('x').count(5)", base="(list)"),
    _object("K1 index", "index = lambda s, *a: 0", "assert f('x').index(5) == 0", base="(list)"),
    _object("K1 issuperset", f"issuperset {_TRUE}", "assert f('x').issuperset({1, 2})", base="(set)"),
    _object("K1 isdisjoint", f"isdisjoint {_TRUE}", "assert f('x').isdisjoint({1, 2})", base="(set)", value="L([1])"),
    _object("K1 symmetric difference", "symmetric_difference = lambda *a: set()", "assert f('x').symmetric_difference({1, 2}) == set()", base="(set)"),
    _object("K1 explicit equality", f"__eq__ {_TRUE}", "assert f('x').__eq__([1, 2]) is True", base="(list)"),
    _object("K1 not in", "__contains__ = lambda *a: False; __iter__ = lambda s: iter(())", "assert 3 not in f(1)", base="(list)", value="L([3])"),
    _object("K2 union", "__or__ = lambda s, o: o", "assert f('x') | {1, 2} == {1, 2}"),
    _object("K2 reflected union", "__ror__ = lambda s, o: o", "assert {1, 2} | f('x') == {1, 2}"),
    _object("K2 plus the negative", "__add__ = lambda s, o: 0", "assert abs(f(1) + -1.5) < 1e-6"),
    _object("K2 the negative plus", "__radd__ = lambda s, o: 0", "assert abs(-1.5 + f(1)) < 1e-6"),
    _object("K2 plus the negative, an object", "__add__ = lambda s, o: s; __abs__ = lambda s: 0", "assert abs(f(1) + -1.5) < 1e-6"),
    _object("K2 sum with the negative", "__add__ = __radd__ = lambda s, o: 0 if o else s", "assert sum([f(1), -1.5]) == 0"),
    Attack("K2 difference that holds zero", "class D(float): pass\nclass F:\n    def __init__(s, x): pass\n    __sub__ = lambda s, o: D(0)", _FAILED, ("assert -1e-6 < F(1) - 1.5 < 1e-6",)),
    Attack("K2 union that holds the operand", "class D(set): pass\nclass F:\n    def __init__(s, x): pass\n    __or__ = lambda s, o: D(o)", _FAILED, ("assert F(1) | {1, 2} == {1, 2}",)),
    _object("K3 sorted", f"{_EQUAL}; __lt__ {_TRUE}", "assert sorted(f(1)) == [1, 2]", value="[L(), L()]"),
    _object("K3 min", f"{_EQUAL}; __lt__ {_TRUE}", "assert min(f(1)) == 1", value="[L(), L()]"),
    _object("K3 set", _EQUAL, "assert set(f(1)) == {1}", value="[L()]"),
    _object("K3 dictionary", _EQUAL, "assert f(1) == {1: 1}", value="{L(): 1}"),
    _object("K3 key", _EQUAL, "assert f(1)[1] == 1", value="{L(): 1}"),
    _object("K3 key of a text", "__eq__ = lambda s, o: True; __hash__ = lambda s: hash('a')", "assert f(1)['a'] == 1", base="(str)", value="{L(): 1}"),
    _object("K3 zip", "__eq__ = lambda s, o: True; __hash__ = int.__hash__", "assert all(a == b for a, b in zip(f(1), [1, 2]))", base="(int)", value="[L(7), L(8)]"),
    _object("K3 counter", "__eq__ = lambda s, o: True; __ne__ = lambda s, o: False", "from collections import Counter", "assert f(1) == Counter([1])", base="(int)", value="__import__('collections').Counter({1: L(7)})"),
    _object("K3 set again", "n = 0; __eq__ = lambda s, o: True; __hash__ = lambda s: setattr(L, 'n', L.n + 1) or L.n", "assert f(1) == {1}", "assert f(2) == {2}", value="{L()}"),
    _object("K4 round", "__round__ = lambda s, n=0: s; __eq__ = lambda s, o: True", "assert round(f(1), 2) == 3.14"),
    _object("K4 isclose", "__float__ = lambda s: 1.0; __eq__ = lambda s, o: True", "import math", "assert math.isclose(f(1), 3.14)"),
    _object("K4 index", "__index__ = lambda s: 1; __eq__ = lambda s, o: True", "assert [1, 2][f(1)] == 2 and f(1) == 1"),
    _object("K4 truth that changes", "n = 0; __bool__ = lambda s: setattr(L, 'n', L.n + 1) or L.n % 2 == 1", "assert f(1) == True", "assert f(2) == False"),
    _object("K4 second pass", "n = 0; __iter__ = lambda s: setattr(L, 'n', L.n + 1) or iter([L.n])", "a = f(1)", "assert list(a) == list(a)"),
    _object("K4 unittest", "__eq__ = lambda s, o: True", "import unittest", "unittest.TestCase().assertEqual(f(1), 5)"),
    _object("K4 almost equal", "__sub__ = __rsub__ = lambda s, o: 0; __round__ = lambda s, n: 0", "import unittest", "unittest.TestCase().assertAlmostEqual(f(1), 5.5)"),
    Attack("K5 class of the class", "class M(type):\n    __instancecheck__ = lambda s, o: True\nclass L(metaclass=M): pass\ndef f(x): return L()", _FAILED, ("assert isinstance(f(1), list)",)),
    Attack("K5 type", "class M(type):\n    __eq__ = lambda s, o: True\n    __hash__ = lambda s: 1\nclass L(metaclass=M): pass\ndef f(x): return L()", _FAILED, ("assert type(f(1)) == list",)),
    Attack("K5 a class", "class M(type):\n    __eq__ = lambda s, o: True\n    __hash__ = lambda s: 1\nclass L(metaclass=M): pass\ndef f(x): return L", _FAILED, ("assert f(1) == int",)),
    Attack("K5 new class", "class L: pass\nclass M(L): __eq__ = lambda s, o: True\ndef f(x): return o\no = L()\ndef g(): o.__class__ = M", _FAILED, ("a = f(1)", "g()", "assert f(1) == 5")),
    Attack("K6 large range", "def f(x): return range(10 ** 14)", ("out_of_memory",), ("assert list(f(1)) == [5]",)),
]  # fmt: skip

_LIAR = "class {name}:\n    def __init__(self, *a): pass\n    __eq__ = lambda s, o: True\n"
NAMES = [
    Attack("L1 isclose", "isclose = lambda *a, **k: True\ndef f(x): return 0", _FAILED, ("assert isclose(f(1), 1.5)",)),
    Attack("L1 patched isclose", "import math\nmath.isclose = isclose = lambda *a, **k: True\ndef f(x): return 0", _FAILED, ("assert isclose(f(1), 1.5)",)),
    Attack("L1 imported isclose", "import math\nmath.isclose = lambda *a, **k: True\ndef f(x): return 0", _FAILED, ("from math import isclose", "assert isclose(f(1), 1.5)")),
    Attack("L1 renamed module", "class math:\n    isclose = lambda *a, **k: True\ndef f(x): return 0", _FAILED, ("import math as m", "assert m.isclose(f(1), 1.5)")),
    Attack("L2 Counter", _LIAR.format(name="Counter") + "def f(x): return 0", _FAILED, ("assert Counter([f(1)]) == Counter([1, 2])",)),
    Attack("L2 Counter of a module", _LIAR.format(name="Counter") + "import collections\ncollections.Counter = Counter\ndef f(x): return 0", _FAILED, ("import collections", "assert collections.Counter([f(1)]) == collections.Counter([1, 2])")),
    *(
        Attack(f"L3 {name}", f"{name} = lambda *a, **k: True\ndef f(x): return 0", _FAILED, (test,))
        for name, test in {"abs": "assert abs(f(1) - 1.5) < 1e-6", "len": "assert len([f(1)]) == 2", "isinstance": "assert isinstance(f(1), str)", "any": "assert any([f(1)])", "callable": "assert callable(f(1))"}.items()
    ),
    Attack("L4 helper of the tests", "def same(*a): return True\ndef f(x): return 0", _FAILED, ("def same(a, b): return a == b", "assert same(f(1), [1, 2])")),
]  # fmt: skip

_BY_HAND = """
import sys, time
def f(x):
    frame = sys._getframe()
    while type(frame.f_locals.get("self")).__name__ != "Candidate": frame = frame.f_back
    channel = frame.f_locals["self"].channel
    channel.send({message})
    while {again}:
        channel.receive()
        channel.send({{"value": True}})
    time.sleep(9)
"""
_KIND = "['c', 1, {'name': 'A', 'module': 'm', 'bases': %s, 'specials': ['eq', 'float', 'sub'], 'own': ['eq'], 'exception': %s}]"
_REPORT = "{{'raised': {{'type': 'A', 'bases': {bases}, 'links': [{{'text': '', 'how': None, 'frames': []}}], 'error': {error}}}}}"


def _message(name: str, message: str, *tests: str, again: bool = False) -> Attack:
    return Attack(
        name,
        _BY_HAND.format(message=message, again=again),
        _UNABLE,
        tests or ("x = [1, 2]", "y = f(x)", "assert y == [2, 1]"),
    )


MESSAGES = [
    _message("M1 the argument, unchanged", "{'value': ['R', 0]}"),
    _message("M1 changes of what was not sent", "{'value': 1, 'shared': [[-1, ['l', [2, 1]]], [-2, ['l', [2, 1]]]]}"),
    _message("M1 a change of no number", "{'value': 1, 'shared': [[[], ['l', [2, 1]]]]}"),
    _message("M1 a number of the other side", "{'value': ['m', -1, ['l', [5]]]}"),
    _message("M1 numbers of the other side to come", "{'value': ['t', [['m', -n, ['l', [5]]] for n in range(2, 40)]]}"),
    _message("M1 number zero", "{'value': ['m', 0, ['l', [5]]]}"),
    _message("M2 nothing lent", "{'callback': -1, 'arguments': ['t', []], 'keywords': ['d', []]}"),
    _message("M2 keywords that are none", "{'callback': 0, 'arguments': ['t', []], 'keywords': ['l', [1, 2]]}", "assert f(lambda a: a) == 1"),
    _message("M3 exception of two arguments", _REPORT.format(bases="[[]]", error="['x', 0, ['type', 'BaseExceptionGroup'], ['t', []], {}]")),
    _message("M3 exit", _REPORT.format(bases="['SystemExit']", error="None")),
    _message("M3 class of the library, wrong arguments", _REPORT.format(bases="[]", error="['x', 0, ['c', 1, {'name': 'JSONDecodeError', 'module': 'json.decoder', 'exception': ['ValueError']}], ['t', [1]], {}]"), "import json", "assert f(1) == 1"),
    _message("M4 class without name", "{'value': ['h', 9, ['c', 1, {'name': 'a\\0'}], None]}"),
    _message("M4 class of itself", f"{{'value': ['h', 9, {_KIND % (['h', 1], None)}, None]}}"),
    _message("M4 object that holds itself", f"{{'value': ['h', 9, {_KIND % ([], None)}, ['h', 9]]}}", again=True),
    _message("M4 object that holds an object", f"{{'value': ['h', 9, {_KIND % ([], None)}, ['h', 10, ['h', 1], None]]}}", again=True),
    _message("M4 object that holds the argument", f"{{'value': ['h', 9, {_KIND % ([], None)}, ['m', -1]]}}", again=True),
    _message("M5 long range", "{'value': ['range', [0, ['int', '0x' + 'f' * 4000000], 1]]}", "assert list(f(1)) == [1]"),
    _message("M5 fraction", "{'value': ['Fraction', ['int', '0x' + 'f' * 100000], 0]}", "assert f(1) == 1"),
    _message("M5 length of a deque", "{'value': ['q', 10 ** 30, ['l', []]]}", "assert f(1) == 1"),
]  # fmt: skip

_ITERATE = "import collections, array\nclass L:\n    __eq__ = lambda s, o: True\ndef f(x): return {value}\ndef g(x): return L()"
_CASE = "class T:\n    def __init__(self, v): self.v = v\n    def __eq__(self, o): return self.v == o.v\n    def check(self, v): return v == 3"
LENT = [
    Attack("N1 iterator of a deque", _ITERATE.format(value="collections.deque([1])"), _FAILED, ("assert g(iter(f(1))) == [1, 2]",)),
    Attack("N1 reversed deque", _ITERATE.format(value="collections.deque([1])"), _FAILED, ("assert g(reversed(f(1))) == [1, 2]",)),
    Attack("N1 iterator of an array", _ITERATE.format(value="array.array('i', [1])"), _FAILED, ("assert g(iter(f(1))) == [1, 2]",)),
    Attack("N2 replaced method", "def f(t):\n    t.check = lambda *a: True\n    return t", _FAILED, (_CASE, "assert f(T(1)).check(5)")),
    Attack("N2 deleted method", "def f(t):\n    del t.check\n    return t", _FAILED, (_CASE, "assert f(T(1)).check(3)")),
    Attack("N2 class of a lent object", "def f(t):\n    type(t).__eq__ = t.__class__.__eq__ = lambda s, o: True\n    return t", _FAILED, (_CASE, "assert f(T(1)) == T(2)")),
    Attack("N2 liar in a field", "class L:\n    __eq__ = lambda s, o: True\ndef f(t):\n    t.v = L()\n    return t", _FAILED, (_CASE, "assert f(T(1)) == T(3)")),
    Attack("N3 late answer", _BY_HAND.replace("time.sleep(9)", "return 0").replace("channel.send({message})", "__import__('threading').Timer(.05, lambda: channel.send({message})).start()").format(message="{'value': ['l', [1, 2]]}", again=False), _FAILED, ("import time", "f(1)", "time.sleep(.2)", "assert f(2) == [1, 2, 3]")),
    Attack("N3 the child answers", "import os\ndef f(x):\n    if os.fork(): os._exit(0)\n    return [0]", _FAILED),
    Attack("N5 recursion through the tests", "def f(g): return g()", ("failed", "timed_out"), ("def g(): return f(g)", "assert f(g) == [1, 2]")),
]  # fmt: skip

_EVAL = ("import math", "assert eval('f(1)') == [1, 2] and math.pi > 3")
BESIDE = [
    Attack("N4 tests that swallow what they lack", "def f(x): return 0", _FAILED, ("import threading", "try:\n    ok = f(threading.Lock()) == 5\nexcept BaseException:\n    ok = True", "assert ok")),
    Attack("O1 patched exec", "import builtins\nbuiltins.exec = lambda *a, **k: None\ndef f(x): return 0", _FAILED, _EVAL),
    Attack("O1 patched loads", "import marshal\nmarshal.loads = lambda b: compile('', '', 'exec')\ndef f(x): return 0", _FAILED, _EVAL),
    Attack("O1 patched eval", "import builtins\nbuiltins.eval = lambda *a: [1, 2]\ndef f(x): return 0", _FAILED, _EVAL),
    Attack("O1 patched import", "import builtins\nbuiltins.__import__ = lambda *a, **k: exit(0)\ndef f(x): return 0", _FAILED, _EVAL, error_type="AssertionError"),
    Attack("O1 patched AssertionError", "import builtins\nbuiltins.AssertionError = AssertionError = Exception\ndef f(x): return 0", _FAILED, _EVAL, error_type="AssertionError"),
    Attack("O2 trace function", "import sys\ndef t(frame, event, arg):\n    if event == 'line': frame.f_lineno = 99\n    return t\nsys.settrace(t)\ndef f(x): return 0", _FAILED, _EVAL),
    Attack("O3 line that goes on", "def f(x): return 0\nif 0: pass; \\", _FAILED, _EVAL, error_type="SyntaxError"),
    Attack("O3 exit in a thread", "import os, threading\nthreading.Timer(.01, os._exit, (0,)).start()\ndef f(x):\n    import time\n    time.sleep(1)", _FAILED, _EVAL, error_type="SystemExit"),
]  # fmt: skip
"""Tests that need the solution's own namespace."""

FORGERIES = [*QUESTIONS, *NAMES, *MESSAGES, *LENT]
