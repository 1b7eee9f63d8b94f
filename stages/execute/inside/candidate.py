"""The candidate: executes model-written code and answers the referee's calls about it.

Nothing here is trusted once that code runs: the same interpreter may be rewritten by it. All that follows from a lie
is that the referee compares wrong values, or shows a wrong traceback of this very program.

Requests (values as in `codec`): load, call, get, set, delete, operate, global. A reply is `{"value",
"changed"}` or `{"raised"}`; between a request and its reply the candidate may itself send `{"callback"}`.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import marshal
import operator
import resource
import sys
import traceback
from collections.abc import Callable
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from stages.execute.inside import codec, report, wire

RECURSION = 1000
"""CPython's default limit, which a program that never meets our own frames would have."""
LOAD_DEPTH = -1
"""At load there are no frames of the tests, and `exec` itself counts as one."""
MOST_GLOBALS = 1000
ROOMY_PART = 4
"""A shared candidate whose memory ever grew by more than this part of the limit serves nobody else."""


class OutputLimit(BaseException):
    """A shared candidate printed more than it may."""


class Sink(io.TextIOBase):
    """Standard output of a shared candidate, counted and forgotten. Certified code reaches it only through `print`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.written = 0

    def write(self, text: str) -> int:
        """Count; raises OutputLimit over the limit."""
        self.written += len(text)
        if self.written > self.limit:
            raise OutputLimit
        return len(text)


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


class Callback:
    """A function of the tests, as the candidate's code sees it."""

    def __init__(self, candidate: Candidate, number: int, name: str) -> None:
        self._ask = candidate.call_back
        self._number = number
        self.__name__ = name

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Ask the referee."""
        return self._ask(self._number, arguments, keywords)


class Candidate:
    """One program at a time: its namespace and the objects of it that the referee holds handles of."""

    def __init__(self, channel: wire.Channel, sink: Sink | None, memory_mib: int) -> None:
        self.channel = channel
        self.sink = sink
        self.code: CodeType | None = None
        self.namespace: dict[str, Any] = {}
        self.handles: list[Any] = []
        self.limit = 0
        self.builtins = dict(vars(builtins))
        self.most_kib = _peak_kib() + (memory_mib << 10) // ROOMY_PART

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
            return ANSWERS[request["op"]](self, request, blob)
        except codec.CodecError as error:
            return {"untransportable": str(error)}
        except OutputLimit:
            return {"output_limit": True}
        except BaseException as error:
            return {"raised": self._describe(error)}

    def _allow_recursion(self, depth: int) -> None:
        """As deep as the program could go if the tests' `depth` frames stood where ours stand."""
        if self.limit in (0, sys.getrecursionlimit()):
            self.limit = RECURSION + _depth() - depth
            sys.setrecursionlimit(self.limit)

    def _describe(self, error: BaseException) -> dict[str, Any]:
        if isinstance(error, MemoryError):
            # Its frames hold the memory, and what they would tell is not shown: the limit has a fixed sentence.
            traceback.clear_frames(error.__traceback__)
            return report.describe(MemoryError(), None, 0, None)
        try:
            described = report.describe(error, self.code, self._handle(type(error)), self._arguments(error))
            return described if described["class"] is None else {**described, "object": self._handle(error)}
        except MemoryError:
            return report.describe(MemoryError(), None, 0, None)

    def _arguments(self, error: BaseException) -> Any:
        with contextlib.suppress(Exception):
            return codec.Encoder(self._foreign).encode(tuple(error.args))
        return None

    # requests

    def load(self, request: dict[str, Any], blob: bytes) -> dict[str, Any]:
        """Execute a program from the start and say what it defines."""
        if self.sink is not None and not self._is_clean():
            return {"unclean": True}
        self.handles.clear()
        self.namespace.clear()
        if self.sink is not None:
            self.sink.written = 0
        module = ModuleType("__main__")
        self.namespace = module.__dict__
        self.namespace["__builtins__"] = builtins
        sys.modules["__main__"] = module
        self.code = marshal.loads(blob)
        exec(self.code, self.namespace)
        for statement in request["imports"]:
            exec(statement, self.namespace)
        values = {name: self._definition(self.namespace[name]) for name in request["names"] if name in self.namespace}
        names = [name for name in self.namespace if type(name) is str]
        return {"value": values, "globals": [name[:100] for name in names[:MOST_GLOBALS]]}

    def _is_clean(self) -> bool:
        """Whether a shared candidate is as good as a new one: unchanged, and with memory left over for another
        program. What earlier ones held in cycles may still be there, and freeing much takes long.
        """
        unchanged = dict(vars(builtins)) == self.builtins and sys.getrecursionlimit() == self.limit
        return unchanged and _peak_kib() < self.most_kib

    def call(self, request: dict[str, Any], blob: bytes) -> dict[str, Any]:
        """Call a handle; changes that the call made to its arguments are part of the reply."""
        function = self.handles[request["handle"]]
        decoder = codec.Decoder(self._resolve)
        arguments = decoder.decode(request["arguments"])
        keywords = decoder.decode(request["keywords"])
        result = function(*arguments, **keywords)
        if not decoder.objects:
            return {"value": codec.Encoder(self._foreign).encode(result)}
        return self._with_changes(request, arguments, keywords, decoder.objects, result)

    def planned(self, request: dict[str, Any], blob: bytes) -> dict[str, Any]:
        """A call that the tests are known to make: on literals, which nobody else holds."""
        arguments = codec.Decoder(self._resolve).decode(request["arguments"])
        return {"value": self._value(self.namespace[request["name"]](*arguments))}

    def _with_changes(
        self, request: Any, arguments: Any, keywords: Any, objects: list[Any], result: Any
    ) -> dict[str, Any]:
        again = codec.Encoder(self._foreign)
        same = repr([again.encode(arguments), again.encode(keywords)]) == repr(
            [request["arguments"], request["keywords"]]
        )
        encoder = codec.Encoder(self._foreign, objects)
        reply = {"value": encoder.encode(result)}
        if not same:
            reply["changed"] = [encoder.content(item) for item in objects]
        return reply

    def get(self, request: dict[str, Any], blob: bytes) -> dict[str, Any]:
        """Attribute of a handle."""
        return {"value": self._value(getattr(self.handles[request["handle"]], request["name"]))}

    def set(self, request: dict[str, Any], blob: bytes) -> dict[str, Any]:
        """Set an attribute of a handle."""
        value = codec.Decoder(self._resolve).decode(request["value"])
        setattr(self.handles[request["handle"]], request["name"], value)
        return {"value": None}

    def delete(self, request: dict[str, Any], blob: bytes) -> dict[str, Any]:
        """Delete an attribute of a handle."""
        delattr(self.handles[request["handle"]], request["name"])
        return {"value": None}

    def operate(self, request: dict[str, Any], blob: bytes) -> dict[str, Any]:
        """A named operation between handles and values."""
        operands = codec.Decoder(self._resolve).decode(request["operands"])
        return {"value": self._value(OPERATIONS[request["name"]](*operands))}

    def globals(self, request: dict[str, Any], blob: bytes) -> dict[str, Any]:
        """The present value of a global name."""
        return {"value": self._value(self.namespace[request["name"]])}

    def call_back(self, number: int, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Call a function of the tests; answers whatever the referee asks meanwhile."""
        encoder = codec.Encoder(self._foreign)
        message = {"callback": number, "arguments": encoder.encode(arguments), "keywords": encoder.encode(keywords)}
        self.channel.send(message)
        while True:
            request, blob = self.channel.receive()
            if "op" in request:
                self.channel.send(self.answer(request, blob))
            elif "raised" in request:
                raise getattr(builtins, request["raised"], Exception)(*request["arguments"])
            else:
                return codec.Decoder(self._resolve, encoder.objects).decode(request["value"])

    # objects that are no plain values

    def _value(self, value: object) -> codec.Tree:
        return codec.Encoder(self._foreign).encode(value)

    def _definition(self, value: object) -> codec.Tree:
        return ["module", value.__name__] if isinstance(value, ModuleType) else self._value(value)

    def _handle(self, value: object) -> int:
        for number, known in enumerate(self.handles):
            if known is value:
                return number
        self.handles.append(value)
        return len(self.handles) - 1

    def _foreign(self, value: object) -> codec.Tree:
        if isinstance(value, Callback):
            return ["cb", value._number]
        number = self._handle(value)
        if isinstance(value, type):
            return ["h", number, *self._class(value)]
        if isinstance(value, (FunctionType, BuiltinFunctionType, MethodType)):
            return ["h", number, "function", type(value).__name__, None]
        return ["h", number, "object", type(value).__name__, self._plain_base(value)]

    def _class(self, value: type) -> list[Any]:
        if issubclass(value, BaseException):
            return ["exception", value.__name__, report.builtin_bases(value)]
        return ["class", value.__name__, None]

    def _plain_base(self, value: object) -> codec.Tree:
        """What an instance of a subclass of a built-in type holds as that type, whatever the subclass redefines."""
        for base, read in PLAIN_BASES.items():
            if isinstance(value, base):
                return codec.Encoder(self._foreign).encode(read(value))
        return None

    def _resolve(self, tree: codec.Tree) -> Any:
        match tree:
            case ["h", int(number)]:
                return self.handles[number]
            case ["cb", int(number), str(name)]:
                return Callback(self, number, name)
            case ["import", str(module), str(name)]:
                return getattr(__import__(module, fromlist=[name]), name)
        raise codec.CodecError("unknown object")


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
COMPARED = """eq ne lt le gt ge add sub mul truediv floordiv mod pow matmul and_ or_ xor lshift rshift neg pos invert
    contains index""".split()  # noqa: SIM905 -- reads better than twenty literals
OPERATIONS: dict[str, Callable[..., Any]] = {
    "len": len, "iter": iter, "next": next, "bool": bool, "str": str, "repr": repr, "int": int, "float": float,
    "hash": hash, "abs": abs, "getitem": operator.getitem, "setitem": operator.setitem, "delitem": operator.delitem,
    "isinstance": isinstance, "issubclass": issubclass, "reversed": reversed, "format": format, "round": round,
    "enter": lambda manager: type(manager).__enter__(manager),
    "self": lambda value: value,
    "exit": lambda manager: type(manager).__exit__(manager, None, None, None),
    **{
        name: getattr(operator, name)
        for name in COMPARED
    },
}  # fmt: skip
ANSWERS: dict[str, Callable[[Candidate, dict[str, Any], bytes], dict[str, Any]]] = {
    "load": Candidate.load,
    "call": Candidate.call,
    "planned": Candidate.planned,
    "get": Candidate.get,
    "set": Candidate.set,
    "delete": Candidate.delete,
    "operate": Candidate.operate,
    "global": Candidate.globals,
}
