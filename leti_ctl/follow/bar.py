"""How far one command's work is, on stderr: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

PLAIN_SECONDS = 15.0
"""Between two plain lines; work that takes less says nothing."""


class Advance(Protocol):
    """Takes how much is done, of how much, and what is being done where one command does several things."""

    def __call__(self, done: int, total: int, doing: str = "", /) -> None:
        """Keep it."""
        ...


@contextmanager
def bar(label: str, plain_seconds: float = PLAIN_SECONDS) -> Iterator[Advance]:
    """Give a function that is told how far the work is; any thread may."""
    if not sys.stderr.isatty():
        with _lines(label, plain_seconds) as advance:
            yield advance
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=None)

        def move(done: int, total: int, doing: str = "", /) -> None:
            progress.update(task, completed=done, total=total, description=escape(doing or label))

        yield move


@contextmanager
def _lines(label: str, seconds: float) -> Iterator[Advance]:
    """Print a line every so many seconds, also while one step takes long."""
    started, over = time.monotonic(), threading.Event()
    last: list[tuple[int, int, str]] = []

    def keep(done: int, total: int, doing: str = "", /) -> None:
        last[:] = [(done, total, doing)]

    def tell() -> None:
        while not over.wait(seconds):
            done, total, doing = last[0] if last else (0, 0, "")
            far = f": {done:,}/{total:,}" if total else ""
            with suppress(OSError, ValueError):  # nobody reads any more
                print(f"{label}{far}{doing and f' · {doing}'}, {time.monotonic() - started:.0f} s", file=sys.stderr)

    teller = threading.Thread(target=tell, name="progress", daemon=True)
    teller.start()
    try:
        yield keep
    finally:
        over.set()
        teller.join()
