"""Classes and exceptions of the solution as plain data, from which the tests make their own (`mirror`)."""

from __future__ import annotations

from collections.abc import Callable
from enum import EnumType
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from stages.execute.inside import codec, operations, report

Encode = Callable[[object], codec.Tree]

FUNCTIONS = (FunctionType, BuiltinFunctionType, MethodType)
PLAIN_BASES: dict[type, Callable[[Any], Any]] = {
    int: lambda value: int.__index__(value),
    float: lambda value: float.__float__(value),
    str: lambda value: str.__str__(value)[:],
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    list: lambda value: list.__getitem__(value, slice(None)),
    tuple: lambda value: tuple.__getitem__(value, slice(None)),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
    dict: lambda value: dict(dict.items(value)),
}


def of_class(kind: type, encode: Encode) -> dict[str, Any]:
    """What the tests must know of a class to treat its objects as Python would."""
    if codec.is_named_tuple(kind):
        defaults = tuple(kind._field_defaults.values())  # type: ignore[attr-defined]
        return {"name": kind.__name__, "named": list(kind._fields), "defaults": encode(defaults)}  # type: ignore[attr-defined]
    if kind in FUNCTIONS:
        return {"function": kind.__name__}
    specials = operations.specials(kind)
    meta = type(kind)
    doc = kind.__dict__.get("__doc__")
    return {
        "name": kind.__name__, "module": str(kind.__module__), "doc": doc if type(doc) is str else None,
        "bases": [encode(base) for base in kind.__bases__ if base.__module__ != "builtins"],
        "specials": specials, "own": operations.own_specials(kind, specials), "unhashable": kind.__hash__ is None,
        "meta": operations.specials(meta, type) if meta is not type else [],
        "asks": meta is not type and not issubclass(meta, EnumType) and hasattr(meta, "__instancecheck__"),
        "stands": kind.__name__ if operations.STANDINS.get(kind.__name__) is kind else None,
        "exception": report.builtin_bases(kind) if issubclass(kind, BaseException) else None,
        "fields": _fields(kind, encode),
    }  # fmt: skip


def _fields(kind: type, encode: Encode) -> list[list[codec.Tree]] | None:
    """Name, type and default of a dataclass's fields."""
    fields = getattr(kind, "__dataclass_fields__", None)
    if type(fields) is not dict:
        return None
    return [[encode(name), encode(_data(field.type)), encode(_default(field))] for name, field in fields.items()]


def _data(value: object) -> object:
    """A value that needs no description of its own."""
    return value if type(value) in codec.SCALARS or id(value) in codec.TYPE_NAMES else str(value)


def _default(field: Any) -> tuple[object, ...] | None:
    return (field.default,) if type(field.default) in codec.SCALARS else None


def plain_base(value: object, encode: Encode) -> codec.Tree:
    """What an instance of a subclass of a built-in type holds as that type, whatever the subclass redefines."""
    for base, read in PLAIN_BASES.items():
        if isinstance(value, base):
            return encode(read(value))
    return None


def of_exception(error: BaseException, number: int, encode: Encode) -> list[codec.Tree]:
    """The tree of an exception."""
    state: dict[str, Any] = {}
    if isinstance(error, (OSError, NameError, AttributeError, ImportError)):
        for name in report.STATE:
            value = getattr(error, name, None)
            if type(value) in (str, int):
                state[name] = value
    notes = getattr(error, "__notes__", None)
    if type(notes) is list:
        state["notes"] = [note for note in notes if type(note) is str]
    if error.__cause__ is not None:
        state["cause"] = encode(error.__cause__)
    try:
        arguments = encode(tuple(error.args))
    except Exception:
        arguments = ["t", []]
    return ["x", number, encode(type(error)), arguments, state]


def of_signature(function: Any) -> tuple[list[tuple[Any, ...]], tuple[Any, ...] | None]:
    """Parameters of a callable: name, kind, default and annotation; and its return annotation."""
    import inspect

    signature = inspect.signature(function)
    parameters = [
        (parameter.name, int(parameter.kind), _optional(parameter.default), _optional(parameter.annotation))
        for parameter in signature.parameters.values()
    ]
    return parameters, _optional(signature.return_annotation)


def _optional(value: object) -> tuple[object, ...] | None:
    import inspect

    return None if value is inspect.Parameter.empty else (value,)
