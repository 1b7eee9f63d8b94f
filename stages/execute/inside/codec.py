"""Values as plain data, between processes that do not trust each other.

A value becomes a JSON tree. Scalars stand for themselves; everything else is `[tag, ..., payload]`. What comes out of a
tree is built here, from exact built-in and standard-library value types only: no class, method or code of the
sender ever crosses. Mutable containers are numbered in the order in which they are met, so that aliases, cycles and the
change of an argument in place survive the crossing.

Objects that are no plain values go through `foreign` hooks, which name them by handles.
"""

from __future__ import annotations

import builtins
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any, Protocol

Tree = Any
"""What `json.loads` gives: the only thing that crosses."""

DEEPEST = 100
MOST_NODES = 2_000_000
MOST_SHARED = 2000
"""Items of a container that both sides keep (`aliases`), for it is looked at with every message. A larger one crosses
as a copy, and only the call it is an argument of changes it in place.
"""
LONG_INT_BITS = 4096
"""Longer integers cross in hexadecimal: decimal conversion is quadratic, and CPython refuses it over 4,300 digits."""

SCALARS = frozenset({int, str, bool, type(None), float})
VIEWS: dict[type, str] = {type({}.keys()): "keys", type({}.values()): "values", type({}.items()): "items"}
TYPES = {name: value for name, value in vars(builtins).items() if isinstance(value, type) and not name.startswith("_")}
for _name in "classmethod enumerate filter map memoryview property reversed staticmethod super zip".split():  # noqa: SIM905
    # Called among the tests these would make objects that cannot cross back, in place of the candidate's values.
    del TYPES[_name]
TYPES |= {
    kind.__name__: kind
    for kind in (Counter, OrderedDict, defaultdict, deque, date, datetime, time, timedelta, Decimal, Fraction)
}
TYPES |= {"NoneType": type(None)}
TYPE_NAMES = {id(value): name for name, value in TYPES.items()}


class CodecError(Exception):
    """The value or the tree cannot cross: too deep, too large, or not of the language described above."""


_NAMED_MEMBERS = namedtuple("_Plain", ()).__dict__.keys() | {"__annotations__", "__orig_bases__"}


def is_named_tuple(kind: type) -> bool:
    """Whether a class is what `namedtuple` makes, with nothing added that would stay behind."""
    fields = kind.__dict__.get("_fields")
    if kind.__bases__ != (tuple,) or type(fields) is not tuple or not all(type(name) is str for name in fields):
        return False
    return kind.__dict__.keys() - _NAMED_MEMBERS <= set(fields)


class Sharing(Protocol):
    """Whoever numbers the mutable containers that both sides keep (`aliases`)."""

    def write(self, encoder: Encoder, item: Any) -> Tree:
        """The tree of a container that is shared from now on."""

    def read(self, decoder: Decoder, number: object, content: Tree = None) -> Any:
        """The container that such a tree stands for."""


class Encoder:
    """Values to trees. `objects` are the mutable containers met so far, by number."""

    def __init__(
        self, foreign: Callable[[object], Tree], known: Iterable[object] = (), ledger: Sharing | None = None
    ) -> None:
        self.foreign = foreign
        self.ledger = ledger
        self.objects: list[object] = list(known)
        self.numbers = {id(item): number for number, item in enumerate(self.objects)}
        self.nodes = 0
        self.depth = 0

    def encode(self, value: object) -> Tree:
        """A value's tree. Raises CodecError, or what `foreign` raises."""
        kind = type(value)
        if kind in SCALARS:
            return self._scalar(value)
        number = self.numbers.get(id(value))
        if number is not None:
            return ["R", number]
        if kind in MUTABLE:
            if self.ledger is not None and len(value) <= MOST_SHARED:  # type: ignore[arg-type]
                return self.ledger.write(self, value)
            self.numbers[id(value)] = len(self.objects)
            self.objects.append(value)
        return self.content(value)

    def content(self, value: object) -> Tree:
        """The tree of a container itself, even where `encode` would refer to it by number."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise CodecError(f"nested deeper than {DEEPEST}")
        writer = WRITERS.get(type(value))
        if writer is not None:
            tree = writer(self, value)
        elif isinstance(value, type) and id(value) in TYPE_NAMES:
            tree = ["type", TYPE_NAMES[id(value)]]
        elif issubclass(type(value), tuple) and is_named_tuple(type(value)):
            tree = ["named", type(value).__name__, list(type(value)._fields), self._items(tuple.__iter__(value))]  # type: ignore[attr-defined, arg-type]
        else:
            tree = self.foreign(value)
        self.depth -= 1
        return tree

    def _scalar(self, value: Any) -> Tree:
        if type(value) is int and value.bit_length() > LONG_INT_BITS:
            return ["int", hex(value)]
        return value

    def _count(self, more: int) -> None:
        self.nodes += more
        if self.nodes > MOST_NODES:
            raise CodecError(f"more than {MOST_NODES} values")

    def _items(self, values: Iterable[object]) -> list[Tree]:
        items = list(values)
        self._count(len(items) + 1)
        return [self.encode(item) for item in items]

    def _pairs(self, mapping: Any) -> list[Tree]:
        self._count(2 * len(mapping) + 1)
        return [self.encode(item) for pair in list(mapping.items()) for item in pair]

    def _list(self, value: Any) -> Tree:
        return ["l", self._items(value)]

    def _tuple(self, value: Any) -> Tree:
        return ["t", self._items(value)]

    def _view(self, value: Any) -> Tree:
        return ["view", VIEWS[type(value)], self._items(value)]


def _timezone(writer: Encoder, value: Any) -> Tree:
    if value is None:
        return None
    offset = value.utcoffset(None) if type(value) is timezone else None
    if offset is None:
        raise CodecError("only fixed time zones cross")
    return [offset.days, offset.seconds, offset.microseconds]


def _clock(value: Any) -> list[int]:
    return [value.hour, value.minute, value.second, value.microsecond, value.fold]


WRITERS: dict[type, Callable[[Encoder, Any], Tree]] = {
    list: Encoder._list,
    tuple: Encoder._tuple,
    dict: lambda e, v: ["d", e._pairs(v)],
    set: lambda e, v: ["s", e._items(v)],
    frozenset: lambda e, v: ["f", e._items(v)],
    complex: lambda e, v: ["complex", v.real, v.imag],
    bytes: lambda e, v: ["b", v.decode("latin-1")],
    bytearray: lambda e, v: ["B", v.decode("latin-1")],
    range: lambda e, v: ["range", [e._scalar(n) for n in (v.start, v.stop, v.step)]],
    slice: lambda e, v: ["slice", e._items((v.start, v.stop, v.step))],
    type(...): lambda e, v: ["..."],
    type(NotImplemented): lambda e, v: ["NI"],
    Counter: lambda e, v: ["C", e._pairs(v)],
    OrderedDict: lambda e, v: ["O", e._pairs(v)],
    defaultdict: lambda e, v: ["dd", e.encode(v.default_factory), e._pairs(v)],
    deque: lambda e, v: ["q", v.maxlen, e._items(v)],
    Decimal: lambda e, v: ["Decimal", str(v)],
    Fraction: lambda e, v: ["Fraction", e._scalar(v.numerator), e._scalar(v.denominator)],
    datetime: lambda e, v: ["datetime", [v.year, v.month, v.day, *_clock(v)], _timezone(e, v.tzinfo)],
    date: lambda e, v: ["date", [v.year, v.month, v.day]],
    time: lambda e, v: ["time", _clock(v), _timezone(e, v.tzinfo)],
    timedelta: lambda e, v: ["timedelta", [v.days, v.seconds, v.microseconds]],
    timezone: lambda e, v: ["timezone", _timezone(e, v)],
    **dict.fromkeys(VIEWS, Encoder._view),
}
MUTABLE = frozenset({list, dict, set, bytearray, Counter, OrderedDict, defaultdict, deque})


def _fields(payload: Tree, kind: type, size: int | None = None) -> list[Any]:
    if type(payload) is not list or (size is not None and len(payload) != size):
        raise CodecError("wrong number of fields")
    if any(type(item) is not kind for item in payload):
        raise CodecError(f"fields must be {kind.__name__}")
    return payload


def items(payload: Tree) -> list[Tree]:
    """A list. Raises CodecError."""
    if type(payload) is not list:
        raise CodecError("items expected")
    return payload


def texts(payload: Tree) -> list[str]:
    """A list of texts. Raises CodecError."""
    return _fields(payload, str)


def _text(payload: Tree) -> str:
    if type(payload) is not str:
        raise CodecError("text expected")
    return payload


class Decoder:
    """Trees to values. Raises CodecError for every tree that `Encoder` cannot have written."""

    def __init__(
        self,
        foreign: Callable[[Tree], object],
        objects: list[object] | None = None,
        *,
        ledger: Sharing | None = None,
        named: Callable[[str, tuple[str, ...]], type] | None = None,
    ) -> None:
        self.foreign = foreign
        self.objects: list[Any] = objects if objects is not None else []
        self.ledger = ledger
        self.named = named or named_tuple

    def decode(self, tree: Tree) -> Any:
        """A tree's value."""
        if type(tree) in SCALARS:
            return tree
        try:
            return self._compound(tree)
        except CodecError:
            raise
        except (TypeError, ValueError, ArithmeticError, LookupError, RecursionError, AttributeError) as error:
            raise CodecError(f"{type(error).__name__} in a value") from None

    def _compound(self, tree: Tree) -> Any:
        if type(tree) is not list or not tree or type(tree[0]) is not str:
            raise CodecError("not a value")
        tag = tree[0]
        if tag in EMPTY:
            target = EMPTY[tag](self, tree)
            self.objects.append(target)
            self._fill(target, tag, tree[-1])
            return target
        if tag == "m" and self.ledger is not None:
            return self.ledger.read(self, *tree[1:])
        reader = READERS.get(tag)
        return reader(self, *tree[1:]) if reader is not None else self.foreign(tree)

    def refill(self, number: int, tree: Tree) -> None:
        """Gives the container of that number the content of `tree`, in place."""
        self.replace(self.objects[number], tree)

    def replace(self, target: Any, tree: Tree) -> None:
        """Gives a container the content of `tree`, in place."""
        if type(tree) is not list or not tree or EMPTIED.get(tree[0]) is not type(target):
            raise CodecError("a container changed its type")
        if isinstance(target, bytearray):
            del target[:]
        else:
            target.clear()
        self.fill(target, tree)

    def empty(self, tree: Tree) -> Any:
        """A container of the sort that `tree` is the content of, still without it."""
        if type(tree) is not list or not tree or type(tree[0]) is not str or tree[0] not in EMPTY:
            raise CodecError("not a container")
        return EMPTY[tree[0]](self, tree)

    def fill(self, target: Any, tree: Tree) -> None:
        """Puts the content into a container that `empty` made."""
        self._fill(target, tree[0], tree[-1])

    def _fill(self, target: Any, tag: str, payload: Tree) -> None:
        if tag == "B":
            target.extend(_text(payload).encode("latin-1"))
            return
        if type(payload) is not list:
            raise CodecError("items expected")
        if tag in ("l", "q"):
            target.extend([self.decode(item) for item in payload])
        elif tag == "s":
            target.update([self.decode(item) for item in payload])
        else:
            items = iter([self.decode(item) for item in payload])
            for key, value in zip(items, items, strict=True):
                target[key] = value

    def _list(self, payload: Tree) -> list[Any]:
        if type(payload) is not list:
            raise CodecError("items expected")
        return [self.decode(item) for item in payload]

    def _reference(self, number: Tree) -> Any:
        if type(number) is not int or not 0 <= number < len(self.objects):
            raise CodecError("reference to nothing")
        return self.objects[number]

    def _named(self, name: str, fields: list[str], payload: Tree) -> Any:
        return self.named(_text(name), tuple(_fields(fields, str)))(*self._list(payload))

    def _view(self, kind: str, payload: Tree) -> Any:
        items = self._list(payload)
        if kind == "keys":
            return dict.fromkeys(items).keys()
        return dict(enumerate(items)).values() if kind == "values" else dict(items).items()


_named_tuples: dict[tuple[str, tuple[str, ...]], type] = {}


def named_tuple(name: str, fields: tuple[str, ...]) -> type:
    """One class per shape."""
    if (name, fields) not in _named_tuples:
        if len(_named_tuples) > 1000:
            _named_tuples.clear()
        _named_tuples[name, fields] = fresh_named_tuple(name, fields)
    return _named_tuples[name, fields]


def fresh_named_tuple(name: str, fields: tuple[str, ...]) -> type:
    """A class that nobody else has. Field names are checked first: `namedtuple` makes source text of them."""
    if len(fields) > 100 or not all(part.isidentifier() and len(part) <= 100 for part in (name, *fields)):
        raise CodecError("not the fields of a named tuple")
    return namedtuple(name, fields)


def _read_timezone(payload: Tree) -> timezone | None:
    if payload is None:
        return None
    offset = timedelta(*_fields(payload, int, 3))
    return timezone(offset) if offset else UTC


def _read_datetime(reader: Decoder, payload: Tree, zone: Tree) -> datetime:
    year, month, day, hour, minute, second, micro, fold = _fields(payload, int, 8)
    return datetime(year, month, day, hour, minute, second, micro, _read_timezone(zone), fold=fold)


def _read_time(reader: Decoder, payload: Tree, zone: Tree) -> time:
    hour, minute, second, micro, fold = _fields(payload, int, 5)
    return time(hour, minute, second, micro, _read_timezone(zone), fold=fold)


def _read_type(reader: Decoder, name: Tree) -> type:
    return TYPES[_text(name)]


def _number(reader: Decoder, tree: Tree) -> int:
    value = reader.decode(tree)
    if type(value) is not int:
        raise CodecError("integer expected")
    return value


READERS: dict[str, Callable[..., Any]] = {
    "R": Decoder._reference,
    "t": lambda r, payload: tuple(r._list(payload)),
    "f": lambda r, payload: frozenset(r._list(payload)),
    "int": lambda r, payload: int(_text(payload), 16),
    "complex": lambda r, real, imag: complex(*_fields([real, imag], float)),
    "b": lambda r, payload: _text(payload).encode("latin-1"),
    "range": lambda r, payload: range(*(_number(r, part) for part in payload)),
    "slice": lambda r, payload: slice(*r._list(payload)),
    "...": lambda r: ...,
    "NI": lambda r: NotImplemented,
    "named": Decoder._named,
    "view": Decoder._view,
    "Decimal": lambda r, payload: Decimal(_text(payload)),
    "Fraction": lambda r, top, bottom: Fraction(_number(r, top), _number(r, bottom)),
    "datetime": _read_datetime,
    "date": lambda r, payload: date(*_fields(payload, int, 3)),
    "time": _read_time,
    "timedelta": lambda r, payload: timedelta(*_fields(payload, int, 3)),
    "timezone": lambda r, payload: _read_timezone(payload),
    "type": _read_type,
}
EMPTY: dict[str, Callable[[Decoder, list[Any]], Any]] = {
    "l": lambda reader, tree: [],
    "d": lambda reader, tree: {},
    "s": lambda reader, tree: set(),
    "B": lambda reader, tree: bytearray(),
    "C": lambda reader, tree: Counter(),
    "O": lambda reader, tree: OrderedDict(),
    "dd": lambda reader, tree: defaultdict(reader.decode(tree[1])),
    "q": lambda reader, tree: deque(maxlen=tree[1]),
}
EMPTIED = {
    "l": list, "d": dict, "s": set, "B": bytearray, "C": Counter, "O": OrderedDict, "dd": defaultdict, "q": deque,
}  # fmt: skip
