"""Honest programs get the verdict and the feedback of plain CPython, though their tests run in another process."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from stages.execute.judge import Judge, Limits, Program, Verdict
from tests.stages.execute.probes import of_cpython, table

PROGRAMS = table()
DIFFERENT = {
    "class of a class": "a class of the solution is an instance of a class derived from `type`",
    "global rebound by the tests": "what tests bind to a name is never given to the solution: it may be the answer",
    "function replaced by the tests": "the same",
}
"""Where the split differs from one namespace, and why."""
BESIDE = frozenset(
    {
        "environment shared", "file shared", "input replaced", "output captured", "pickle of an object",
        "subclass in the tests", "unittest",
    }
)  # fmt: skip
"""Tests that replace a part of the one namespace, or make objects there that only one process can hold."""


@pytest.fixture(scope="module")
def rows() -> dict[str, tuple[Verdict, tuple[str, str]]]:
    """Verdict and CPython's outcome and standard error of each program."""
    batch: list[Program] = list(PROGRAMS.values())
    with tempfile.TemporaryDirectory() as folder:
        expected = of_cpython(batch, Path(folder))
    with Judge(limits=Limits(feedback_chars=1_000_000), sandbox="process", workers=2) as judge:
        return dict(zip(PROGRAMS, zip(judge.run(batch), expected, strict=True), strict=True))


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_honest_program_is_judged_as_by_cpython(rows: dict[str, tuple[Verdict, tuple[str, str]]], name: str) -> None:
    verdict, expected = rows[name]
    assert ((verdict.outcome, verdict.feedback) == expected) == (name not in DIFFERENT), verdict
    assert verdict.isolation == ("process-beside" if name in BESIDE else "process-split")
