"""What may share a process, and what may not."""

# ruff: noqa: E501 -- a program is one line
from __future__ import annotations

import ast

import pytest

from stages.execute.inside.certify import is_harmless

HARMLESS = [
    "def f(x): return sorted(set(x), key=lambda v: -v)",
    "import math\ndef f(x): return math.sqrt(x)",
    "from collections import Counter, deque\ndef f(x):\n    c = Counter(x)\n    c.update(x)\n    return deque(c.most_common())",
    "import re\ndef f(s): return re.sub('a', lambda m: m.group() * 2, s)",
    "class Node:\n    def __init__(self, v):\n        self.v = v\n        self.next = None\ndef f(x): return Node(x).v",
    "def f(x):\n    try:\n        return x[0]\n    except (IndexError, TypeError) as e:\n        raise ValueError(str(e))",
    "def f(x): return '{} {:>3}'.format(x, 1) + f'{x!r:>10}' + '%s' % x",
    "def f(x): return undefined(x).missing",
    "if __name__ == '__main__':\n    print('x')",
]
HARMFUL = [
    "import os", "from os import *", "import math as os\nm = os", "from math import *", "__import__('os')", "eval('1')", "exec('1')",
    "open('x')", "input()", "globals()['x'] = 1", "vars()", "getattr(1, 'x')", "setattr(f, 'a', 1)", "type(1)", "exit()", "__builtins__",
    "().__class__", "f.__globals__", "(x for x in y).gi_frame", "e.__traceback__", "e.with_traceback(None)", "int.mro()",
    "'{0.__class__}'.format(1)", "'{0[a]}'.format(1)", "'{:{}}'.format(1, 2)", "s = '{0.x}'\ns.format(1)", "str.format('{0.x}', 1)",
    "import math\nmath.pi = 3", "import math\nm = math", "import math\ndel math.pi", "import sys\nsys.exit()",
    "from collections import Counter\nCounter.x = 1", "from collections import Counter\nc = Counter", "import collections\nc = collections.Counter",
    "def f(): pass\nf.x = 1", "class A:\n    def f(self): self.x = 1\nA.f(1)", "class A:\n    def f(self):\n        self = 1\n        self.x = 2",
    "class A:\n    def f(self):\n        def g(self): self.x = 1\n        g(print)", "class A(metaclass=B): pass", "class A(dict): pass",
    "class A:\n    def __del__(self): pass", "class A:\n    def __getattr__(self, n): pass", "class A:\n    @staticmethod\n    def f(x): x.y = 1",
    "try:\n    pass\nexcept:\n    pass", "try:\n    pass\nexcept BaseException:\n    pass", "try:\n    pass\nexcept RecursionError:\n    pass",
    "print(1, file=x)", "from functools import lru_cache\nf.cache_clear()", "import operator\noperator.attrgetter('a')", "with x: pass",
    "async def f(): pass", "match x:\n    case int(): pass", "def __build_class__(): pass", "def f(__debug__x): pass\n__builtins__ = 1",
    "import copy\nclass A:\n    def __deepcopy__(self, memo): pass",
    "def g():\n    try:\n        yield 1\n    finally:\n        h()", "def g():\n    try:\n        yield from h()\n    finally:\n        h()",
    "class C:\n    def close(self): pass\ndef g(): yield from C()", "class C:\n    def __init__(self): self.close = print\ndef g(): yield from C()",
    "from typing import Any\nclass A:\n    def f(self): self.x = 1\n    f(Any)", "class A:\n    def f(self): self.x = 1\n    def g(self, y=[f]): return y",
    "from typing import Iterable\nclass A:\n    def register(self, x): pass\nIterable.register(int)",
]  # fmt: skip


@pytest.mark.parametrize("source", HARMLESS)
def test_a_harmless_program_is_certified(source: str) -> None:
    assert is_harmless(ast.parse(source))


@pytest.mark.parametrize("source", HARMFUL)
def test_a_program_that_could_reach_the_interpreter_is_not(source: str) -> None:
    assert not is_harmless(ast.parse(source))
