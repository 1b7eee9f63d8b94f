"""Attacks through what crosses between candidate and tests: values that cannot cross back, and reports that lie.

A test that needs one process with its solution runs beside it, where a verdict can be forged. Whether it needs that is
said by the test's text alone: each solution here returns something that the test's own, separable text then hands to
the candidate again.
"""

# ruff: noqa: E501 -- a program is one line
from __future__ import annotations

from tests.sandbox.attacks import Attack

_TWICE = ("assert g(f(1)) == [1, 2]",)
_BACK = "\ndef g(x): return 0"
_UNABLE = ("failed", "output_limit")

_RAISE = """
import sys, time
def f(x):
    frame = sys._getframe()
    while frame:
        for value in list(frame.f_locals.values()):
            if type(value).__name__ == "Candidate":
                links = [{{"text": "x", "how": None, "frames": {frames}}}]
                raised = {{"type": {name}, "bases": ["Exception"], "class": {number}, "arguments": None}}
                value.channel.send({{"raised": {{**raised, "links": links}}}})
                time.sleep(60)
        frame = frame.f_back
"""


def _lie(name: str, kind: str, *, number: str = "None", frames: str = "[]") -> Attack:
    return Attack(name, _RAISE.format(name=kind, number=number, frames=frames), error_type="RuntimeError")


CROSSINGS = [
    Attack("H1 module", "import math\ndef f(x): return math" + _BACK, _UNABLE, _TWICE),
    Attack("H1 iterating type", "f = enumerate" + _BACK, _UNABLE, ("assert g(f('a')) == [1, 2]",)),
    Attack("H1 object", "f = object" + _BACK, _UNABLE, ("assert g(f()) == [1, 2]",)),
    Attack("H1 exception", "f = ValueError" + _BACK, _UNABLE, _TWICE),
    Attack(
        "H1 deep", "def f(x):\n    y = []\n    for _ in range(98): y = [y]\n    return y" + _BACK,
        _UNABLE, ("assert g([[[f(1)]]]) == [1, 2]",),
    ),
    Attack("H1 large", "def f(x): return chr(233) * 1200000" + _BACK, _UNABLE, ("assert g(f(1) * 3) == [1, 2]",)),
    Attack(
        "H2 identity", "import math\ndef f(x, key): return key(math) and 0",
        _UNABLE, ("assert f(1, lambda x: x) == [1, 2]",),
    ),
    Attack(
        "H2 iterating module", "import itertools\ndef f(x, key): return key(itertools) and 0",
        _UNABLE, ("assert f(1, lambda x: x.count(1)) == [1, 2]",),
    ),
    Attack(
        "H2 union of types", "def f(x, key): return key(int, str) and 0",
        _UNABLE, ("assert f(1, lambda a, b: a | b) == [1, 2]",),
    ),
    _lie("H3 long name", "chr(233) * 1390000"),
    _lie("H3 surrogate in a name", "chr(0xd800)"),
    _lie("H3 no name of a class", "chr(0) * 2", number="1"),
    _lie("H3 many frames", "'A'", frames="[[n % 2, 'f', 1, 1, 1, True] for n in range(20000)]"),
    Attack(
        "H4 exit while the tests print it",
        "import os\nclass L:\n    def __str__(self): os._exit(0)\n    __repr__ = __str__\ndef f(x): return L()",
        tests=("assert f(1) == 1, f(1)",), error_type="SystemExit",
    ),
]  # fmt: skip

_OBJECT = "class F:\n    __init__ = __call__ = lambda s, *a: None\n"
_ALWAYS = "".join(
    f"    __{name}__ = lambda s, *a: {value}\n"
    for value, names in {
        "True": "eq lt le gt ge contains bool",
        "0": "sub rsub truediv floordiv mod rmod xor and rand abs float int round neg pos hash index",
        "s": "iter add mul",
    }.items()
    for name in names.split()
)
_SELF = "".join(f"    __{name}__ = lambda s, *a: s\n" for name in "sub rsub truediv mod neg pos add mul xor".split())  # noqa: SIM905
_NUMBERS = "".join(f"    __{name}__ = lambda s, *a: 0.0\n" for name in "abs float round bool int index".split())  # noqa: SIM905


def _liars(name: str, tests: tuple[str, ...]) -> list[Attack]:
    """Classes in place of the function F: their operators answer as the tests hope, or with themselves first."""
    return [
        Attack(f"{name}, answers", _OBJECT + _ALWAYS, _UNABLE, tests),
        Attack(f"{name}, objects", _OBJECT + _SELF + _NUMBERS, _UNABLE, tests),
        Attack(f"{name}, a float", _OBJECT.replace("F:", "F(float):\n    __new__ = lambda c, *a: float.__new__(c, 7)") + _ALWAYS, _UNABLE, tests),
    ]  # fmt: skip


_PASS_BESIDE = """
import json, os, struct
text = json.dumps({{"value": {value}}}).encode()
for fd in range(3, 64):
    try: os.write(fd, (struct.pack('<II', len(text), 0) + text) * 2)
    except OSError: pass
os._exit(0)
"""
_LENT = "\ndef f(it):\n    try:\n        return {look}\n    except AttributeError:\n        return 0"
CROSSINGS += [
    *_liars("I1 equality", ("assert F(1) == [1, 2]",)),
    *_liars("I1 equality, reversed", ("assert [1, 2] == F(1)",)),
    *_liars("I1 nested", ("assert [F(1)] == [[1, 2]]",)),
    *_liars("I1 order", ("assert 1 < F(1) < 3",)),
    *_liars("I2 tolerance", ("assert abs(F(1) - 1.5) < 1e-6",)),
    *_liars("I2 tolerance, reversed", ("assert abs(1.5 - F(1)) < 1e-6",)),
    *_liars("I2 negated", ("assert abs(-(F(1) - 1.5)) < 1e-6",)),
    *_liars("I2 scaled", ("assert abs((F(1) - 1.5) * 1) < 1e-6",)),
    *_liars("I2 rounded", ("assert round(F(1) - 1.5, 3) == 0",)),
    *_liars("I2 ratio", ("assert abs(F(1) / 1.5 - 1) < 1e-6",)),
    *_liars("I2 truth", ("assert not (F(1) - 1.5)",)),
    *_liars("I3 membership", ("assert 5 in F(1)",)),
    *_liars("I3 dictionary", ("assert {1: 2}[F(1)] == 2",)),
    *_liars("I4 type", ("assert type(F(1)) is list",)),
    *_liars("I4 instance", ("assert isinstance(F(1), list)",)),
    Attack(
        "I5 itself from a method",
        "class F:\n    def __init__(s, *a): pass\n    def area(s): return s\n" + _ALWAYS, _UNABLE,
        ("c = F(2)", "assert abs(c.area() - 12.5) < 1e-6 and c.area() == 12.5"),
    ),
    Attack(
        "I5 membership of itself from a method",
        "class F:\n    def __init__(s, *a): pass\n    items = property(lambda s: s)\n    push = lambda s, x: None\n"
        "    __contains__ = lambda s, x: True", _UNABLE, ("c = F()", "c.push(5)", "assert 5 in c.items"),
    ),
    *(
        Attack(f"I6 {look}", _LENT.format(look=look), ("failed",), ("expected = [1, 2]", "def g():\n    yield 0", "assert f(g()) == expected"))
        for look in ("it.gi_frame.f_globals['expected']", "it.gi_code.co_consts", "it.__class__.__init__.__globals__", "it.__next__.__self__.gi_frame.f_back.f_globals['expected']")
    ),
    *(
        Attack(f"I6 {look}", _LENT.format(look=look), ("failed",), ("expected = [1, 2]", "class T:\n    def m(self): return 0", "assert f(T()) == expected"))
        for look in ("it.m.__globals__['expected']", "it.m.__func__.__globals__['expected']", "it.__init__.__globals__", "it.__dict__", "it.__reduce__()")
    ),
    *(
        Attack(f"I7 {kind} of a lent object", "def f(t):\n    import sys\n    a = type(t)._leti_ask if False else t._leti_ask\n    return a(t._leti_lent, " + deed + ", {})", _UNABLE, ("class T:\n    v = 3", "assert f(T()) == [1, 2]"))
        for kind, deed in {"odd deed": "'isinstance', (int,)", "private name": "'get', ('__class__',)", "no text": "'get', (3,)", "store": "'set', ('__class__', 3)"}.items()
    ),
    Attack("I8 changes nobody asked for", "def f(x):\n    x.append(x)\n    x[:] = [x] * 3\n    return 0", ("failed",), ("x = [0]", "y = f(x)", "assert y == [1, 2]")),
]  # fmt: skip

_NAMESPACE = ("class G(F): pass", "assert G().f(1) == [1, 2]")
BESIDE = [
    Attack("J1 early exit beside", "import os\nclass F: pass\nos._exit(0)", error_type="SystemExit", tests=_NAMESPACE),
    Attack("J1 sys.exit beside", "import sys\nclass F:\n    def f(s, x): sys.exit(0)", error_type="SystemExit", tests=_NAMESPACE),
    Attack("J1 killed beside", "import os\nclass F:\n    def f(s, x): os.kill(os.getpid(), 9)", error_type="SIGKILL", tests=_NAMESPACE),
    Attack("J2 answers in advance", _PASS_BESIDE.format(value="None"), _UNABLE, _NAMESPACE),
    Attack("J2 answers with a nonce in advance", _PASS_BESIDE.format(value="'0' * 32"), _UNABLE, _NAMESPACE),
    Attack("J3 swallows the tests", "class F: pass\nx = '''", tests=(*_NAMESPACE, "y = '''done'''"), error_type="SyntaxError"),
    Attack("J3 decorates the tests", "class F: pass\n@lambda c: None", tests=_NAMESPACE, error_type="SyntaxError"),
]  # fmt: skip
"""Tests that need the solution's own namespace: a pass is a claim there, but not one that costs nothing."""
