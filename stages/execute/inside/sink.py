"""Standard output of a shared candidate."""

from __future__ import annotations

import io


class OutputLimit(BaseException):
    """A shared candidate printed more than it may."""


class Sink(io.TextIOBase):
    """Standard output of a shared candidate, counted and forgotten. Certified code reaches it only through `print`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.written = 0

    def write(self, text: str) -> int:
        """Count; raises OutputLimit over the limit."""
        self.written += len(text)
        if self.written > self.limit:
            raise OutputLimit
        return len(text)
