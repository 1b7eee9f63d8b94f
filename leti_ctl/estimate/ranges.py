"""Figures that are not known exactly: low, likely, high."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Range:
    """A figure's plausible span. All figures are non-negative, so that products keep the order."""

    low: float
    likely: float
    high: float

    def __add__(self, other: Range | float) -> Range:
        return self._with(other, lambda a, b: a + b)

    def __mul__(self, other: Range | float) -> Range:
        return self._with(other, lambda a, b: a * b)

    def __truediv__(self, other: Range | float) -> Range:
        """Divide; the least amount at the greatest rate takes the shortest time."""
        rate = as_range(other)
        return Range(self.low / rate.high, self.likely / rate.likely, self.high / rate.low)

    def _with(self, other: Range | float, combine: Callable[[float, float], float]) -> Range:
        right = as_range(other)
        return Range(combine(self.low, right.low), combine(self.likely, right.likely), combine(self.high, right.high))

    def as_dict(self, digits: int | None = None) -> dict[str, float]:
        """Return it for JSON, rounded."""
        return {"low": round(self.low, digits), "likely": round(self.likely, digits), "high": round(self.high, digits)}


ZERO = Range(0.0, 0.0, 0.0)
ONE = Range(1.0, 1.0, 1.0)


def as_range(value: Range | float) -> Range:
    """Return an exact number as a range of no width."""
    return value if isinstance(value, Range) else Range(value, value, value)
