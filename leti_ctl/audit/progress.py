"""Whom an audit tells how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Takes how many steps are done, of how many, and what the next one is; called from any thread."""

    def __call__(self, done: int, total: int, doing: str, /) -> None:
        """Take it."""
        ...


def unheard(done: int, total: int, doing: str, /) -> None:
    """Where nobody looks."""
