"""Classes and exceptions of the candidate, made again among the tests from a description as plain data."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stages.execute.inside import codec, handles, operations, report

if TYPE_CHECKING:
    from stages.execute.inside.remote import Session

MOST_NAME = 200
FUNCTIONS = {
    "function": ["call"], "method": ["call", "eq", "hash"], "builtin_function_or_method": ["call", "eq", "hash"],
}  # fmt: skip
"""Special methods of functions by the name of their class."""
_functions: dict[str, type] = {}


class Builder:
    """Makes the class for one description. Raises CodecError for what `candidate` cannot have written."""

    def __init__(self, session: Session, number: int, description: dict[str, Any]) -> None:
        self.session = session
        self.number = number
        self.description = description
        self.name = self._text("name")[:MOST_NAME] if "function" not in description else ""

    def build(self) -> None:
        """Make it, known by its number from now on."""
        if "function" in self.description:
            kind = self._function()
        elif self.description.get("named") is not None:
            kind = self._named_tuple(self.description["named"])
        else:
            kind = self._of_the_library() or self._blueprint()
        self.session.handles[self.number] = kind
        self.session.numbers[id(kind)] = self.number

    def _function(self) -> type:
        """The most frequent classes of all, made once: one conversation follows the other."""
        name = self._text("function")
        if name not in FUNCTIONS:
            raise codec.CodecError("no function")
        if name not in _functions:
            self.description = {
                "module": "builtins",
                "bases": [],
                "specials": FUNCTIONS[name],
                "stands": name,
                "function": name,
            }
            self.name = name
            _functions[name] = self._blueprint()
        self._adopt(_functions[name])
        return _functions[name]

    def _named_tuple(self, fields: Any) -> type:
        kind: Any = self.session.named_tuple(self.name, tuple(codec.texts(fields)))
        defaults = self._decode(self.description.get("defaults"))
        if type(defaults) is tuple and len(defaults) <= len(fields):
            kind.__new__.__defaults__ = defaults
            kind._field_defaults = dict(zip(fields[len(fields) - len(defaults) :], defaults, strict=True))
        return kind  # type: ignore[no-any-return]

    def _of_the_library(self) -> type | None:
        """The very class, for an exception of a library module that the tests have loaded."""
        module = self._text("module")
        if self.description.get("exception") is None or module.partition(".")[0] not in sys.stdlib_module_names:
            return None
        kind = getattr(sys.modules.get(module), self.name, None)
        return kind if isinstance(kind, type) and issubclass(kind, Exception) else None

    def _blueprint(self) -> type:
        bases = self._bases()
        specials = self._texts("specials")
        members = handles.members(specials, self._texts("own"), bool(self.description.get("unhashable")))
        members |= {"__module__": self._text("module"), "__doc__": self.description.get("doc")}
        if issubclass(bases[0], BaseException):
            members["__getattr__"] = report.attributes
        else:
            members["__slots__"] = ()
        members |= self._dressing()
        try:
            kind: type = self._meta(bases)(self.name, bases, members)
        except TypeError as error:
            raise codec.CodecError(f"no class: {error}") from None
        self._adopt(kind)
        type.__setattr__(kind, "_leti_asks", bool(self.description.get("asks")))
        return kind

    def _adopt(self, kind: type) -> None:
        type.__setattr__(kind, "_leti_home", self.session)
        type.__setattr__(kind, "_leti_class", self.number)

    def _bases(self) -> tuple[type, ...]:
        known = [self._decode(tree) for tree in codec.items(self.description.get("bases"))]
        found = tuple(base for base in known if isinstance(base, handles.Blueprint))
        if self.description.get("exception") is None:
            if any(issubclass(base, BaseException) for base in found):
                raise codec.CodecError("an exception is none")
            return found or (handles.Handle,)
        exceptions = tuple(base for base in found if issubclass(base, BaseException))
        return exceptions or (report.nearest_builtin(self._texts("exception")),)

    def _meta(self, bases: tuple[type, ...]) -> Any:
        """Blueprint, with the special methods that the class's own metaclass defines."""
        metas = tuple(dict.fromkeys(type(base) for base in bases if isinstance(base, handles.Blueprint)))
        specials = [name for name in self._texts("meta") if name in META]
        if not specials:
            return metas[0] if len(metas) == 1 else type("Meta", metas, {}) if metas else handles.Blueprint
        return type("Meta", metas or (handles.Blueprint,), {f"__{name}__": META[name] for name in specials})

    def _dressing(self) -> dict[str, Any]:
        """What makes the standard library recognise a class."""
        found: dict[str, Any] = {}
        stands_for = operations.STANDINS.get(self.description.get("stands") or "")
        if stands_for is not None:
            found = {"_leti_stands_for": stands_for, "__doc__": property(_doc), "__module__": property(_module)}
            if stands_for.__name__ == "coroutine":
                found |= handles.COROUTINE
            if stands_for.__name__ in ("function", "method"):
                found["__signature__"] = property(handles.signature)
        if self.description.get("fields") is not None:
            found["__dataclass_fields__"] = self._dataclass_fields()
        return found

    def _dataclass_fields(self) -> dict[str, Any]:
        import dataclasses

        found = {}
        for entry in codec.items(self.description["fields"]):
            name, kind, default = (self._decode(part) for part in codec.items(entry))
            field: Any = dataclasses.field() if default is None else dataclasses.field(default=default[0])
            field.name, field.type, field._field_type = name, kind, dataclasses._FIELD  # type: ignore[attr-defined]
            found[name] = field
        return found

    def _decode(self, tree: codec.Tree) -> Any:
        return codec.Decoder(self.session._resolve, named=self.session.named_tuple).decode(tree)

    def _text(self, key: str) -> str:
        return codec.texts([self.description.get(key)])[0]

    def _texts(self, key: str) -> list[str]:
        return codec.texts(self.description.get(key) or [])


def _doc(self: Any) -> Any:
    return self._leti_home.ask(op="get", handle=self._leti_number, name="__doc__")


def _module(self: Any) -> Any:
    return self._leti_home.ask(op="get", handle=self._leti_number, name="__module__")


META: dict[str, Callable[..., Any]] = {
    **{name: handles.asking(name) for name in ("len", "iter", "next", "getitem", "contains", "reversed", "bool")},
    "setitem": handles.asking("setitem"), "delitem": handles.asking("delitem"),
}  # fmt: skip
"""Of the special methods of a metaclass, those that tests use: an enumeration is iterated and indexed."""


def exception(kind: Any, arguments: Any, state: dict[str, Any], decode: Callable[[Any], Any]) -> BaseException:
    """An exception of that class. Raises CodecError where the class is none of an exception."""
    if not isinstance(kind, type) or not issubclass(kind, BaseException):
        raise codec.CodecError("not an exception")
    given = arguments if type(arguments) is tuple else ()
    make: Any = kind.__new__
    try:
        # Calling a class of the solution would make another exception there.
        error: BaseException = make(kind, *given) if isinstance(kind, handles.Blueprint) else kind(*given)
    except Exception:
        error = make(kind)
    error.args = given
    for name in report.STATE:
        if name in state:
            setattr(error, name, decode(state[name]))
    for note in codec.texts(state.get("notes", [])):
        error.add_note(note)
    cause = decode(state.get("cause"))
    if isinstance(cause, BaseException):
        error.__cause__ = cause
    return error
