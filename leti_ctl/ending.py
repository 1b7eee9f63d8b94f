"""How a command ends that is asked to: with one line and what to do next, from its first moment on."""

from __future__ import annotations

import signal
from types import FrameType
from typing import NoReturn

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes, as a shell has them of processes that a signal ended."""


class Terminated(KeyboardInterrupt):
    """SIGTERM. It ends a command as Ctrl-C does, and what is open is closed."""


def listen() -> None:
    """Have SIGTERM raise `Terminated` from here on, where nobody has said yet what it does."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _raise)


def _raise(_signal: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one does not wait for anything
    raise Terminated


def describe(error: BaseException | None) -> str:
    """Return what happened, in two or three words."""
    return "asked to stop" if isinstance(error, Terminated) else "interrupted"


def exit_code(error: BaseException | None) -> int:
    """Return the exit code that says so."""
    return TERMINATED if isinstance(error, Terminated) else INTERRUPTED
