"""Objects of the tests that a candidate may hold: iterators, and instances of classes that the tests define.

The candidate asks for what it wants of them, by name; nothing of theirs that leads into the interpreter is given: no
private names, no frames or code, no functions but those the tests wrote or that belong to the object.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from stages.execute.inside import certify, operations

ITERATORS = frozenset({"builtins", "itertools", "_collections", "array"})
"""Modules whose iterators do no more than iterate."""
STREAMS = (io.StringIO, io.BytesIO)
PLAIN_MODULES = frozenset({"builtins", "abc", "typing", "enum", "collections", "collections.abc"})
"""Modules whose classes add nothing to a class of the tests that could reach further than the class itself."""
DEEDS = frozenset(operations.SPECIALS) - {"call"}


def is_lent(value: object) -> bool:
    """Whether a candidate may hold such an object."""
    kind = type(value)
    if isinstance(value, Iterator) and kind.__module__ in ITERATORS:
        return True
    if kind in STREAMS:
        return True
    own = [base for base in kind.__mro__ if base.__module__ == "__main__"]
    return bool(own) and all(base.__module__ in PLAIN_MODULES for base in kind.__mro__ if base not in own)


def describe(value: object) -> dict[str, Any] | None:
    """Name and special methods of a lent object's class; None where it cannot be lent."""
    if not is_lent(value):
        return None
    kind = type(value)
    stands = kind.__name__ if operations.STANDINS.get(kind.__name__) is kind else None
    names = operations.specials(kind)
    return {"name": kind.__name__, "specials": names, "stands": stands, "hash": kind.__hash__ is not None}


def deed(target: Any, what: object) -> Callable[..., Any]:
    """What the candidate wants done with a lent object, as a function of the operands. Raises LookupError."""
    if what == "call":
        return target  # type: ignore[no-any-return]
    if type(what) is not str or not is_lent(target):
        raise LookupError("nothing to do")
    if what in ATTRIBUTES:
        return partial(ATTRIBUTES[what], target)
    if what not in DEEDS:
        raise LookupError("nothing to do")
    if what[0] == "r" and what not in operations.OPERATIONS:
        return lambda other: operations.OPERATIONS[what[1:]](other, target)
    return partial(operations.OPERATIONS[what], target)


def _checked(target: object, name: object) -> str:
    if type(name) is not str or name.startswith(certify.PRIVATE_PREFIXES):
        raise AttributeError(f"{type(target).__name__!r} object has no attribute {str(name)[:100]!r}")
    return name


def _get(target: Any, name: object) -> Any:
    value = getattr(target, _checked(target, name))
    if callable(value) and not isinstance(value, type) and getattr(value, "__self__", None) is not target:
        theirs = getattr(value, "__module__", None) == "__main__"
        if not theirs and not hasattr(value, "_leti_home"):
            _checked(target, "_")
    return value


def _set(target: Any, name: object, value: object) -> None:
    setattr(target, _replaceable(target, name), value)


def _delete(target: Any, name: object) -> None:
    delattr(target, _replaceable(target, name))


def _replaceable(target: object, name: object) -> str:
    """Not a method: with those the tests judge."""
    checked = _checked(target, name)
    if callable(getattr(type(target), checked, None)):
        raise AttributeError(f"{type(target).__name__!r} object attribute {checked[:100]!r} is read-only")
    return checked


ATTRIBUTES: dict[str, Callable[..., Any]] = {"get": _get, "set": _set, "delete": _delete}
