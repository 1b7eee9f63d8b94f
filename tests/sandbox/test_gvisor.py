"""gVisor is told from Linux by the first line of the kernel's log."""

from __future__ import annotations

import pytest

from stages.execute.gvisor import FIRST_MESSAGE


@pytest.mark.parametrize("line", [b"<6>[   0.000000] Starting gVisor...\n", b"<6>[    0.000000] Starting gVisor...\n"])
def test_the_log_of_gvisor_is_recognised(line: bytes) -> None:
    assert FIRST_MESSAGE.match(line + b"<6>[   0.354495] Daemonizing children...\n")


@pytest.mark.parametrize(
    "line",
    [
        b"<5>[    0.000000] Linux version 6.1.0 (gcc) Starting gVisor...\n",
        b"<6>[    7.402113] Starting gVisor...\n",
        b"<12>[    0.000000] Linux version 6.1.0\n<6>[    0.000000] Starting gVisor...\n",
        b"",
    ],
)
def test_the_log_of_linux_is_not(line: bytes) -> None:
    assert FIRST_MESSAGE.match(line) is None
