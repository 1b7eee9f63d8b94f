"""What sources say of programs, and that no program can harm who asks them."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.contract.errors import SandboxUnavailable
from stages.execute.feedback import compiler, linter
from stages.execute.feedback.child import SECONDS, answer
from stages.execute.feedback.reader import LONGEST, Child, Text, read_all

PROMPT = '"""\nSum.\n"""'
SLIPS = "\nimport os\ndef f(x):\n    total = 0\n    if x is 1:\n        return totl\n    return '\\d'\n"
HOSTILE = {
    "brackets": "\nx = " + "(" * 5000 + ")" * 5000,
    "minus signs": "\nx = " + "-" * 90_000 + "1",
    "a sum without end": "\n" + "a+" * 40_000 + "a",
    "calls upon calls": "\nf" + "(1)" * 30_000,
    "attributes of attributes": "\nx" + ".y" * 40_000,
    "branch upon branch": "\nif 0: pass\n" + "elif 1: pass\n" * 7000,
    "indents": "\n" + "".join(" " * n + "if 1:\n" for n in range(98)) + " " * 98 + "pass\n",
    "towers of powers": "\nx = 10 ** 10 ** 10 ** 10",
    "giant text": "\nx = 'a' * 10 ** 12",
    "digits": "\nx = " + "9" * 90_000,
    "null byte": "\nx = '\0'",
    "lone surrogate": "\n\udc80 = '\ud800'",
    "format strings in format strings": "\nx = " + "f'{" * 60 + "1" + "}'" * 60,
    "lambdas": "\nx = " + "lambda: " * 9000 + "1",
    "comprehensions": "\nx = " + "[" * 150 + "1" + " for a in b]" * 150,
    "too long": "\n#" + "x" * LONGEST,
    "names": "\n" + "".join(f"n{n} = n{n + 1}\n" for n in range(6000)),
}


def test_the_linter_tells_of_the_candidates_own_lines() -> None:
    assert answer(linter.read, PROMPT, SLIPS) == (
        "<string>:4:1: 'os' imported but unused\n"
        "<string>:6:5: local variable 'total' is assigned to but never used\n"
        "<string>:7:8: use ==/!= to compare constant literals (str, bytes, int, float, tuple)\n"
        "<string>:8:16: undefined name 'totl'\n"
    )
    assert answer(linter.read, "import os\ndef f(x):\n", "    return x\n") == ""
    assert answer(linter.read, PROMPT, "\ndef f(:\n") == ""


def test_the_compiler_tells_what_a_traceback_lacks() -> None:
    said = answer(compiler.read, PROMPT, SLIPS)
    assert said.startswith('<string>:7: SyntaxWarning: "is" with a literal. Did you mean "=="?\n  if x is 1:\n')
    assert "<string>:9: " in said and "invalid escape sequence '\\d'" in said
    assert answer(compiler.read, PROMPT, "\ndef f(x:\n    return x\n") == ""
    assert answer(compiler.read, "x = 1 is 1\n", "y = 2\n") == ""


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_as_cpython_counts_them(end: str) -> None:
    program = end.join(["", "x = 1", "y = '\x0c \u2028'", "z = undefined"])
    assert answer(linter.read, PROMPT.replace("\n", end), program) == "<string>:6:5: undefined name 'undefined'\n"


@pytest.mark.slow
@pytest.mark.parametrize("source", ["compiler", "linter"])
def test_hostile_programs_cost_their_own_text_at_most(source: str) -> None:
    texts = [Text(PROMPT, each) for hostile in HOSTILE.values() for each in (hostile, SLIPS)]
    said = read_all(source, texts, 1)
    harmless = answer({"compiler": compiler, "linter": linter}[source].read, PROMPT, SLIPS)
    assert harmless and said[1::2] == [harmless] * len(HOSTILE)
    assert all(len(each) <= 20_000 for each in said)


def test_a_child_that_is_brought_down_is_replaced() -> None:
    child = Child("linter")
    try:
        assert child.ask(Text(PROMPT, SLIPS)) and not child.has_ended
        child.process.kill()
        child.process.wait()
        assert child.ask(Text(PROMPT, SLIPS)) == "" and child.has_ended
    finally:
        child.close()


@pytest.mark.parametrize("size", [10, LONGEST])
def test_a_child_that_neither_reads_nor_answers_is_given_up(size: int) -> None:
    child = Child("compiler")
    try:
        assert child.ask(Text("", "#" * size)) == "" and not child.has_ended
        child.patience = 0.5
        os.kill(child.process.pid, signal.SIGSTOP)
        assert child.ask(Text("", "#" * size)) == "" and child.has_ended
    finally:
        child.close()


def test_the_child_may_neither_write_nor_start_anything_nor_reach_the_network() -> None:
    child = Child("compiler")
    try:
        assert child.ask(Text("", "x = 1 is 1")).startswith("<string>:1: SyntaxWarning")
        proc = Path("/proc") / str(child.process.pid)
        status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line)
        limits = (proc / "limits").read_text()
    finally:
        child.close()
    assert status["NoNewPrivs"] == "1" and status.get("Seccomp", "2") == "2" and int(status["CapEff"], 16) == 0
    rows = {line[:25].strip(): line[25:].split()[0] for line in limits.splitlines()}
    assert rows["Max file size"] == rows["Max processes"] == rows["Max core file size"] == "0"
    assert int(rows["Max address space"]) == 1 << 30


def test_every_program_has_processor_time_of_its_own() -> None:
    child = Child("compiler")
    try:
        assert child.ask(Text("", "x = 1 is 1")) and child.ask(Text("", "x = 1 is 2"))
        limits = (Path("/proc") / str(child.process.pid) / "limits").read_text()
    finally:
        child.close()
    soft, hard = next(line[25:].split()[:2] for line in limits.splitlines() if line.startswith("Max cpu time"))
    kept = resource.getrlimit(resource.RLIMIT_CPU)[1]
    assert 0 < int(soft) <= SECONDS + 60 and hard == ("unlimited" if kept == resource.RLIM_INFINITY else str(kept))


def test_a_program_that_takes_longer_ends_the_child() -> None:
    code = "from stages.execute.feedback.child import allow\nfor _ in range(3): allow(1)\nwhile True: pass"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == -signal.SIGXCPU


def test_a_child_that_cannot_start_is_no_silence() -> None:
    with pytest.raises(SandboxUnavailable, match="unheard_of"):
        Child("unheard_of")


def test_equal_programs_are_read_once_and_answers_keep_their_places() -> None:
    texts = [Text(PROMPT, f"\nx = undefined{number % 7}\n") for number in range(2000)]
    said = read_all("linter", texts, 2)
    assert [each[-3] for each in said] == [str(number % 7) for number in range(2000)]
    assert read_all("linter", [], 2) == []


@settings(max_examples=200)
@given(st.text(alphabet="\n\r\t \x00x=:()[]'\"\\#@fi123.,é\ud800", max_size=60))
def test_sources_answer_any_text(program: str) -> None:
    for source in (compiler, linter):
        assert isinstance(answer(source.read, "", program), str)
