"""Attacks through what crosses between candidate and tests: values that cannot cross back, and reports that lie.

A test that needs one process with its solution runs beside it, where a verdict can be forged. Whether it needs that is
said by the test's text alone: each solution here returns something that the test's own, separable text then hands to
the candidate again.
"""

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
    _lie("H3 many frames", "'A'", frames="[[n % 2, 'f', 1, 1, 1, True] for n in range(200000)]"),
    Attack(
        "H4 exit while the tests print it",
        "import os\nclass L:\n    def __str__(self): os._exit(0)\n    __repr__ = __str__\ndef f(x): return L()",
        tests=("assert f(1) == 1, f(1)",), error_type="SystemExit",
    ),
]  # fmt: skip
