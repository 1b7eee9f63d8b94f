"""A judge on the process sandbox, for tasks whose solutions are programs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stages.execute.judge import Judge, Limits


@pytest.fixture(scope="session")
def judge() -> Iterator[Judge]:
    """One worker; programs of these tests end by themselves, however slow the machine is."""
    with Judge(limits=Limits(timeout_seconds=60, carets=False), sandbox="process", workers=1) as judge:
        yield judge
