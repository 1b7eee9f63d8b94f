"""Programs that fail in many ways, and what CPython itself prints about them."""

# ruff: noqa: E501 -- a program is one line
from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

from stages.execute.judge import Program

TEST = "assert f(1) == 2"

FAILING = {
    "wrong": "def f(x): return x",
    "raises": "def f(x):\n    return g(x)\ndef g(x):\n    return {}['k'] + 1",
    "syntax": "def f(x) return x",
    "open bracket": "def f(x):\n    return (x",
    "open string": "def f(x):\n    '''",
    "indentation": "def f(x):\nreturn x",
    "tabs": "def f(x):\n\tif x:\n        return x",
    "missing": "def g(x): return x",
    "misspelt": "def ff(x): return x",
    "attribute": "def f(x): return [].appendd(x)",
    "name": "def f(x):\n    value = x\n    return valeu",
    "import": "import collectionss",
    "import name": "from math import sqroot",
    "cause": "def f(x):\n    try:\n        1 / 0\n    except ZeroDivisionError as e:\n        raise ValueError('no') from e",
    "context": "def f(x):\n    try:\n        1 / 0\n    except ZeroDivisionError:\n        raise ValueError('no')",
    "suppressed": "def f(x):\n    try:\n        1 / 0\n    except ZeroDivisionError:\n        raise ValueError('no') from None",
    "recursion": "def f(x): return f(x)",
    "mutual recursion": "def f(x): return g(x)\ndef g(x): return f(x) + 1",
    "own class": "class E(Exception): pass\ndef f(x): raise E('a\\nb')",
    "local class": "def f(x):\n    class E(Exception): pass\n    raise E",
    "notes": "def f(x):\n    e = ValueError('x')\n    e.add_note('more')\n    raise e",
    "library": "import json\ndef f(x): return json.loads('{')",
    "unicode": "def f(x):\n    ö = 'äöü' + 1; return ö",
    "crlf": "def f(x):\r\n    return x\r\n",
    "at import": "x = 1\ny = x.foo\ndef f(x): return x",
    "trailing blanks": "def f(x):\n    return x[0]   ",
    "multi-line": "def f(x):\n    return (x +\n        'a')",
    "unbound": "def f(x):\n    y += x\n    return y",
    "arguments": "def f(): return 1",
    "exec": "def f(x): exec('1/0')",
    "runtime syntax": "def f(x): exec('a b')",
    "key": "def f(x): raise KeyError('a b')",
    "empty": "",
    "comment": "# nothing",
    "unpack": "def f(x):\n    a, b = x, 1, 2\n    return a",
}


def program(solution: str) -> Program:
    """With the one test."""
    return Program("", solution, "", (TEST,))


def text(program: Program) -> str:
    """As it is executed."""
    return (
        "\n".join([program.prompt + program.solution, *([program.setup] if program.setup else []), *program.tests])
        + "\n"
    )


def printed_by_cpython(program: Program, folder: Path) -> str:
    """Standard error of the program as a script, with the file's name and the library's frames left out."""
    path = folder / "program.py"
    path.write_text(text(program), newline="")
    command = [sys.executable, "-I", "-W", "ignore", str(path)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=200, stdin=subprocess.DEVNULL, env=_environment(), check=False
    )
    return without_library(done.stderr.replace(str(path), "<string>"))


def _environment() -> dict[str, str]:
    return {"PYTHONHASHSEED": "0", "PATH": os.environ["PATH"]}


def without_library(stderr: str) -> str:
    """Standard error of a script without frames of the library, addresses and the library's place."""
    lines, skip = [], False
    for line in stderr.split("\n"):
        if line.startswith('  File "'):
            skip = '"<string>"' not in line
        elif not line.startswith("    "):
            skip = False
        if not skip:
            lines.append(line)
    text = "\n".join(lines).replace(sysconfig.get_paths()["stdlib"], "<stdlib>")
    return re.sub(r"at 0x[0-9a-f]+", "at 0x...", text)


def mutants(programs: list[Program], count: int, seed: int) -> list[Program]:
    """Programs with one small change each: most fail, in every way in which programs fail."""
    generator = random.Random(seed)
    found = []
    for _ in range(count):
        original = generator.choice(programs)
        found.append(Program(original.prompt, _mutate(original.solution, generator), original.setup, original.tests))
    return found


def _mutate(code: str, generator: random.Random) -> str:
    lines, place = code.split("\n"), generator.randrange(len(code))
    row = generator.randrange(len(lines))
    changes = [
        lambda: code[:place] + code[place + 1 :],
        lambda: "\n".join(lines[:row] + lines[row + 1 :]),
        lambda: "\n".join([*lines[:row], "    " + lines[row], *lines[row + 1 :]]),
        lambda: re.sub(r"\b\d+\b", lambda found: str(int(found[0]) + 1), code, count=1),
        lambda: code.replace("<", ">", 1).replace("+", "-", 1),
        lambda: re.sub(r"\b([a-z_]\w+)\b", r"\1x", code, count=generator.randrange(1, 6)),
        lambda: code.replace("return ", "return 1/0 or ", 1),
        lambda: code.replace("return ", "return [][5] or ", 1),
        lambda: code.replace("return ", "return {}['k'] or ", 1),
        lambda: code.replace("return ", "return (1).foo + ", 1),
        lambda: re.sub(r"def (\w+)", lambda found: f"def {found[1][:-1]}_", code, count=1),
    ]
    return generator.choice(changes)()
