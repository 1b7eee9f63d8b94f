"""Objects of the tests as the candidate's code sees them: what it does with them, it asks the referee to do."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from stages.execute.inside import operations

Ask = Callable[[int, str, tuple[Any, ...], dict[str, Any]], Any]


class Borrowed:
    """An iterator of the tests, or an instance of one of their classes."""

    __slots__ = ("_leti_ask", "_leti_lent")

    def __getattr__(self, name: str) -> Any:
        return self._leti_ask(self._leti_lent, "get", (name,), {})

    def __setattr__(self, name: str, value: object) -> None:
        self._leti_ask(self._leti_lent, "set", (name, value), {})

    def __delattr__(self, name: str) -> None:
        self._leti_ask(self._leti_lent, "delete", (name,), {})

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return getattr(type(self), "_leti_stands_for", None) or type(self)


def _forward(name: str) -> Callable[..., Any]:
    def method(self: Any, *operands: Any, **keywords: Any) -> Any:
        if name in ("exit", "aexit"):
            operands = operands[1:2] if operands[0] is not None else ()
        return self._leti_ask(self._leti_lent, name, operands, keywords)

    return method


@lru_cache(maxsize=64)
def _kind(name: str, specials: tuple[str, ...], stands: str | None, hashable: bool) -> type:
    members: dict[str, Any] = {f"__{special}__": _forward(special) for special in specials}
    if "__eq__" in members and not hashable:
        members["__hash__"] = None
    members |= {"__slots__": (), "__module__": "__main__", "_leti_stands_for": operations.STANDINS.get(stands or "")}
    return type(name, (Borrowed,), members)


def thing(ask: Ask, number: int, description: dict[str, Any]) -> Borrowed:
    """The stand-in for a lent object."""
    about = description["name"], tuple(description["specials"]), description["stands"], description["hash"]
    borrowed: Borrowed = object.__new__(_kind(*about))
    object.__setattr__(borrowed, "_leti_ask", ask)
    object.__setattr__(borrowed, "_leti_lent", number)
    return borrowed


def function(ask: Ask, number: int, name: str, doc: str | None) -> Callable[..., Any]:
    """The stand-in for a function of the tests."""

    def callback(*arguments: Any, **keywords: Any) -> Any:
        return ask(number, "call", arguments, keywords)

    callback.__name__ = callback.__qualname__ = name
    callback.__doc__ = doc
    callback.__module__ = "__main__"
    return callback
