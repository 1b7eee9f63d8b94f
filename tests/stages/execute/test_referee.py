"""The referee's own memory."""

from __future__ import annotations

import gc
import weakref

from stages.execute.inside.referee import GARBAGE_BYTES, Collector


class Node:
    """Refers to itself, as what a candidate answers may."""

    def __init__(self, size: int) -> None:
        self.content = b"x" * size
        self.myself = self


def _is_kept(size: int) -> bool:
    """Whether an object of that many bytes is still there after the program that left it."""
    gc.disable()
    try:
        collector = Collector()
        left = weakref.ref(Node(size))
        collector.after_program()
        return left() is not None
    finally:
        gc.enable()


def test_what_a_program_left_is_collected_once_it_is_much() -> None:
    assert _is_kept(1000)
    assert not _is_kept(2 * GARBAGE_BYTES)
