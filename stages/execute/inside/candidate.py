"""The candidate: executes model-written code and answers the referee's calls about it.

Nothing here is trusted once that code runs: the same interpreter may be rewritten by it. All that follows from a lie
is that the referee compares wrong values, or shows a wrong traceback of this very program.

Requests (values as in `codec`): load, call, get, set, delete, operate, global. A reply is `{"value",
"changed"}` or `{"raised"}`; between a request and its reply the candidate may itself send `{"callback"}`.
"""

from __future__ import annotations

import builtins
import contextlib
import marshal
import resource
import sys
import traceback
from collections.abc import Callable
from types import CodeType, ModuleType
from typing import Any

from stages.execute.inside import aliases, borrowed, codec, library, operations, portrait, report, wire
from stages.execute.inside.sink import OutputLimit, Sink

RECURSION = 1000
"""CPython's default limit, which a program that never meets our own frames would have."""
LOAD_DEPTH = -1
"""At load there are no frames of the tests, and `exec` itself counts as one."""
MOST_GLOBALS = 1000
ROOMY_PART = 4
"""A shared candidate whose memory ever grew by more than this part of the limit serves nobody else."""

_builtins, _execute, _load = vars(builtins), exec, marshal.loads
_trace, _profile = sys.settrace, sys.setprofile
"""Of the interpreter as it was before the solution had it."""


def main(channel: wire.Channel, config: dict[str, Any], shared: bool) -> None:
    """Answer the referee until it closes."""
    _dress_like_a_script()
    sink = Sink(config["limits"]["output_kib"] << 10) if shared else None
    if sink is not None:
        sys.stdout = sys.stderr = sink
    candidate = Candidate(channel, sink, config["limits"]["memory_mib"])
    sys.setrecursionlimit(RECURSION + _depth())
    with contextlib.suppress(wire.Closed):
        while True:
            candidate.serve()


def _dress_like_a_script() -> None:
    """What `site` adds and scripts expect; the interpreter runs without it."""
    import _sitebuiltins

    builtins.exit = _sitebuiltins.Quitter("exit", "Ctrl-D (i.e. EOF)")
    builtins.quit = _sitebuiltins.Quitter("quit", "Ctrl-D (i.e. EOF)")
    sys.argv[:] = ["<string>"]


def _depth() -> int:
    frame, depth = sys._getframe(1), 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1  # type: ignore[assignment]
    return depth


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _pack(reply: dict[str, Any]) -> bytes:
    try:
        return wire.pack(reply)
    except (ValueError, wire.Malformed) as error:
        return wire.pack({"untransportable": str(error)})


class Candidate:
    """One program at a time: its namespace and the objects of it that the referee holds handles of."""

    def __init__(self, channel: wire.Channel, sink: Sink | None, memory_mib: int) -> None:
        self.channel = channel
        self.sink = sink
        self.codes: list[CodeType] = []
        self.namespace: dict[str, Any] = {}
        self.forget()
        self.limit = 0
        self.builtins = dict(vars(builtins))
        self.most_kib = _peak_kib() + (memory_mib << 10) // ROOMY_PART

    def forget(self) -> None:
        """What was said about the program before."""
        self.handles: dict[int, Any] = {}
        self.numbers: dict[int, int] = {}
        self.borrowed: dict[int, Any] = {}
        self.lent: dict[int, int] = {}
        self.ledger: aliases.Ledger | None = None
        self.loop: Any = None

    def serve(self) -> None:
        """Answer one request, and all that it leads to."""
        request, blob = self.channel.receive()
        reply = self.answer(request, blob)
        frame = _pack(reply)
        for name, arguments in request.get("plan", ()):
            if "value" not in reply or name not in self.namespace:
                break
            # Each answer leaves before the next call begins: that one may never end. The first waits for nobody.
            reply = self.answer({"op": "planned", "name": name, "arguments": arguments, "depth": 1}, b"")
            self.channel.sock.sendall(frame + _pack(reply))
            frame = b""
        if frame:
            self.channel.sock.sendall(frame)

    def answer(self, request: dict[str, Any], blob: bytes) -> dict[str, Any]:
        """The reply to one request. Whatever the program raises is part of the reply."""
        try:
            self._allow_recursion(request.get("depth", LOAD_DEPTH))
            return self._shared(ANSWERS[request["op"]](self, request, blob))
        except codec.CodecError as error:
            return {"untransportable": str(error)}
        except OutputLimit:
            return {"output_limit": True}
        except BaseException as error:
            return self._failed(error)

    def _allow_recursion(self, depth: int) -> None:
        """As deep as the program could go if the tests' `depth` frames stood where ours stand."""
        if self.limit in (0, sys.getrecursionlimit()):
            self.limit = RECURSION + _depth() - depth
            sys.setrecursionlimit(self.limit)

    def _failed(self, error: BaseException) -> dict[str, Any]:
        """The reply on an exception that left the program."""
        if isinstance(error, MemoryError):
            # Its frames hold the memory, and what they would tell is not shown: the limit has a fixed sentence.
            traceback.clear_frames(error.__traceback__)
            return {"raised": report.describe(MemoryError(), [], None)}
        try:
            reply = {"raised": report.describe(error, self.codes, self._value(error))}
            return self._shared(reply)
        except MemoryError:
            return {"raised": report.describe(MemoryError(), [], None)}
        except codec.CodecError as found:
            return {"untransportable": str(found)}

    def _shared(self, reply: dict[str, Any]) -> dict[str, Any]:
        """With what has changed in the containers that the tests hold too."""
        if self.ledger is not None:
            reply["shared"] = self.ledger.changes(self._encoder())
            self.ledger.agree(self._encoder())
        return reply

    def _take_over(self, message: dict[str, Any]) -> None:
        """What the tests have changed in them."""
        if self.ledger is not None and "shared" in message:
            self.ledger.apply(message["shared"], self._decoder())
            self.ledger.agree(self._encoder())
            self.ledger.drop(message.get("released", ()))

    # requests

    def load(self, request: dict[str, Any], blob: bytes) -> dict[str, Any]:
        """Execute a program from the start and say what it defines."""
        if self.sink is not None and not self._is_clean():
            return {"unclean": True}
        self.forget()
        self.namespace.clear()
        if self.sink is not None:
            self.sink.written = 0
        module = ModuleType("__main__")
        self.namespace = module.__dict__
        self.namespace["__builtins__"] = builtins
        sys.modules["__main__"] = module
        self.codes = [marshal.loads(blob)]
        exec(self.codes[0], self.namespace)
        for statement in request["imports"]:
            exec(statement, self.namespace)
        values = {name: self._definition(self.namespace[name]) for name in request["names"] if name in self.namespace}
        self.ledger = aliases.Ledger(1) if request.get("shares") else None
        names = [name for name in self.namespace if type(name) is str]
        return {"value": values, "globals": [name[:100] for name in names[:MOST_GLOBALS]]}

    def _is_clean(self) -> bool:
        """Whether a shared candidate is as good as a new one: unchanged, and with memory left over for another
        program. What earlier ones held in cycles may still be there, and freeing much takes long.
        """
        unchanged = dict(vars(builtins)) == self.builtins and sys.getrecursionlimit() == self.limit
        return unchanged and _peak_kib() < self.most_kib

    def tests(self, request: dict[str, Any], blob: bytes) -> dict[str, Any]:
        """Execute tests that need the solution's own namespace. Only where all of them ran is the nonce sent back.

        What the solution did to the interpreter does not hold for them: built-ins are as they were, nobody traces.
        """
        _trace(None)
        _profile(None)
        _builtins.update(self.builtins)
        code = _load(blob)
        self.codes.append(code)
        _execute(code, self.namespace)
        return {"value": request["nonce"]}

    def call(self, request: dict[str, Any], blob: bytes) -> dict[str, Any]:
        """Call a handle; changes that the call made to its arguments are part of the reply."""
        function = self.handles[request["handle"]]
        decoder = self._decoder()
        arguments = decoder.decode(request["arguments"])
        keywords = decoder.decode(request["keywords"])
        self._take_over(request)
        result = function(*arguments, **keywords)
        if not decoder.objects:
            return {"value": self._value(result)}
        return self._with_changes(request, arguments, keywords, decoder.objects, result)

    def planned(self, request: dict[str, Any], blob: bytes) -> dict[str, Any]:
        """A call that the tests are known to make: on literals, which nobody else holds."""
        arguments = self._decoder().decode(request["arguments"])
        return {"value": self._value(self.namespace[request["name"]](*arguments))}

    def _with_changes(
        self, request: Any, arguments: Any, keywords: Any, objects: list[Any], result: Any
    ) -> dict[str, Any]:
        again = codec.Encoder(self._foreign)
        same = repr([again.encode(arguments), again.encode(keywords)]) == repr(
            [request["arguments"], request["keywords"]]
        )
        encoder = self._encoder(objects)
        reply = {"value": encoder.encode(result)}
        if not same:
            reply["changed"] = [encoder.content(item) for item in objects]
        return reply

    def get(self, request: dict[str, Any], blob: bytes) -> dict[str, Any]:
        """Attribute of a handle."""
        self._take_over(request)
        return {"value": self._value(getattr(self.handles[request["handle"]], request["name"]))}

    def set(self, request: dict[str, Any], blob: bytes) -> dict[str, Any]:
        """Set an attribute of a handle."""
        value = self._decoder().decode(request["value"])
        self._take_over(request)
        setattr(self.handles[request["handle"]], request["name"], value)
        return {"value": None}

    def delete(self, request: dict[str, Any], blob: bytes) -> dict[str, Any]:
        """Delete an attribute of a handle."""
        self._take_over(request)
        delattr(self.handles[request["handle"]], request["name"])
        return {"value": None}

    def operate(self, request: dict[str, Any], blob: bytes) -> dict[str, Any]:
        """A named operation between handles and values."""
        operands = self._decoder().decode(request["operands"])
        self._take_over(request)
        return {"value": self._value(operations.OPERATIONS[request["name"]](*operands))}

    def globals(self, request: dict[str, Any], blob: bytes) -> dict[str, Any]:
        """The present value of a global name."""
        self._take_over(request)
        return {"value": self._value(self.namespace[request["name"]])}

    def seed(self, request: dict[str, Any], blob: bytes) -> dict[str, Any]:
        """Seed the generator that solution and tests would share."""
        import random

        random.seed(self._decoder().decode(request["value"]))
        return {"value": None}

    def signature(self, request: dict[str, Any], blob: bytes) -> dict[str, Any]:
        """Parameters of a function."""
        return {"value": self._value(portrait.of_signature(self.handles[request["handle"]]))}

    def wait(self, request: dict[str, Any], blob: bytes) -> dict[str, Any]:
        """Run a coroutine, or whatever can be awaited, to its end."""
        import asyncio

        self._take_over(request)
        if self.loop is None:
            self.loop = asyncio.new_event_loop()
        awaited = self.handles[request["handle"]]

        async def run() -> Any:
            return await awaited

        return {"value": self._value(self.loop.run_until_complete(run()))}

    def call_back(self, number: int, what: str, operands: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Have the referee do something with an object of the tests; answers whatever it asks meanwhile."""
        encoder = self._encoder()
        message = {
            "callback": number, "what": what,
            "arguments": encoder.encode(operands), "keywords": encoder.encode(keywords),
        }  # fmt: skip
        self.channel.send(self._shared(message))
        while True:
            request, blob = self.channel.receive()
            if "op" in request:
                self.channel.send(self.answer(request, blob))
            elif "raised" in request:
                error = self._decoder().decode(request["raised"])
                self._take_over(request)
                raise error
            else:
                decoder = self._decoder(encoder.objects)
                value = decoder.decode(request["value"])
                self._take_over(request)
                return value

    # objects that are no plain values

    def _encoder(self, known: list[Any] | None = None) -> codec.Encoder:
        return codec.Encoder(self._foreign, known or (), self.ledger)

    def _decoder(self, objects: list[Any] | None = None) -> codec.Decoder:
        return codec.Decoder(self._resolve, objects, ledger=self.ledger, named=self._named_tuple)

    def _value(self, value: object) -> codec.Tree:
        return self._encoder().encode(value)

    def _definition(self, value: object) -> codec.Tree:
        return ["module", value.__name__] if isinstance(value, ModuleType) else self._value(value)

    def _number(self, value: object) -> int:
        """The number of an object from now on; it is kept, so that its identity is its own."""
        number = len(self.handles)
        self.handles[number], self.numbers[id(value)] = value, number
        return number

    def _foreign(self, value: object) -> codec.Tree:
        lent = self.lent.get(id(value))
        if lent is not None:
            return ["cb", lent]
        known = self.numbers.get(id(value))
        if known is not None and (isinstance(value, type) or not _is_derived(value)):
            return ["h", known]
        tree = library.write(value)
        if tree is not None:
            return tree
        if isinstance(value, BaseException):
            return portrait.of_exception(value, self._number(value), self._encoder().encode)
        if isinstance(value, type):
            number = self._number(value)
            return ["c", number, portrait.of_class(value, codec.Encoder(self._foreign).encode)]
        number = self._number(value) if known is None else known
        base = portrait.plain_base(value, codec.Encoder(self._foreign).encode)
        return ["h", number, self._foreign(type(value)), base]

    def _named_tuple(self, name: str, fields: tuple[str, ...]) -> type:
        """The solution's class of that name and shape, where it has one."""
        own = self.namespace.get(name)
        if isinstance(own, type) and codec.is_named_tuple(own) and own._fields == fields:  # type: ignore[attr-defined]
            return own
        return codec.named_tuple(name, fields)

    def _resolve(self, tree: codec.Tree) -> Any:
        match tree:
            case ["h", int(number)]:
                return self.handles[number]
            case ["cb", int(number), str(name), doc]:
                return self._borrow(number, lambda: borrowed.function(self.call_back, number, name, doc))
            case ["ob", int(number), dict(description)]:
                return self._borrow(number, lambda: borrowed.thing(self.call_back, number, description))
            case ["lib", key, parts]:
                return library.read(key, parts)
            case ["exc", name, arguments]:
                return report.read_exception(name, self._decoder().decode(arguments))
            case ["import", str(module), str(name)]:
                return getattr(__import__(module, fromlist=[name]), name)
        raise codec.CodecError("unknown object")

    def _borrow(self, number: int, make: Callable[[], Any]) -> Any:
        if number not in self.borrowed:
            self.borrowed[number] = make()
            self.lent[id(self.borrowed[number])] = number
        return self.borrowed[number]


def _is_derived(value: object) -> bool:
    """Whether it derives from a built-in type: then what it holds as that is told each time."""
    return isinstance(value, tuple(portrait.PLAIN_BASES))


ANSWERS: dict[str, Callable[[Candidate, dict[str, Any], bytes], dict[str, Any]]] = {
    "load": Candidate.load,
    "tests": Candidate.tests,
    "call": Candidate.call,
    "planned": Candidate.planned,
    "get": Candidate.get,
    "set": Candidate.set,
    "delete": Candidate.delete,
    "operate": Candidate.operate,
    "global": Candidate.globals,
    "signature": Candidate.signature,
    "await": Candidate.wait,
    "seed": Candidate.seed,
}
