"""Mutants of MBPP's references fail with the error type and the text that CPython gives for that very program."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from stages.execute.judge import Judge, Limits, Program
from tests.stages.execute.mutants import mutants
from tests.stages.execute.probes import of_cpython

EXPECTED = {
    "loop": {"TimeoutError"}, "exit": {"SystemExit"}, "recursion": {"RecursionError"},
    "division": {"ZeroDivisionError"}, "import": {"ModuleNotFoundError"}, "own exception": {"Wrong"},
    "assertion": {"AssertionError"}, "unpacking": {"ValueError"}, "caught and raised": {"ValueError"},
}  # fmt: skip
"""Error types of a change whatever the program, where the changed line runs at all."""
OTHERWISE = {None, "TypeError", "AssertionError", "NameError", "UnboundLocalError"}


def check(references: list[Program], count: int, seed: int, folder: Path) -> Counter[str | None]:
    """Judge the mutants and compare; returns how often each error type came."""
    plain = [
        replace(p, solution=p.solution.replace("\r", ""), setup=p.setup.replace("\r", ""), tests=p.tests)
        for p in references
    ]
    batch = mutants(plain, count, seed)
    with Judge(limits=Limits(feedback_chars=1_000_000, timeout_seconds=2), sandbox="process", workers=2) as judge:
        verdicts = list(judge.run([program for _, program in batch]))
    for (kind, program), verdict in zip(batch, verdicts, strict=True):
        assert verdict.error_type in EXPECTED.get(kind, {verdict.error_type}) | OTHERWISE, (program, verdict)
    printed = [row for row in zip(batch, verdicts, strict=True) if row[1].outcome in ("passed", "failed")]
    expected = of_cpython([program for (_, program), _ in printed], folder)
    for ((_, program), verdict), (outcome, errors) in zip(printed, expected, strict=True):
        assert verdict.outcome == outcome, program
        # CPython prints nothing about SystemExit; a program that leaves before its tests do is told so.
        assert verdict.feedback == errors or verdict.error_type == "SystemExit", (program, errors, verdict.feedback)
    return Counter(verdict.error_type for verdict in verdicts)


def test_mutants_fail_as_in_cpython(references: list[Program], tmp_path: Path) -> None:
    assert len(check(references, 32, 3, tmp_path)) >= 8


@pytest.mark.slow
def test_more_mutants_fail_as_in_cpython(references: list[Program], tmp_path: Path) -> None:
    assert len(check(references, 120, 5, tmp_path)) >= 12
