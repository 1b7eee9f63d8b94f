"""How far work is, where stderr is no terminal."""

from __future__ import annotations

import time

import pytest

from leti_ctl.follow.bar import bar

PATIENCE = 60.0


def wait_for(capsys: pytest.CaptureFixture[str], text: str) -> str:
    """Return what was printed to stderr up to a text."""
    found, ends = "", time.monotonic() + PATIENCE
    while text not in found and time.monotonic() < ends:
        time.sleep(0.01)
        said = capsys.readouterr()
        assert said.out == ""
        found += said.err
    return found


def test_long_work_says_where_it_is_in_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("audit", 0.01) as advance:
        assert "audit, " in wait_for(capsys, " s\n")
        advance(1200, 3000)
        assert "audit: 1,200/3,000, " in wait_for(capsys, "1,200/3,000, ")
        advance(1, 4, "doing again iteration 0 · build")
        told = wait_for(capsys, "build")
    assert "audit: 1/4 · doing again iteration 0 · build, " in told


def test_a_step_that_takes_long_is_told_again(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("audit", 0.01) as advance:
        advance(1, 4)
        for _ in range(3):
            assert "audit: 1/4, " in wait_for(capsys, "audit: 1/4, ")


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("audit", 3600) as advance:
        advance(1, 4)
    assert capsys.readouterr().err == ""
