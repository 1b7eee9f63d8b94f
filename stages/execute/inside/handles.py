"""The candidate's objects and classes as the tests see them: handles, whose special methods ask the candidate.

A class of the candidate is a class here, with the special methods that the original has and no other, so that Python
itself decides what an operator means, what is callable, and which error a missing method makes.

What is never asked of a candidate is a comparison with plain data: `==`, `<` and the like between an object and an
expected value are decided here, by what the object holds as the built-in type it derives from; any other object is
unequal to plain data and has no order with it. Arithmetic is asked about, for its operand is an argument like any other
(`3 * Vector(1, 2)`), within two bounds. Operations that could stand for a comparison (`DIFFERENCES`: `abs(f(1) - 1.5)`)
are answered only by objects that the tests themselves made by calling a class, and must be answered by an object, of
which no number, truth or order can be had. `in` is answered by the candidate only for objects whose class the tests
treat as one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from numbers import Number
from typing import TYPE_CHECKING, Any

from stages.execute.inside import operations

if TYPE_CHECKING:
    from stages.execute.inside.remote import Session

DIFFERENCES = frozenset({"sub", "truediv", "floordiv", "mod", "and", "or", "xor", "divmod"})
QUESTIONS = frozenset(
    """count difference endswith find index intersection is_integer isalnum isalpha isascii isdecimal isdigit isdisjoint
    isidentifier islower isnumeric isprintable isspace issubset issuperset istitle isupper rfind rindex startswith
    symmetric_difference union""".split()  # noqa: SIM905
)
"""Methods of built-in types that say how a value compares with plain data: of an object that derives from such a type
they are answered by what it holds.
"""
NUMERIC = ("int", "float", "complex", "index", "bool", "abs", "floor", "ceil", "trunc", "round")
"""Special methods that make a number or a truth of an object."""
SLOTS = ("_leti_base", "_leti_number", "_leti_origin")
UNCHANGING = (int, float, str, bytes, tuple, frozenset)

FOUND = 0
"""The origin of an object that some call of the solution gave: what it does with plain data is not asked."""
MADE = 1
"""... that the tests made by calling a class of the solution, or by operators on such objects."""
DIFFERENCE = 2
"""... that came of an operation of `DIFFERENCES`."""


class Blueprint(type):
    """The class of the classes that stand for a candidate's."""

    _leti_class: int
    """Number of the class; `_leti_number` is that of an instance."""
    _leti_home: Session
    _leti_asks: bool

    def __call__(cls, *arguments: Any, **keywords: Any) -> Any:
        """An instance, made in the candidate."""
        value = cls._leti_home.call(cls, arguments, keywords)
        if cls in cls._leti_home.asked_for and type(value) is cls and isinstance(value, Handle):
            object.__setattr__(value, "_leti_origin", MADE)
        return value

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_leti_"):
            raise AttributeError(name)
        return cls._leti_home.ask(op="get", handle=cls._leti_class, name=name)

    def __setattr__(cls, name: str, value: Any) -> None:
        if name.startswith(("_leti_", "_abc_")) or name == "__abstractmethods__":
            type.__setattr__(cls, name, value)
        else:
            session = cls._leti_home
            session.ask(op="set", handle=cls._leti_class, name=name, value=session.encode(value))

    def __delattr__(cls, name: str) -> None:
        cls._leti_home.ask(op="delete", handle=cls._leti_class, name=name)

    def __dir__(cls) -> Any:
        return operate(cls, "dir", cls)

    def __repr__(cls) -> str:
        return _text(operate(cls, "repr", cls))

    def __instancecheck__(cls, instance: object) -> bool:
        """Whether an object of the candidate is one of the class: asked only where its metaclass has a say."""
        if type.__instancecheck__(cls, instance):
            return True
        return cls._leti_asks and is_remote(instance) and bool(operate(cls, "isinstance", instance, cls))

    def __subclasscheck__(cls, kind: type) -> bool:
        if type.__subclasscheck__(cls, kind):
            return True
        return cls._leti_asks and isinstance(kind, Blueprint) and bool(operate(cls, "issubclass", kind, cls))

    def mro(cls) -> list[type]:
        """Python asks this when it makes the class, tests ask it afterwards."""
        if "_leti_class" not in cls.__dict__:
            return type.mro(cls)
        return list(cls._leti_home.ask(op="get", handle=cls._leti_class, name="__mro__"))

    @property
    def __mro__(cls) -> tuple[type, ...]:
        """The candidate's."""
        return tuple(cls.mro())

    @property
    def __bases__(cls) -> Any:  # type: ignore[override]
        """The candidate's."""
        return cls._leti_home.ask(op="get", handle=cls._leti_class, name="__bases__")

    @property
    def __annotations__(cls) -> Any:  # type: ignore[override]
        """The candidate's."""
        return cls._leti_home.ask(op="get", handle=cls._leti_class, name="__annotations__")


class Handle:
    """An object of the candidate."""

    __slots__ = SLOTS

    def __init__(self, number: int) -> None:
        for name, value in zip(SLOTS, (None, number, FOUND), strict=True):
            object.__setattr__(self, name, value)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """What `isinstance` asks for: an object derived from a built-in type is one of these."""
        kind = type(self)
        if self._leti_base is not None:
            return type(self._leti_base)
        return getattr(kind, "_leti_stands_for", None) or kind

    def __getattr__(self, name: str) -> Any:
        if name in QUESTIONS and self._leti_origin == FOUND and hasattr(type(self._leti_base), name):
            return getattr(self._leti_plain(), name)
        return self._leti_home.ask(op="get", handle=self._leti_number, name=name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._leti_home.ask(op="set", handle=self._leti_number, name=name, value=self._leti_home.encode(value))

    def __delattr__(self, name: str) -> None:
        self._leti_home.ask(op="delete", handle=self._leti_number, name=name)

    def __dir__(self) -> Any:
        return operate(self, "dir", self)

    def __repr__(self) -> str:
        return _text(operate(self, "repr", self))

    def __str__(self) -> str:
        return _text(operate(self, "str", self))

    def __copy__(self) -> Any:
        return operate(self, "copy", self)

    def __deepcopy__(self, memo: Any) -> Any:
        return operate(self, "deepcopy", self)

    def _leti_plain(self) -> Any:
        """What the object holds now as the built-in type it derives from."""
        if not isinstance(self._leti_base, UNCHANGING):
            origin = self._leti_origin
            operate(self, "self", self)
            object.__setattr__(self, "_leti_origin", origin)
        return self._leti_base


def handle_of(kind: type[Handle], number: int) -> Handle:
    """The handle of an object that the candidate has: calling the class would make another one there."""
    handle = Handle.__new__(kind)
    Handle.__init__(handle, number)
    return handle


def is_remote(value: object) -> bool:
    """Whether a value of the tests is an object of the candidate."""
    return isinstance(type(value), Blueprint)


def operate(handle: Any, name: str, *operands: object) -> Any:
    """One operation in the candidate."""
    session: Session = handle._leti_home
    return session.ask(op="operate", name=name, operands=session.encode(operands))


def _text(value: object) -> str:
    if type(value) is not str:
        raise TypeError(f"__str__ returned non-string (type {type(value).__name__})")
    return value


def base_of(value: Any) -> Any:
    """The plain value of an object that derives from a built-in type; None where there is none."""
    return None if not isinstance(value, Handle) or value._leti_base is None else value._leti_plain()


def _origin_of(value: object) -> int:
    return value._leti_origin if isinstance(value, Handle) else FOUND


def _keeping_origin(name: str) -> Callable[..., Any]:
    """Special methods whose answer is often the object itself: that does not make it one the solution gave."""

    def method(self: Any, *arguments: Any) -> Any:
        origin = _origin_of(self)
        value = operate(self, name, self, *arguments)
        if value is self and isinstance(self, Handle):
            object.__setattr__(self, "_leti_origin", origin)
        return value

    return method


def _converting(name: str) -> Callable[..., Any]:
    """To a number or a truth: not of a difference, which may be a lie about an expected value."""

    def method(self: Any, *arguments: Any) -> Any:
        if _origin_of(self) == DIFFERENCE:
            raise TypeError(f"no {name} of what an object made of plain data")
        return operate(self, name, self, *arguments)

    return method


def _unary(name: str) -> Callable[..., Any]:
    """Operators of one object: what comes of a difference is one."""
    ask = _keeping_origin(name)

    def method(self: Any) -> Any:
        origin = _origin_of(self)
        return _result(ask(self), origin) if origin == DIFFERENCE else ask(self)

    return method


def asking(name: str) -> Callable[..., Any]:
    """A special method that the candidate answers."""
    return lambda self, *arguments: operate(self, name, self, *arguments)


def _hash(self: Any) -> int:
    base = base_of(self)
    return hash(base) if base is not None and "hash" not in type(self)._leti_own else int(operate(self, "hash", self))


def _compare(name: str) -> Callable[[Any, object], Any]:
    def method(self: Any, other: Any) -> Any:
        if is_remote(other):
            return operate(self, name, self, other)
        base = base_of(self)
        return NotImplemented if base is None else getattr(operator, name)(base, other)

    return method


def _calculate(name: str, *, reflected: bool = False, in_place: bool = False) -> Callable[..., Any]:
    stem = f"r{name}" if reflected else f"i{name}" if in_place else name
    asked = f"i{name}" if in_place else name

    def method(self: Any, other: object, *more: Any) -> Any:
        sides = (other, self) if reflected else (self, other)
        origin = max(_origin_of(self), _origin_of(other))
        if is_remote(other):
            return _result(operate(self, asked, *sides, *more), origin)
        base = base_of(self)
        if base is not None and not in_place and (stem not in type(self)._leti_own or name in DIFFERENCES):
            return operations.OPERATIONS[name](*((other, base) if reflected else (base, other)), *more)
        if origin != DIFFERENCE and not _may_be_comparison(name, origin, other):
            return _result(operate(self, asked, *sides, *more), origin)
        return _difference(self, asked, sides) if origin or name == "add" else NotImplemented

    return method


def _may_be_comparison(name: str, origin: int, other: object) -> bool:
    """Whether an operation could stand for one. `f(1) + -1.5` is a difference as well; `sum` adds to 0."""
    return name in DIFFERENCES or (name == "add" and origin == FOUND and isinstance(other, Number) and bool(other))


def _difference(self: Any, name: str, sides: tuple[object, ...]) -> Any:
    """An operation that may stand for a comparison: its result is an object that holds no plain value, or there is
    none.
    """
    value = operate(self, name, *sides)
    if not isinstance(value, Handle) or value._leti_base is not None:
        return NotImplemented
    return _result(value, DIFFERENCE)


def _result(value: Any, origin: int) -> Any:
    """What an operator gave, with the origin it has of its operands."""
    if isinstance(value, Handle):
        object.__setattr__(value, "_leti_origin", origin)
    elif origin == DIFFERENCE:
        raise TypeError("no plain data of what an object made of plain data")
    return value


def _contains(self: Any, item: object) -> bool:
    base = base_of(self)
    if base is not None and ("contains" not in type(self)._leti_own or _origin_of(self) == FOUND):
        return item in base
    session = self._leti_home
    if is_remote(item) or (_origin_of(self) == MADE and type(self) in session.treated_as_classes):
        return bool(operate(self, "contains", self, item))
    return any(item is member or item == member for member in self)


def _iterate(self: Any) -> Iterator[Any]:
    iterator = _keeping_origin("iter")(self)
    return iterator if is_remote(iterator) else iter(iterator)


def _call(self: Any, *arguments: Any, **keywords: Any) -> Any:
    return self._leti_home.call(self, arguments, keywords)


def _leave(name: str) -> Callable[..., Any]:
    def method(self: Any, kind: object = None, error: BaseException | None = None, trace: object = None) -> Any:
        return operate(self, name, self, *([] if error is None else [error]))

    return method


def signature(self: Any) -> Any:
    """`inspect.signature` of a function of the candidate, from its parameters as data."""
    import inspect

    parameters, returns = self._leti_home.ask(op="signature", handle=self._leti_number)
    made = []
    for name, kind, default, annotation in parameters:
        more = {} if default is None else {"default": default[0]}
        more |= {} if annotation is None else {"annotation": annotation[0]}
        made.append(inspect.Parameter(name, inspect._ParameterKind(kind), **more))
    return inspect.Signature(made, **({} if returns is None else {"return_annotation": returns[0]}))


class _Await:
    """A coroutine of the candidate, awaited here: it runs there, to its end, in an event loop of its own."""

    def __init__(self, awaited: Any) -> None:
        self.awaited = awaited

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        raise StopIteration(self.awaited._leti_home.ask(op="await", handle=self.awaited._leti_number))


def _send(self: Any, value: object) -> Any:
    return next(_Await(self))


FORWARDS: dict[str, Callable[..., Any]] = {
    **{name: asking(name) for name in operations.UNARY},
    **{name: _keeping_origin(name) for name in ("enter", "aenter")},
    **{name: _unary(name) for name in ("pos", "neg", "invert")},
    **{name: _converting(name) for name in NUMERIC},
    **{name: asking(name) for name in ("getitem", "setitem", "delitem", "format")},
    **{name: _compare(name) for name in operations.COMPARISONS},
    **{f"r{name}": _calculate(name, reflected=True) for name in (*operations.ARITHMETIC, "divmod")},
    **{f"i{name}": _calculate(name, in_place=True) for name in operations.ARITHMETIC},
    **{name: _calculate(name) for name in (*operations.ARITHMETIC, "divmod")},
    "hash": _hash, "contains": _contains, "iter": _iterate, "call": _call,
    "exit": _leave("exit"), "aexit": _leave("aexit"),
    "await": lambda self: _Await(self),
}  # fmt: skip
"""Special methods of a handle by short name; where a candidate's class has one, its handles have this."""
COROUTINE = {"send": _send}


def members(specials: list[str], own: list[str], unhashable: bool) -> dict[str, Any]:
    """The special methods for a class with these. Names that are none of them are left out."""
    found: dict[str, Any] = {f"__{name}__": FORWARDS[name] for name in specials if name in FORWARDS}
    if "__eq__" in found:
        found.setdefault("__hash__", None if unhashable else object.__hash__)
    return {**found, "_leti_own": frozenset(own)}
