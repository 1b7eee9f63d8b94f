"""The candidate seen from the tests: handles that stand for its functions, classes and objects.

What an operator means is decided here whenever a plain value takes part: a candidate's `__eq__` or `__sub__` is never
asked about an expected value. It is asked only about its own objects, and what it answers is again a plain value or a
handle.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections import deque
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from stages.execute.inside import certify, codec, report, wire

MODULES = certify.words(
    """array bisect calendar cmath collections copy datetime decimal fractions functools heapq itertools json
    math numbers operator random re statistics string sys time typing"""
)
"""Modules that tests may take by a name the solution imported. The referee imports its own: a patched one stays
behind.
"""


class Ended(BaseException):
    """The conversation is over and `reason` is the verdict, whatever the tests would make of an exception."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unsplittable(BaseException):
    """The tests hand an object to the candidate that cannot be represented in another process."""


class Handle:
    """An object of the candidate."""

    __slots__ = ("_leti_base", "_leti_number", "_leti_session")

    def __init__(self, session: Session, number: int) -> None:
        for name, value in zip(Handle.__slots__, (None, number, session), strict=True):
            object.__setattr__(self, name, value)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """What `isinstance` asks for: an object derived from a built-in type is one of these."""
        return type(self) if self._leti_base is None else type(self._leti_base)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call it in the candidate."""
        return self._leti_session.call(self, arguments, keywords)

    def __getattr__(self, name: str) -> Any:
        return self._leti_session.ask(op="get", handle=self._leti_number, name=name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._leti_session.ask(op="set", handle=self._leti_number, name=name, value=self._leti_session.encode(value))

    def __delattr__(self, name: str) -> None:
        self._leti_session.ask(op="delete", handle=self._leti_number, name=name)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Handle):
            return bool(other is self or _operate(self, "eq", self, other))
        return self._leti_base is not None and bool(self._leti_plain() == other)

    def __ne__(self, other: object) -> bool:
        if isinstance(other, Handle):
            return other is not self and bool(_operate(self, "ne", self, other))
        return not self == other

    def __hash__(self) -> int:
        return hash(_operate(self, "hash", self))

    def __bool__(self) -> bool:
        return bool(_operate(self, "bool", self))

    def __len__(self) -> int:
        return int(_operate(self, "len", self))

    def __iter__(self) -> Iterator[Any]:
        iterator = _operate(self, "iter", self)
        if not isinstance(iterator, Handle):
            return iter(iterator)
        return iterator

    def __next__(self) -> Any:
        return _operate(self, "next", self)

    def __contains__(self, item: object) -> bool:
        return any(item is member or item == member for member in self)

    def __repr__(self) -> str:
        return _text(_operate(self, "repr", self))

    def __str__(self) -> str:
        return _text(_operate(self, "str", self))

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, Handle) and bool(_operate(self, "isinstance", instance, self))

    def __subclasscheck__(self, kind: object) -> bool:
        return isinstance(kind, Handle) and bool(_operate(self, "issubclass", kind, self))

    def _leti_plain(self) -> Any:
        """What the object holds now as the built-in type it derives from."""
        _operate(self, "self", self)
        return self._leti_base


def _text(value: object) -> str:
    if type(value) is not str:
        raise TypeError(f"__str__ returned non-string (type {type(value).__name__})")
    return value


def _operate(handle: Handle, name: str, *operands: object) -> Any:
    session: Session = handle._leti_session
    return session.ask(op="operate", name=name, operands=session.encode(list(operands)))


def _unary(name: str) -> Callable[[Handle], Any]:
    return lambda self: _operate(self, name, self)


def _keyed(name: str) -> Callable[..., Any]:
    return lambda self, *arguments: _operate(self, name, self, *arguments)


def _between_handles(name: str, reflected: bool) -> Callable[[Handle, object], Any]:
    """A binary operator: the candidate's where both sides are its objects; with a plain value, that of the built-in
    base.
    """

    def operator_method(self: Handle, other: object) -> Any:
        sides = (other, self) if reflected else (self, other)
        if isinstance(other, Handle):
            return _operate(self, name, *sides)
        if self._leti_base is None:
            return NotImplemented
        import operator

        plain = self._leti_plain()
        return getattr(operator, name)(*((other, plain) if reflected else (plain, other)))

    return operator_method


for _name in ("int", "float", "abs", "reversed", "enter", "neg", "pos", "invert", "index"):
    setattr(Handle, f"__{_name}__", _unary(_name))
for _name in ("getitem", "setitem", "delitem", "round", "format"):
    setattr(Handle, f"__{_name}__", _keyed(_name))
Handle.__exit__ = lambda self, *details: _operate(self, "exit", self)  # type: ignore[attr-defined]
for _name in ("lt", "le", "gt", "ge"):
    setattr(Handle, f"__{_name}__", _between_handles(_name, reflected=False))
for _name in certify.words("add sub mul truediv floordiv mod pow matmul and or xor lshift rshift"):
    _function = f"{_name}_" if _name in ("and", "or") else _name
    setattr(Handle, f"__{_name}__", _between_handles(_function, reflected=False))
    setattr(Handle, f"__r{_name}__", _between_handles(_function, reflected=True))


class Session:
    """One program's conversation with its candidate."""

    def __init__(self, channel: wire.Channel) -> None:
        self.channel = channel
        self.handles: dict[int, Any] = {}
        self.kinds: dict[str, type[Handle]] = {}
        self.callbacks: list[Any] = []
        self.ended: str | None = None
        self.calls = 0
        self.influenced = False
        """Whether a value that the candidate chose has reached the tests."""
        self.planned: deque[tuple[int, Any]] = deque()
        """Handle number and encoded arguments of the calls whose answers come without a request, in order."""

    def end(self, reason: str) -> Ended:
        """Remember the end: tests that catch everything do not get to talk on."""
        self.ended = self.ended or reason
        return Ended(self.ended)

    # requests

    def ask(self, **request: Any) -> Any:
        """One request; its value decoded. Raises what the candidate raised, or Ended."""
        return self.decode(self._value(self.exchange(request)))

    def call(self, handle: Handle, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Call a handle. Changes it made to the arguments happen here too."""
        self.calls += 1
        encoder = codec.Encoder(self._foreign)
        sent = self._encode(encoder, arguments)
        if self.planned and not keywords and self.planned[0] == (handle._leti_number, sent):
            self.planned.popleft()
            return self._take(self._receive(), [])
        request = {
            "op": "call", "handle": handle._leti_number, "depth": report.depth_of_tests(),
            "arguments": sent, "keywords": self._encode(encoder, keywords),
        }  # fmt: skip
        reply = self.exchange(request)
        return self._take(reply, encoder.objects)

    def _take(self, reply: dict[str, Any], objects: list[Any]) -> Any:
        try:
            decoder = codec.Decoder(self._resolve, objects)
            sent = len(objects)
            value = decoder.decode(self._value(reply))
            changed = reply.get("changed", [])
            if type(changed) is not list or len(changed) not in (0, sent):
                raise codec.CodecError("changes do not fit the arguments")
            for number, tree in enumerate(changed):
                decoder.refill(number, tree)
        except (codec.CodecError, LookupError, TypeError) as error:
            raise self.end(f"malformed: {error}") from None
        self.influenced = True
        return value

    def exchange(self, request: dict[str, Any], blob: bytes = b"") -> dict[str, Any]:
        """Send a request and answer the candidate's own calls until its reply comes."""
        if self.ended:
            raise Ended(self.ended)
        self.finish_plan()
        try:
            self.channel.send(request, blob)
        except wire.Closed:
            raise self.end("closed") from None
        except wire.Malformed as error:
            raise self._cannot_cross(error) from None
        return self._receive()

    def finish_plan(self) -> None:
        """Let pass what was planned and not asked for."""
        while self.planned:
            self.planned.popleft()
            with contextlib.suppress(Exception):
                self._receive()

    def _receive(self) -> dict[str, Any]:
        """The next reply; a candidate stops its plan at the first exception."""
        if self.ended:
            raise Ended(self.ended)
        try:
            while True:
                reply, _ = self.channel.receive()
                if type(reply) is not dict:
                    raise wire.Malformed("not an object")
                if "callback" not in reply:
                    break
                self._call_back(reply)
        except wire.Closed:
            raise self.end("closed") from None
        except wire.Malformed as error:
            raise self.end(f"malformed: {error}") from None
        except wire.Overflow:
            raise self.end("output_limit") from None
        for reason in ("output_limit", "untransportable", "unclean"):
            if reason in reply:
                raise self.end(reason)
        if "raised" in reply:
            self.planned.clear()
            raise self._mirror(reply["raised"])
        return reply

    def _value(self, reply: dict[str, Any]) -> codec.Tree:
        if "value" not in reply:
            raise self.end("malformed: a reply without value")
        return reply["value"]

    def _call_back(self, message: dict[str, Any]) -> None:
        try:
            function = self.callbacks[message["callback"]]
            decoder = codec.Decoder(self._resolve)
            arguments, keywords = decoder.decode(message["arguments"]), decoder.decode(message["keywords"])
            if type(arguments) is not tuple or type(keywords) is not dict:
                raise codec.CodecError("arguments expected")
        except (codec.CodecError, LookupError, TypeError) as error:
            raise self.end(f"malformed: {error}") from None
        self.influenced = True
        try:
            value = function(*arguments, **keywords)
        except Exception as error:
            plain = all(type(item) in codec.SCALARS for item in error.args)
            self.channel.send({"raised": type(error).__name__, "arguments": list(error.args) if plain else []})
        else:
            self.channel.send({"value": self._encode(codec.Encoder(self._foreign, decoder.objects), value)})

    # values

    def encode(self, value: object) -> codec.Tree:
        """A value of the tests, for the candidate."""
        return self._encode(codec.Encoder(self._foreign), value)

    def _encode(self, encoder: codec.Encoder, value: object) -> codec.Tree:
        try:
            return encoder.encode(value)
        except codec.CodecError as error:
            raise self._cannot_cross(error) from None

    def _cannot_cross(self, value: object) -> BaseException:
        """The tests say whether they need one process, never the candidate: once it had a say in their values, only
        what they alone can have made counts.
        """
        theirs = isinstance(value, Iterator) or type(value).__module__ == "__main__"
        if self.influenced and (not theirs or hasattr(value, "_leti_number")):
            return self.end("untransportable")
        return Unsplittable(type(value).__name__)

    def decode(self, tree: codec.Tree) -> Any:
        """A value of the candidate, for the tests."""
        try:
            value = codec.Decoder(self._resolve).decode(tree)
        except codec.CodecError as error:
            raise self.end(f"malformed: {error}") from None
        self.influenced = self.influenced or not isinstance(value, Handle)
        return value

    def definition(self, tree: codec.Tree) -> Any:
        """What a name of the solution stood for after loading. Only here a module may cross."""
        match tree:
            case ["module", str(name)] if name.partition(".")[0] in MODULES and name in sys.stdlib_module_names:
                return importlib.import_module(name)
        return self.decode(tree)

    def _foreign(self, value: object) -> codec.Tree:
        if isinstance(value, Handle):
            return ["h", value._leti_number]
        if isinstance(value, type) and issubclass(value, BaseException) and hasattr(value, "_leti_number"):
            return ["h", value._leti_number]
        if isinstance(value, (BuiltinFunctionType, type)) and _is_importable(value):
            return ["import", value.__module__, value.__qualname__]
        if isinstance(value, (FunctionType, BuiltinFunctionType, MethodType)) or callable(value):
            self.callbacks.append(value)
            return ["cb", len(self.callbacks) - 1, getattr(value, "__name__", "function")]
        raise self._cannot_cross(value)

    def _resolve(self, tree: codec.Tree) -> Any:
        match tree:
            case ["h", int(number), "exception", str(name), list(bases)]:
                if number not in self.handles:
                    self.handles[number] = self._class(number, name, bases)
                return self.handles[number]
            case ["h", int(number), str(sort), str(type_name), base]:
                if number not in self.handles:
                    kind = self._kind("type" if sort == "class" else type_name[:200])
                    self.handles[number] = kind(self, number)
                handle = self.handles[number]
                if isinstance(handle, Handle):
                    object.__setattr__(handle, "_leti_base", None if base is None else self.decode(base))
                return handle
            case ["cb", int(number)] if 0 <= number < len(self.callbacks):
                return self.callbacks[number]
        raise codec.CodecError("unknown object")

    def _kind(self, name: str) -> type[Handle]:
        """The class of handles whose objects have a class of that name: messages of CPython show it."""
        if name not in self.kinds:
            self.kinds[name] = type(name, (Handle,), {"__slots__": (), "__module__": "__main__"})
        return self.kinds[name]

    # exceptions

    def _class(self, number: int, name: str, bases: list[Any]) -> type[BaseException]:
        """A class of the tests' own for an exception class of the candidate, so that `except` can name it."""
        members = {"_leti_number": number, "__module__": "__main__", "__getattr__": report.attributes(self.ask)}
        return type(name[:200], (report.nearest_builtin(bases),), members)

    def _mirror(self, raised: Any) -> BaseException:
        """The candidate's exception, raised among the tests: of the nearest built-in class, or a class made for it."""
        if not report.is_valid(raised):
            return self.end("malformed: not a report of an exception")
        kind = report.nearest_builtin(raised["bases"])
        number = raised["class"]
        if type(number) is int:
            known = self.handles.get(number)
            if not isinstance(known, type):
                known = self.handles[number] = self._class(number, raised["type"], raised["bases"])
            kind = known
        try:
            arguments = self.decode(raised["arguments"])
            error = kind(*(arguments if type(arguments) is tuple else ()))
        except (TypeError, ValueError):
            error = Exception()
        error._leti_report = raised  # type: ignore[attr-defined]
        return error


def _is_importable(value: Any) -> bool:
    """A built-in function or class of the shared modules, which the candidate's process has as well."""
    module = getattr(value, "__module__", None)
    if module not in MODULES and module != "builtins":
        return False
    return getattr(sys.modules.get(module), getattr(value, "__qualname__", ""), None) is value
