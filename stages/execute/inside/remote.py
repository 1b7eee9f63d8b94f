"""The conversation with a candidate, as the tests lead it: calls, questions about its objects, and its calls back."""

from __future__ import annotations

import builtins
import contextlib
import importlib
import sys
from collections import deque
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from stages.execute.inside import aliases, certify, codec, lent, library, mirror, report, wire
from stages.execute.inside.handles import FOUND, Blueprint, Handle, handle_of, is_remote

MODULES = certify.words(
    """abc array asyncio bisect calendar cmath collections contextlib copy dataclasses datetime decimal enum fractions
    functools heapq inspect itertools json math numbers operator pathlib random re statistics string sys textwrap time
    types typing uuid"""
)
"""Modules that tests may take by a name the solution imported. The referee imports its own: a patched one stays
behind.
"""


BUILTINS = frozenset(vars(builtins))
UNKNOWN = object()
"""A module that tests may not have from a solution."""


class Ended(BaseException):
    """The conversation is over and `reason` is the verdict, whatever the tests would make of an exception."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unsplittable(BaseException):
    """The tests hand an object to the candidate that cannot be represented in another process."""


class Session:
    """One program's conversation with its candidate."""

    def __init__(self, channel: wire.Channel, *, shares: bool = False) -> None:
        self.channel = channel
        self.handles: dict[int, Any] = {}
        self.numbers: dict[int, int] = {}
        """Numbers of what stands here for a class or an exception of the candidate, by its id."""
        self.named: dict[tuple[str, tuple[str, ...]], type] = {}
        self.lent: list[Any] = []
        self.ledger = aliases.Ledger(-1) if shares else None
        self.asked_for: set[type] = set()
        """Classes of the solution that the tests name as one names classes."""
        self.treated_as_classes: set[type] = set()
        """Those of them that the tests use as only a class can be used."""
        self.ended: str | None = None
        self.unsplittable: str | None = None
        """Why the tests cannot be evaluated here, once that has shown."""
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
        # A built-in function stands between the candidate's frames and the object; where the tests call one there is
        # one in plain CPython too.
        depth = report.depth_of_tests() - (request.get("name") not in BUILTINS)
        reply = self.exchange({**request, "depth": depth})
        value = self.decode(self._value(reply))
        self._finish(reply)
        return value

    def call(self, handle: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Call a handle. Changes it made to the arguments happen here too."""
        self.calls += 1
        encoder = codec.Encoder(self._foreign, ledger=self.ledger)
        number = handle._leti_class if isinstance(handle, Blueprint) else handle._leti_number
        if self.planned and not keywords:
            # Announced arguments are literals, which nobody else holds: nothing of them is shared.
            sent = self._encode(codec.Encoder(self._foreign), arguments)
            if self.planned[0] == (number, sent):
                self.planned.popleft()
                return self._take(self._receive(), [])
        sent = self._encode(encoder, arguments)
        request = {
            "op": "call", "handle": number, "depth": report.depth_of_tests(),
            "arguments": sent, "keywords": self._encode(encoder, keywords),
        }  # fmt: skip
        reply = self.exchange(request)
        return self._take(reply, encoder.objects)

    def _take(self, reply: dict[str, Any], objects: list[Any]) -> Any:
        try:
            decoder = self._decoder(objects)
            sent = len(objects)
            value = decoder.decode(self._value(reply))
            changed = reply.get("changed", [])
            if type(changed) is not list or len(changed) not in (0, sent):
                raise codec.CodecError("changes do not fit the arguments")
            for number, tree in enumerate(changed):
                decoder.refill(number, tree)
            self._take_over(reply)
        except (codec.CodecError, LookupError, TypeError) as error:
            raise self.end(f"malformed: {error}") from None
        self.influenced = True
        return value

    def exchange(self, request: dict[str, Any], blob: bytes = b"") -> dict[str, Any]:
        """Send a request and answer the candidate's own calls until its reply comes."""
        self._refuse_if_over()
        self.finish_plan()
        try:
            self._send(request, blob)
        except wire.Malformed as error:
            raise self._cannot_cross(error) from None
        return self._receive()

    def _refuse_if_over(self) -> None:
        """Tests that catch everything do not get to talk on."""
        if self.ended:
            raise Ended(self.ended)
        if self.unsplittable:
            raise Unsplittable(self.unsplittable)

    def _send(self, message: dict[str, Any], blob: bytes = b"") -> None:
        if self.ledger is not None:
            try:
                message["shared"] = self.ledger.changes(self._encoder())
                # What nobody here holds any more has been changed for the last time.
                message["released"] = self.ledger.release()
                self.ledger.agree(self._encoder())
            except codec.CodecError as error:
                raise self._cannot_cross(error) from None
        with contextlib.suppress(wire.Closed):
            # What the candidate sent before it left is read all the same: else chance would decide about it.
            self.channel.send(message, blob)

    def finish_plan(self) -> None:
        """Let pass what was planned and not asked for."""
        while self.planned:
            self.planned.popleft()
            with contextlib.suppress(Exception):
                self._take(self._receive(), [])

    def _receive(self) -> dict[str, Any]:
        """The next reply; a candidate stops its plan at the first exception."""
        self._refuse_if_over()
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
            raise self._mirror(reply)
        return reply

    def _value(self, reply: dict[str, Any]) -> codec.Tree:
        if "value" not in reply:
            raise self.end("malformed: a reply without value")
        return reply["value"]

    def _take_over(self, message: dict[str, Any]) -> None:
        """What the candidate has changed in containers that both sides hold; after the values of the message."""
        if self.ledger is not None and "shared" in message:
            self.ledger.apply(message["shared"], self._decoder())
            self.ledger.agree(self._encoder())

    def _finish(self, reply: dict[str, Any]) -> None:
        try:
            self._take_over(reply)
        except (codec.CodecError, LookupError, TypeError) as error:
            raise self.end(f"malformed: {error}") from None

    def _call_back(self, message: dict[str, Any]) -> None:
        """The candidate wants something of an object of the tests that it was lent."""
        try:
            target = self.lent[message["callback"]]
            decoder = self._decoder()
            operands, keywords = decoder.decode(message["arguments"]), decoder.decode(message["keywords"])
            self._take_over(message)
            deed = lent.deed(target, message.get("what", "call"))
            if type(operands) is not tuple or type(keywords) is not dict:
                raise codec.CodecError("arguments expected")
        except (codec.CodecError, LookupError, TypeError) as error:
            raise self.end(f"malformed: {error}") from None
        self.influenced = True
        try:
            value = deed(*operands, **keywords)
        except Exception as error:
            self._send({"raised": self.encode(error)})
        else:
            self._send({"value": self._encode(codec.Encoder(self._foreign, decoder.objects, self.ledger), value)})

    # values

    def _encoder(self) -> codec.Encoder:
        return codec.Encoder(self._foreign, ledger=self.ledger)

    def _decoder(self, objects: list[Any] | None = None) -> codec.Decoder:
        return codec.Decoder(self._resolve, objects, ledger=self.ledger, named=self.named_tuple)

    def encode(self, value: object) -> codec.Tree:
        """A value of the tests, for the candidate."""
        return self._encode(self._encoder(), value)

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
        if self.influenced and (not theirs or is_remote(value)):
            return self.end("untransportable")
        self.unsplittable = type(value).__name__
        return Unsplittable(self.unsplittable)

    def decode(self, tree: codec.Tree) -> Any:
        """A value of the candidate, for the tests."""
        try:
            value = self._decoder().decode(tree)
        except codec.CodecError as error:
            raise self.end(f"malformed: {error}") from None
        self.influenced = self.influenced or not isinstance(value, Handle)
        return value

    def definitions(self, trees: dict[str, codec.Tree]) -> dict[str, Any]:
        """What names of the solution stood for after loading. Only here a module may cross."""
        decoder = self._decoder()
        try:
            return {name: self._definition(decoder, tree) for name, tree in trees.items()}
        except codec.CodecError as error:
            raise self.end(f"malformed: {error}") from None

    def _definition(self, decoder: codec.Decoder, tree: codec.Tree) -> Any:
        match tree:
            case ["module", str(name)] if name.partition(".")[0] in MODULES and name in sys.stdlib_module_names:
                return importlib.import_module(name)
            case ["module", _]:
                return UNKNOWN
        return decoder.decode(tree)

    def _foreign(self, value: object) -> codec.Tree:
        number = self.number_of(value)
        if number is not None:
            return ["h", number]
        if isinstance(value, BaseException):
            return report.write_exception(value, self._encoder().encode)
        tree = library.write(value)
        if tree is not None:
            return tree
        if isinstance(value, (BuiltinFunctionType, type)) and _is_importable(value):
            return ["import", value.__module__, value.__qualname__]
        if isinstance(value, (FunctionType, BuiltinFunctionType, MethodType)) or callable(value):
            return ["cb", self._lend(value), getattr(value, "__name__", "function"), getattr(value, "__doc__", None)]
        description = lent.describe(value)
        if description is not None:
            return ["ob", self._lend(value), description]
        raise self._cannot_cross(value)

    def number_of(self, value: object) -> int | None:
        """The number of what stands for something of the candidate's."""
        if isinstance(value, Handle):
            return int(value._leti_number)
        if isinstance(value, BaseException):
            number = getattr(value, "_leti_report", {}).get("object")
            return number if type(number) is int else None
        return self.numbers.get(id(value)) if isinstance(value, type) else None

    def _lend(self, value: object) -> int:
        for number, known in enumerate(self.lent):
            if known is value:
                return number
        self.lent.append(value)
        return len(self.lent) - 1

    def _resolve(self, tree: codec.Tree) -> Any:
        match tree:
            case ["h", int(number)] if number in self.handles:
                return self._again(self.handles[number])
            case ["h", int(number), kind, base]:
                return self._handle(number, self._decoder().decode(kind), base)
            case ["c", int(number), dict(description)] if number not in self.handles:
                mirror.Builder(self, number, description).build()
                return self.handles[number]
            case ["x", int(number), kind, arguments, dict(state)]:
                return self._exception(number, self._decoder().decode(kind), arguments, state)
            case ["lib", key, parts]:
                return library.read(key, parts)
            case ["cb", int(number)] if 0 <= number < len(self.lent):
                return self.lent[number]
        raise codec.CodecError("unknown object")

    def _again(self, known: Any) -> Any:
        if isinstance(known, Handle):
            object.__setattr__(known, "_leti_origin", FOUND)
        return known

    def _handle(self, number: int, kind: Any, base: codec.Tree) -> Any:
        if not isinstance(kind, Blueprint) or not issubclass(kind, Handle):
            raise codec.CodecError("not the class of an object")
        if number not in self.handles:
            self.handles[number] = handle_of(kind, number)
        handle = self._again(self.handles[number])
        if isinstance(handle, Handle):
            object.__setattr__(
                handle, "_leti_base", None if base is None else codec.Decoder(self._resolve).decode(base)
            )
        return handle

    def _exception(self, number: int, kind: Any, arguments: codec.Tree, state: dict[str, Any]) -> Any:
        if number not in self.handles:
            self.handles[number] = mirror.exception(
                kind, self._decoder().decode(arguments), state, self._decoder().decode
            )
            self.handles[number]._leti_report = {"object": number}
        return self.handles[number]

    def named_tuple(self, name: str, fields: tuple[str, ...]) -> type:
        """The class here for named tuples of that shape: one for each conversation."""
        if (name, fields) not in self.named:
            self.named[name, fields] = codec.fresh_named_tuple(name, fields)
        return self.named[name, fields]

    # exceptions

    def _mirror(self, reply: dict[str, Any]) -> BaseException:
        """The candidate's exception, raised among the tests: of the nearest built-in class, or a class made for it."""
        raised = reply["raised"]
        if not report.is_valid(raised):
            return self.end("malformed: not a report of an exception")
        try:
            error = self._decoder().decode(raised["error"])
            self._take_over(reply)
        except (codec.CodecError, LookupError, TypeError):
            return self.end("malformed: an exception")
        if not isinstance(error, BaseException):
            error = report.nearest_builtin(raised["bases"])()
        self.influenced = True
        number = getattr(error, "_leti_report", {}).get("object")
        error._leti_report = {**raised, "object": number}  # type: ignore[attr-defined]
        error.__traceback__ = None
        return error


def _is_importable(value: Any) -> bool:
    """A built-in function or class of the shared modules, which the candidate's process has as well."""
    module = getattr(value, "__module__", None)
    if module not in MODULES and module != "builtins":
        return False
    return getattr(sys.modules.get(module), getattr(value, "__qualname__", ""), None) is value
