"""An exception as data: what CPython would print about it, taken apart in the process that raised it."""

from __future__ import annotations

import builtins
import io
import itertools
import re
import sys
import traceback
from collections.abc import Callable
from types import CodeType, TracebackType
from typing import Any

from stages.execute.inside import codec

FILE_NAME = "<string>"
MOST_FRAMES = 1100
MOST_TEXT = 100_000
MOST_LINKS = 20
MOST_NAME = 200
STATE = ("name", "path", "filename", "filename2")
"""Attributes that built-in exceptions have beside their arguments."""
_print_exception = sys.__excepthook__
_SUGGESTION = re.compile(r"\. (Did you mean: |Did you forget to import )[^\n]*\?\n?\Z")

Link = dict[str, Any]
"""`frames`: [line, function, end line, column, end column, of the program itself] each, outermost first; `text`: the
lines after them; `how`: "cause" or "context" where another exception printed before led to this one.
"""


def describe(error: BaseException, codes: list[CodeType], tree: Any) -> dict[str, Any]:
    """Everything about `error` that its text and its class need. `codes` are the program's own; `tree` the exception as
    a value.
    """
    return {
        "type": type(error).__name__[:MOST_NAME],
        "bases": builtin_bases(type(error)),
        "error": tree,
        "links": chain(error, set().union(*map(own_codes, codes))),
    }


def builtin_bases(kind: type) -> list[str]:
    """Names of the built-in exceptions among the bases, nearest first."""
    return [base.__name__ for base in kind.__mro__ if getattr(builtins, base.__name__, None) is base][:20]


def attributes(error: Any, name: str) -> Any:
    """`__getattr__` for the tests' copy of an exception: what the solution's class stored on the original."""
    number = vars(error).get("_leti_report", {}).get("object")
    if type(number) is not int or name.startswith("_"):
        raise AttributeError(f"{type(error).__name__!r} object has no attribute {name!r}")
    return type(error)._leti_home.ask(op="get", handle=number, name=name)


def depth_of_tests() -> int:
    """Frames of the tests below a call of the solution: in one process they would count against the recursion limit."""
    frame, depth = sys._getframe(2), 0
    while frame is not None and frame.f_code.co_name != "evaluate":
        depth += frame.f_code.co_filename == FILE_NAME
        frame = frame.f_back  # type: ignore[assignment]
    return depth


def nearest_builtin(names: list[Any]) -> type[BaseException]:
    """The class that the first usable one of `builtin_bases` names."""
    for name in names:
        kind = getattr(builtins, name, None) if type(name) is str else None
        if isinstance(kind, type) and issubclass(kind, BaseException):
            return kind
    return Exception


def own_codes(code: CodeType) -> set[CodeType]:
    """A program's code objects, at any depth."""
    found = {code}
    pending = list(found)
    while pending:
        inner = [item for item in pending.pop().co_consts if isinstance(item, CodeType) and item not in found]
        found.update(inner)
        pending.extend(inner)
    return found


def chain(error: BaseException, codes: set[CodeType]) -> list[Link]:
    """The exceptions CPython would print, first printed first."""
    links: list[Link] = []
    current: BaseException | None = error
    seen: set[int] = set()
    while current is not None and id(current) not in seen and len(links) < MOST_LINKS:
        seen.add(id(current))
        link = {"frames": frames(current.__traceback__, codes), "text": text_of(current), "how": None}
        links.append(link)
        if current.__cause__ is not None:
            link["how"], current = "cause", current.__cause__
        elif current.__context__ is not None and not current.__suppress_context__:
            link["how"], current = "context", current.__context__
        else:
            current = None
    links[-1]["how"] = None
    return links[::-1]


def frames(tb: TracebackType | None, codes: set[CodeType]) -> list[list[Any]]:
    """The frames whose file is the program's, and those of text that the program itself made into code."""
    found = []
    while tb is not None:
        code = tb.tb_frame.f_code
        if code.co_filename == FILE_NAME:
            found.append([tb.tb_lineno, code.co_name[:200], *position(tb), code in codes])
        tb = tb.tb_next
    return found[-MOST_FRAMES:]


def position(tb: TracebackType) -> tuple[int | None, int | None, int | None]:
    """End line, column and end column of the instruction, in UTF-8 bytes, as the compiler recorded them."""
    positions = tb.tb_frame.f_code.co_positions()
    _, end_line, column, end_column = next(itertools.islice(positions, tb.tb_lasti // 2, None), (None,) * 4)
    return end_line, column, end_column


def text_of(error: BaseException) -> str:
    """The lines after the frames. The program's own `__str__` runs here, at the program's own expense."""
    if isinstance(error, SyntaxError):
        return _printed(error, alone=True)[-MOST_TEXT:]
    try:
        lines = traceback.TracebackException(type(error), error, None, compact=True).format_exception_only()
        text = "".join(lines)
    except BaseException as another:
        text = f"{type(error).__name__}: <exception str() failed with {type(another).__name__}>\n"
    if type(error) in (NameError, AttributeError, ImportError):
        found = _SUGGESTION.search(_printed(error, alone=False))
        if found is not None and not _SUGGESTION.search(text):
            text = text.rstrip("\n") + found.group().rstrip("\n") + "\n"
    return text[-MOST_TEXT:]


def _printed(error: BaseException, alone: bool) -> str:
    """What the interpreter itself prints of an uncaught exception: its `traceback` module knows no "Did you mean"
    before Python 3.12 and shows syntax errors differently. `alone` leaves out frames and earlier exceptions.
    """
    kept = error.__traceback__, error.__context__, error.__cause__, error.__suppress_context__
    before, sys.stderr = sys.stderr, io.StringIO()
    try:
        if alone:
            error.__traceback__ = error.__context__ = error.__cause__ = None
        _print_exception(type(error), error, error.__traceback__)
        return sys.stderr.getvalue()
    except BaseException as another:
        return f"{type(error).__name__}: <exception str() failed with {type(another).__name__}>\n"
    finally:
        sys.stderr = before
        error.__traceback__, error.__context__, error.__cause__, error.__suppress_context__ = kept


def is_valid(raised: Any) -> bool:
    """Every field that is read later has its type: the sender is not trusted."""
    if type(raised) is not dict or type(raised.get("type")) is not str or type(raised.get("bases")) is not list:
        return False
    links = raised.get("links")
    if not raised["type"].isprintable() or len(raised["type"]) > MOST_NAME:
        return False
    return (
        type(links) is list
        and 0 < len(links) <= MOST_LINKS
        and all(_is_link(link) for link in links)
        and "error" in raised
    )


def _is_link(link: Any) -> bool:
    return (
        type(link) is dict
        and type(link.get("text")) is str
        and link.get("how") in (None, "cause", "context")
        and type(link.get("frames")) is list
        and len(link["frames"]) <= MOST_FRAMES
        and all(_is_frame(frame) for frame in link["frames"])
    )


def _is_frame(frame: Any) -> bool:
    if type(frame) is not list or len(frame) != 6 or type(frame[1]) is not str or type(frame[5]) is not bool:
        return False
    numbers = [frame[0], *frame[2:5]]
    return type(frame[0]) is int and all(n is None or (type(n) is int and 0 <= n < 1 << 31) for n in numbers)


def write_exception(error: BaseException, encode: Callable[[object], Any]) -> list[Any]:
    """The tree of an exception that the tests made, for the candidate: the nearest built-in class, its arguments."""
    names = builtin_bases(type(error))
    try:
        arguments = encode(tuple(error.args))
    except codec.CodecError:
        arguments = ["t", []]
    return ["exc", names[0] if names else "Exception", arguments]


def read_exception(name: object, arguments: object) -> BaseException:
    """The exception for such a tree."""
    kind = getattr(builtins, name, None) if type(name) is str else None
    if not isinstance(kind, type) or not issubclass(kind, BaseException) or type(arguments) is not tuple:
        raise codec.CodecError("not an exception")
    return kind(*arguments)
