"""A judge on the process sandbox, which every machine has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.execute.judge import Judge, Limits, Program

MBPP = Path(__file__).parents[3].parent / "shared" / "data" / "mbpp.jsonl"
SLOW_TASK = 123


@pytest.fixture(scope="session")
def judge() -> Iterator[Judge]:
    """Two workers, default limits."""
    with Judge(limits=Limits(), sandbox="process", workers=2) as judge:
        yield judge


@pytest.fixture(scope="session")
def references() -> list[Program]:
    """MBPP's reference solutions; one of them computes for seconds and is left out."""
    if not MBPP.exists():
        pytest.skip(f"MBPP is not at {MBPP}")
    rows = [json.loads(line) for line in MBPP.read_text().splitlines()]
    return [
        Program("", row["code"], row["test_setup_code"], tuple(row["test_list"]))
        for row in rows
        if row["task_id"] != SLOW_TASK
    ]
