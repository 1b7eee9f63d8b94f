"""What can be done with an object from another process: the special methods of Python's data model, by short name.

Both sides use the table: the candidate on its own objects, which the tests hold as handles; the referee on the few
objects of the tests that a candidate may hold.
"""

from __future__ import annotations

import builtins
import copy
import enum
import math
import operator
import re
import types
from collections.abc import Callable, Iterable
from typing import Any


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


COMPARISONS = _words("eq ne lt le gt ge")
ARITHMETIC = _words("add sub mul truediv floordiv mod pow matmul and or xor lshift rshift")
UNARY = _words(
    """neg pos invert abs int float complex index bool len iter next reversed hash repr str bytes floor ceil trunc
    enter aenter aiter anext await length_hint fspath"""
)
KEYED = _words("getitem setitem delitem round format contains exit aexit call divmod rdivmod")
SPECIALS = (
    *COMPARISONS,
    *UNARY,
    *KEYED,
    *(prefix + name for name in ARITHMETIC for prefix in ("", "r", "i")),
)
INHERITED = frozenset(_words("eq ne lt le gt ge hash repr str format"))
"""What every object has: only another definition than `object`'s says something about a class."""


def _function(name: str) -> Callable[..., Any]:
    found = getattr(operator, f"{name}_" if name in ("and", "or") else name)
    return found  # type: ignore[no-any-return]


def _method(name: str) -> Callable[..., Any]:
    return lambda value, *arguments: getattr(type(value), name)(value, *arguments)


def _leave(manager: Any, error: BaseException | None = None) -> Any:
    details = (None, None, None) if error is None else (type(error), error, None)
    return type(manager).__exit__(manager, *details)


def _leave_later(manager: Any, error: BaseException | None = None) -> Any:
    details = (None, None, None) if error is None else (type(error), error, None)
    return type(manager).__aexit__(manager, *details)


OPERATIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(builtins, name) for name in _words(
        """abs int float complex bool len iter next reversed hash repr str bytes round format divmod dir aiter
        isinstance issubclass"""
    )},
    **{name: _function(name) for name in (*COMPARISONS, *ARITHMETIC)},
    **{name: _function(name) for name in _words("neg pos invert index contains getitem setitem delitem")},
    **{f"i{name}": getattr(operator, f"i{name}") for name in ARITHMETIC},
    **{name: getattr(math, name) for name in _words("floor ceil trunc")},
    **{name: _method(f"__{name}__") for name in _words("enter aenter anext")},
    "exit": _leave, "aexit": _leave_later, "length_hint": operator.length_hint, "fspath": _method("__fspath__"),
    "self": lambda value: value, "copy": copy.copy, "deepcopy": copy.deepcopy,
}  # fmt: skip

STANDINS: dict[str, type] = {
    str(kind.__name__): kind
    for kind in (
        types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.GeneratorType, types.CoroutineType,
        types.AsyncGeneratorType, types.CodeType, re.Match, re.Pattern, zip, map, filter, enumerate, reversed,
    )
}  # fmt: skip
"""Built-in classes whose objects stay where they are, so that `isinstance` is answered by name."""


def definer(kind: type, name: str) -> type | None:
    """The class in the method resolution order of `kind` that defines a special method."""
    attribute = f"__{name}__"
    return next((base for base in kind.__mro__ if attribute in base.__dict__), None)


def specials(kind: type, root: type = object) -> list[str]:
    """Special methods that objects of a class have, beyond those of `root`, which all have."""
    found = []
    for name in SPECIALS:
        where = definer(kind, name)
        if where is None or where.__dict__[f"__{name}__"] is None:
            continue
        if where is not object and where is not root:
            found.append(name)
    return found


def own_specials(kind: type, names: Iterable[str]) -> list[str]:
    """Those that a class of the program defines, not a built-in base."""
    return [name for name in names if _is_own(definer(kind, name))]


def _is_own(where: type | None) -> bool:
    return where is not None and where.__module__ != "builtins" and where is not enum.Enum
