"""Verdicts: their order, their sameness, and what tests may be made of."""

# ruff: noqa: E501 -- a program is one line
from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from stages.contract.errors import SandboxUnavailable
from stages.execute.inside import wire
from stages.execute.judge import Judge, Limits, Program, Verdict
from stages.execute.sandbox import SandboxKind
from tests.stages.execute.programs import mutants, program

STACK = "class Stack:\n    def __init__(self): self.items = []\n    def push(self, x): self.items.append(x)\n    def __len__(self): return len(self.items)"
POINT = "class P:\n    def __init__(s, x): s.x = x\n    def __eq__(s, o): return s.x == o.x\n    def __add__(s, o): return P(s.x + o.x)"
TEST_CLASS = "class T:\n    v = 3"

# Name: solution, setup, tests.
SPLIT = {
    "in-place change": ("def f(a): a.append(1)", "", ("x = [0]", "f(x)", "assert x == [0, 1]")),
    "nested change": ("def f(a):\n    a[0].append(a)\n    return a[0]", "", ("x = [[]]", "y = f(x)", "assert y is x[0] and x[0][0] is x")),
    "identity": ("def f(a): return a", "", ("x = [1]", "assert f(x) is x")),
    "class": (STACK, "", ("s = Stack()", "s.push([2])", "assert len(s) == 1 and s.items == [[2]] and isinstance(s, Stack)")),
    "operators of a class": (POINT, "", ("assert P(1) + P(2) == P(3)", "assert P(1) != P(2)")),
    "generator": ("def f(n):\n    for i in range(n): yield i", "", ("assert list(f(3)) == [0, 1, 2]", "assert next(f(2)) == 0")),
    "function returned": ("def f(n): return lambda x: x + n", "", ("assert f(2)(3) == 5",)),
    "function passed": ("def f(g, x): return g(x) + 1", "", ("assert f(lambda v: v * 2, 4) == 9", "assert f(len, [1, 2]) == 3")),
    "callback raises": ("def f(g):\n    try: g()\n    except ValueError as e: return str(e)", "", ("def bad(): raise ValueError('no')", "assert f(bad) == 'no'")),
    "exception caught": ("def f(x): raise ValueError('neg')", "", ("try:\n    f(1)\n    assert False\nexcept ValueError as e:\n    assert str(e) == 'neg'",)),
    "own exception caught": ("class E(Exception): pass\ndef f(x): raise E(x)", "", ("try:\n    f(7)\n    assert False\nexcept E as e:\n    assert e.args == (7,)",)),
    "numeric equality": ("def f(): return 2", "", ("assert f() == 2.0",)),
    "named tuple": ("from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(): return P(1, 2)", "", ("assert f() == (1, 2) and f().x == 1",)),
    "check function": ("def f(x): return x + 1", "", ("def check(candidate):\n    assert candidate(1) == 2", "check(f)")),
    "setup's import": ("def f(x): return math.sqrt(x)", "import math", ("assert f(4) == 2.0",)),
    "setup's class": ("def f(n): return Node(n).v", "class Node:\n    def __init__(self, v): self.v = v", ("assert f(4) == 4",)),
    "setup uses the solution's class": ("class N:\n    def __init__(s, v): s.v = v; s.left = None\ndef f(r): return r.left.v", "root = N(1)\nroot.left = N(2)", ("assert f(root) == 2",)),
    "class of a derived list": ("class S(list): pass\ndef f(): return S([1])", "", ("assert isinstance(f(), list) and type(f()).__name__ == 'S' != f().__class__",)),
    "class of an object": ("class S: pass\ndef f(): return S()", "", ("assert type(f()) == type(S()) and f().__class__.__name__ == 'S'", "try:\n    f() + 1\nexcept TypeError as e:\n    assert str(e).endswith(\"'S' and 'int'\")")),
    "attribute of an own exception": ("class E(ValueError):\n    def __init__(s, c):\n        super().__init__('m')\n        s.code = [c]\ndef f(x): raise E(x)", "", ("try:\n    f(7)\n    assert False\nexcept E as e:\n    assert e.code == [7] and str(e) == 'm' and not hasattr(e, 'other')",)),
    "global that changes": ("n = 0\ndef f():\n    global n\n    n += 1", "", ("f()", "f()", "assert n == 2")),
    "subclass of list": ("class S(list):\n    def peek(self): return self[-1]", "", ("s = S()", "s.append(3)", "assert s.peek() == 3 and s == [3] and len(s) == 1")),
    "enumeration": ("from enum import Enum\nclass C(Enum):\n    R = 1\ndef f(): return C.R", "", ("assert f() == C.R and f() is C.R and f().value == 1",)),
    "sorted by the solution": ("def f(a): return a[1]", "", ("assert sorted([(1, 2), (2, 1)], key=f) == [(2, 1), (1, 2)]",)),
    "built-in as solution": ("f = sum", "", ("assert f([1, 2]) == 3",)),
    "built-in's name": ("def sum(a, b): return a + b", "", ("assert sum(1, 2) == 3",)),
    "solution's module": ("import sys\ndef f(t): return sys.getsizeof(t)", "", ("assert f((1,)) == sys.getsizeof((1,))",)),
    "threads": ("import threading\ndef f():\n    r = []\n    t = threading.Thread(target=r.append, args=(1,))\n    t.start(); t.join()\n    return r", "", ("assert f() == [1]",)),
    "large": ("def f(n): return list(range(n))", "", ("assert f(100000) == list(range(100000))",)),
    "object of the tests": ("def f(t): return t.v", "", (TEST_CLASS, "assert f(T()) == 3")),
    "coroutine": ("async def f(): return 1", "", ("import asyncio", "assert asyncio.run(f()) == 1")),
    "iterator of the tests": ("def f(i): return next(i)", "", ("i = iter([1, 2])", "assert f(i) == 1 and list(i) == [2]")),
    "regular expression": ("import re\ndef f(s): return re.match('a+', s)", "", ("assert f('aab').group() == 'aa'", "assert f('b') is None")),
}  # fmt: skip
BESIDE = {
    "redirected output": ("def f(): print('hi')", "", ("import io, contextlib", "b = io.StringIO()", "with contextlib.redirect_stdout(b): f()", "assert b.getvalue() == 'hi\\n'")),
    "subclass in the tests": ("class A:\n    def g(self): return 1", "", ("class B(A): pass", "assert B().g() == 1")),
    "standard output": ("def f(): print(1)", "", ("import sys", "f()", "assert sys.stdout")),
    "file": ("def f(p): return open(p).read()", "", ("open('x', 'w').close()", "assert f('x') == ''")),
}  # fmt: skip


_PLAIN = ("def f(x):\n    return x", "f(1) == 1")
_FLAT = (
    "from typing import Iterable\ndef f(x): return [z for y in x for z in f(y)] if isinstance(x, Iterable) else [x]",
    "f([1, [2]]) == [1, 2]",
)
_CATCHER = (
    "def f(x):\n    try:\n        return len([0] * x)\n    except Exception:\n        return 0",
    "f(22000000) == 22000000",
)
POISONS = {
    "a generator's last words": (
        "def f():\n    try:\n        yield 1\n    finally:\n        while True:\n            pass\nG = f()\nnext(G)",
        *_PLAIN,
    ),
    "a delegate's close": (
        "class C:\n    def __iter__(self):\n        return self\n    def __next__(self):\n        return 1\n"
        "    def close(self):\n        while True:\n            pass\ndef f():\n    yield from C()\nG = f()\nnext(G)",
        *_PLAIN,
    ),
    "a registered class": (
        "from typing import Iterable\nclass f:\n    def register(self):\n        pass\nIterable.register(int)",
        *_FLAT,
    ),
    "memory in a cycle": ("a = [0] * 40000000\na.append(a)\ndef f():\n    pass", *_CATCHER),
}
"""A certified program, and an honest one with its test that comes next."""


def judged(judge: Judge, case: tuple[str, str, tuple[str, ...]]) -> Verdict:
    solution, setup, tests = case
    return next(judge.run([Program("", solution, setup, tests)]))


@pytest.mark.parametrize("name", SPLIT)
def test_tests_of_every_kind_are_evaluated_apart(judge: Judge, name: str) -> None:
    verdict = judged(judge, SPLIT[name])
    assert (verdict.outcome, verdict.isolation) == ("passed", "process-split"), verdict.feedback


@pytest.mark.parametrize("name", BESIDE)
def test_tests_that_need_one_namespace_run_beside_and_it_is_said(judge: Judge, name: str) -> None:
    verdict = judged(judge, BESIDE[name])
    assert (verdict.outcome, verdict.isolation) == ("passed", "process-beside"), verdict.feedback


def test_what_made_the_tests_run_beside_is_not_in_the_feedback(judge: Judge) -> None:
    tests = ("import threading", "class T(threading.Thread): v = 3", "assert f(T()) == 4")
    verdict = judged(judge, ("def f(t): return t.v", "", tests))
    assert (verdict.error_type, verdict.isolation) == ("AssertionError", "process-beside")
    assert verdict.feedback.count("Traceback") == 1
    assert "During handling" not in verdict.feedback


def test_verdicts_come_in_order_and_equal_programs_run_once(judge: Judge) -> None:
    counter = "import time\nstamp = time.time_ns()\ndef f(x): raise ValueError(stamp)"
    batch = [program(counter), program("def f(x): return 2"), program(counter), program("def f(x): return 3")]
    heard: list[int] = []
    verdicts = list(judge.run(batch, heard.append))
    assert [verdict.outcome for verdict in verdicts] == ["failed", "passed", "failed", "failed"]
    assert verdicts[0] == verdicts[2]
    assert heard[-1] == 4


def test_a_verdict_that_was_given_is_not_kept(judge: Judge) -> None:
    texts = [f"def f(): return ['{number}' * 1000]" for number in (*range(30), 0, 29)]
    run = judge.run([Program("", text, "", ("exhibit = f()",)) for text in texts])
    for _ in texts:
        last = next(run)
    assert last.exhibit == ["29" * 1000]
    assert sum(type(each) is Verdict and each.exhibit is not None for each in gc.get_objects()) <= 3
    assert list(run) == []


def test_no_programs_and_no_tests(judge: Judge) -> None:
    assert list(judge.run([])) == []
    assert next(judge.run([Program("", "x = 1", "", ())])).outcome == "passed"


@pytest.mark.slow
def test_all_references_pass(judge: Judge, references: list[Program]) -> None:
    verdicts = list(judge.run(references))
    assert Counter((verdict.outcome, verdict.isolation) for verdict in verdicts) == {
        ("passed", "process-split"): len(references)
    }


@pytest.mark.slow
def test_sharing_workers_and_order_change_no_verdict(references: list[Program]) -> None:
    batch = mutants(references, 200, seed=5)
    results = []
    for workers, share, order in ((2, True, 1), (1, False, -1)):
        with Judge(limits=Limits(timeout_seconds=3), sandbox="process", workers=workers, share=share) as judge:
            results.append([(v.outcome, v.error_type, v.feedback) for v in judge.run(batch[::order])][::order])
    assert results[0] == results[1]


@pytest.mark.parametrize("name", POISONS)
def test_a_program_before_it_changes_no_verdict(name: str) -> None:
    poison, solution, call = POISONS[name]
    programs = [Program("", poison, "", ("f",)), Program("", solution, "", (f"assert {call}",))]
    with Judge(limits=Limits(timeout_seconds=6), sandbox="process", workers=1) as judge:
        assert [verdict.outcome for verdict in judge.run(programs)] == ["passed", "passed"]


@pytest.mark.parametrize("letters", [wire.LARGEST // 2, wire.LARGEST + 1])
def test_a_program_of_many_megabytes_fails_alone(judge: Judge, letters: int) -> None:
    programs = [
        Program("", "x = '" + "a" * letters + "'", "", ("assert x",)),
        Program("", f"x = {letters}", "", ("assert x",)),
    ]
    assert [verdict.outcome for verdict in judge.run(programs)] == ["out_of_memory", "passed"]


def test_a_dead_sandbox_is_replaced_and_its_program_tried_again() -> None:
    batch = [program(f"def f(x): return 2  # {number}") for number in range(60)]
    with Judge(limits=Limits(), sandbox="process", workers=1) as judge:
        victim = judge._workers[0].sandbox.process.pid
        verdicts = judge.run(batch)
        first = next(verdicts)
        os.kill(victim, signal.SIGKILL)
        assert {verdict.outcome for verdict in [first, *verdicts]} == {"passed"}


def test_a_sandbox_is_renewed_after_so_many_programs_and_no_verdict_is_lost_or_moved() -> None:
    batch = [program(f"def f(x): return {2 if number % 3 else 0}  # {number}") for number in range(25)]
    with Judge(limits=Limits(), sandbox="process", workers=2) as judge:
        judge.renew_after = 4
        before = {worker.sandbox.process.pid for worker in judge._workers}
        verdicts = list(judge.run(batch))
        assert not before & {worker.sandbox.process.pid for worker in judge._workers}
    assert [verdict.outcome for verdict in verdicts] == ["passed" if number % 3 else "failed" for number in range(25)]


def test_a_run_that_is_not_read_to_its_end_leaves_no_verdict_for_the_next(judge: Judge) -> None:
    right, wrong = (program(f"def f(x): return {value}") for value in (2, 3))
    for _ in range(3):
        assert (
            next(judge.run([right, wrong, program("def f(x): return 4"), program("def f(x): return 5")])).feedback == ""
        )
        assert [verdict.outcome for verdict in judge.run([wrong, right])] == ["failed", "passed"]


def test_a_missing_runsc_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with (
        pytest.raises(SandboxUnavailable, match=r"runsc is not on the PATH; install"),
        Judge(limits=Limits(), sandbox="gvisor", workers=1),
    ):
        pass


@pytest.mark.slow
def test_two_judges_do_not_disturb_each_other() -> None:
    bomb = "def f(x):\n    import os\n    while True:\n        try: os.fork()\n        except OSError: pass"
    honest = [
        program(
            f"import os\ndef f(x):\n    p = os.fork()\n    if not p: os._exit(0)\n    os.waitpid(p, 0)\n    return 2  # {number}"
        )
        for number in range(20)
    ]
    limits = Limits(timeout_seconds=2)
    with (
        Judge(limits=limits, sandbox="process", workers=1) as one,
        Judge(limits=limits, sandbox="process", workers=1) as other,
    ):
        thread = threading.Thread(target=lambda: list(one.run([program(bomb)])))
        thread.start()
        assert {verdict.outcome for verdict in other.run(honest)} == {"passed"}
        thread.join()


VICTIM = """
import sys, time
from stages.execute.judge import Judge, Limits, Program
if __name__ == "__main__":
    with Judge(limits=Limits(timeout_seconds=60), sandbox=sys.argv[1], workers=1) as judge:
        print(judge.description.kind, flush=True)
        list(judge.run([Program("", "def f(x):\\n    while True: pass", "", ("assert f(1)",))]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["process", "gvisor"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_when_the_judge_is_killed(kind: SandboxKind, number: signal.Signals, tmp_path: Path) -> None:
    if kind == "gvisor" and not any((Path(folder) / "runsc").exists() for folder in os.environ["PATH"].split(":")):
        pytest.skip("runsc is not installed")
    root = Path(__file__).parents[3]
    marker = tmp_path / "cache"
    environment = {**os.environ, "XDG_CACHE_HOME": str(marker), "PYTHONPATH": str(root)}
    victim = subprocess.Popen([sys.executable, "-c", VICTIM, kind], stdout=subprocess.PIPE, env=environment, text=True)
    assert victim.stdout is not None
    with victim.stdout:
        assert victim.stdout.readline().strip() == kind
        time.sleep(0.5)
        victim.send_signal(number)
        victim.wait(120)
    deadline = time.monotonic() + 120
    while _mentioning(str(marker)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _mentioning(str(marker)) == []


def test_the_folder_of_a_killed_judge_is_swept_and_that_of_a_living_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", VICTIM, "process"]
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Judge(limits=Limits(), sandbox="process", workers=1) as judge:
        living = list(tmp_path.iterdir())
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as victim:
            assert victim.stdout is not None
            assert victim.stdout.readline().strip() == "process"
            assert len(list(tmp_path.iterdir())) == 2
            victim.kill()
        deadline = time.monotonic() + 120
        while len(list(tmp_path.iterdir())) > 1 and time.monotonic() < deadline:
            with Judge(limits=Limits(), sandbox="process", workers=1):
                pass
        assert list(tmp_path.iterdir()) == living
        assert next(judge.run([program("def f(x): return 2")])).outcome == "passed"


def _mentioning(word: str) -> list[str]:
    """Command lines of the machine's processes that contain a word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in text:
            found.append(text)
    return found
