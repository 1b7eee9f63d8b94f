"""The value that tests bind to the name `exhibit`: plain data that leaves the sandbox beside a pass.

It is what a program answered, for an evaluator outside to judge: a solution that lies in it gives a wrong answer, and
nothing more. Only what the referee itself has decoded goes out, rebuilt from exact built-in types.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from typing import Any

from stages.execute.inside import codec
from stages.execute.inside.handles import base_of, is_remote

NAME = "exhibit"
MOST_BYTES = 64 * 1024
"""Of text and digits together, one for each value more."""
DEEPEST = 20

_SEQUENCES = frozenset({list, tuple, deque})
_MAPPINGS = frozenset({dict, OrderedDict, Counter, defaultdict})


class NotPlain(Exception):
    """The value holds what is no plain data, or too much of it."""


def plain(value: object) -> Any:
    """Return the value as None, bool, int, float, str, list and dict with text keys; None where it is not plain data.

    An object of the solution counts as what it holds as the built-in type it derives from, which may be asked of the
    candidate. Tuples and deques become lists, decimal numbers and fractions the int or float that equals them, or text.
    """
    try:
        return _Portrait().of(value, DEEPEST)
    except (NotPlain, UnicodeEncodeError):
        return None


class _Portrait:
    """One exhibit while it is copied: what it may still hold."""

    def __init__(self) -> None:
        self.room = MOST_BYTES

    def of(self, value: Any, depth: int) -> Any:
        value = self._own(value)
        kind = type(value)
        if kind in codec.SCALARS:
            self._take(_size(value))
            return value
        if not depth or kind not in _SEQUENCES | _MAPPINGS:
            raise NotPlain
        self._take(1 + len(value))
        if kind in _SEQUENCES:
            return [self.of(item, depth - 1) for item in value]
        return {self._key(key): self.of(item, depth - 1) for key, item in value.items()}

    def _own(self, value: Any) -> Any:
        """The value as a built-in type."""
        if is_remote(value):
            value = base_of(value)
            if value is None:
                raise NotPlain
        if type(value) in (Decimal, Fraction):
            return _number(value)
        return value

    def _key(self, key: Any) -> str:
        key = self._own(key)
        if type(key) is not str:
            raise NotPlain
        self._take(_size(key))
        return key

    def _take(self, size: int) -> None:
        self.room -= size
        if self.room < 0:
            raise NotPlain


def _number(value: Decimal | Fraction) -> int | float | str:
    """The number of a built-in type that equals it, an int where it is whole. Where none does, the nearest as text: as
    a number it would be equal to what the value itself is not.
    """
    try:
        nearest = float(value)
    except (OverflowError, ValueError):
        raise NotPlain from None
    if math.isfinite(nearest) and int(value) == value:
        return int(value)
    return nearest if nearest == value else repr(nearest)


def _size(value: Any) -> int:
    """Bytes it takes, about; an integer that is too long for JSON takes more than there are."""
    if type(value) is str:
        return 1 + len(value.encode())
    if type(value) is int:
        return 1 + value.bit_length() // 3 if value.bit_length() <= codec.LONG_INT_BITS else MOST_BYTES + 1
    return 1
