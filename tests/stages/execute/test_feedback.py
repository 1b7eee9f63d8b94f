"""Feedback is what CPython prints about the program."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from stages.execute.judge import Judge, Limits, Program
from tests.stages.execute.programs import FAILING, TEST, mutants, printed_by_cpython, program

LIMITS = Limits(feedback_chars=1_000_000)


@pytest.fixture(scope="module")
def shown() -> dict[str, str]:
    with Judge(limits=LIMITS, sandbox="process", workers=1) as judge:
        verdicts = judge.run([program(solution) for solution in FAILING.values()])
        return {name: verdict.feedback for name, verdict in zip(FAILING, verdicts, strict=True)}


@pytest.mark.parametrize("name", FAILING)
def test_feedback_is_what_the_interpreter_prints(shown: dict[str, str], name: str, tmp_path: Path) -> None:
    assert shown[name] == printed_by_cpython(program(FAILING[name]), tmp_path)


@pytest.mark.slow
def test_feedback_of_mutants_is_what_the_interpreter_prints(references: list[Program], tmp_path: Path) -> None:
    plain = [Program("", p.solution.replace("\r", ""), p.setup.replace("\r", ""), p.tests) for p in references]
    batch = list(dict.fromkeys(mutants(plain, 120, seed=11)))
    with Judge(limits=LIMITS, sandbox="process", workers=2) as judge:
        verdicts = list(judge.run(batch))
    compared = 0
    for mutant, verdict in zip(batch, verdicts, strict=True):
        if verdict.outcome == "failed" and verdict.error_type != "RecursionError":
            assert verdict.feedback == printed_by_cpython(mutant, tmp_path), mutant.solution
            compared += 1
    assert compared > 60


def test_the_end_is_kept_and_carets_can_be_left_out() -> None:
    with Judge(limits=Limits(feedback_chars=40, carets=False), sandbox="process", workers=1) as judge:
        first, second = judge.run([program("def f(x): return 1/0"), program("x = = 1")])
    assert first.feedback == "n f\nZeroDivisionError: division by zero\n"[-40:] or first.feedback.endswith(
        "division by zero\n"
    )
    assert len(first.feedback) == 40
    assert "^" not in second.feedback
    assert second.feedback.endswith("SyntaxError: invalid syntax\n")


def test_line_numbers_are_those_of_the_whole_program(judge: Judge) -> None:
    prompt = 'def f(x):\n    """Doc."""\n'
    verdict = next(
        judge.run([Program(prompt, "    return x", "import math", ("assert f(1) == 1", "assert f(1) == 2"))])
    )
    assert verdict.feedback.splitlines()[1:3] == ['  File "<string>", line 6, in <module>', f"    {TEST}"]


def test_feedback_names_no_address_and_no_path(judge: Judge) -> None:
    batch = [program("def f(x): raise ValueError(object())"), program("from collections import nope")]
    first, second = judge.run(batch)
    assert first.feedback.endswith("ValueError: <object object at 0x...>\n")
    assert sys.base_prefix not in second.feedback
