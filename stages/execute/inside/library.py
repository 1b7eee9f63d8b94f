"""Values of standard-library modules that are rarely loaded: they cross as the text or list that makes them again."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

Tree = Any

PARTS: dict[str, Callable[[Any], list[Any]]] = {
    "pathlib.PurePosixPath": lambda value: [str(value)],
    "pathlib.PosixPath": lambda value: [str(value)],
    "uuid.UUID": lambda value: [str(value)],
    "array.array": lambda value: [value.typecode, *value.tolist()],
}
"""What makes a value of the class again: texts and numbers."""
PLAIN = frozenset({str, int, float})


def write(value: object) -> Tree | None:
    """The tree of such a value; None for any other."""
    kind = type(value)
    key = f"{kind.__module__}.{kind.__qualname__}"
    if key not in PARTS or getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is not kind:
        return None
    return ["lib", key, PARTS[key](value)]


def read(key: object, parts: object) -> Any:
    """The value for such a tree. Raises ValueError or TypeError for what `write` cannot have written."""
    if key not in PARTS or type(parts) is not list or not parts or any(type(part) not in PLAIN for part in parts):
        raise ValueError("not a value of the library")
    module, _, name = str(key).rpartition(".")
    if type(parts[0]) is not str:
        raise ValueError("a text expected")
    kind = getattr(importlib.import_module(module), name)
    return kind(parts[0], parts[1:]) if module == "array" else kind(parts[0])
