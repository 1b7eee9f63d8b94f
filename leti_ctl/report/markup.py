"""HTML that cannot be broken by what it shows: text is escaped unless it was made here."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

VOID = frozenset({"br", "col", "hr", "img", "input", "link", "meta"})
# Control and direction characters: NUL is no HTML at all, and U+202E shows a file name backwards.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def printable(value: Any) -> Any:
    """Return JSON data with characters that nobody can see spelled out in all its texts, names of fields left alone.

    Figures need it too: Vega reads texts of a sort order as expressions, in which a line separator is an error.
    """
    if isinstance(value, Mapping):
        return {name: printable(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [printable(each) for each in value]
    return _CONTROL.sub(_name, value) if isinstance(value, str) else value


def _name(found: re.Match[str]) -> str:
    return f"U+{ord(found[0]):04X}"


def text(value: object) -> Markup:
    """Return a value as HTML text; characters that nobody can see are spelled out."""
    escaped = html.escape(str(value), quote=True)
    return Markup(_CONTROL.sub(lambda found: f'<span class="control">{_name(found)}</span>', escaped))


def tag(name: str, /, *children: Any, **attributes: Any) -> Markup:
    """Return an element. Children are text unless they are `Markup`; lists are taken apart, None is left out.

    Attributes lose a final underscore and have hyphens for the others; True gives a bare one, None and False none.
    """
    given = "".join(_attribute(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    inside = "".join(_flat(children))
    return Markup(f"<{name}{given}>" if name in VOID else f"<{name}{given}>{inside}</{name}>")


def join(*children: Any) -> Markup:
    """Return children side by side, as `tag` takes them."""
    return Markup("".join(_flat(children)))


def raw(name: str, content: str, /, **attributes: Any) -> Markup:
    """Return a `script` or `style` element, whose content HTML takes as it is; the caller has made it safe."""
    assert not re.search(r"<(?:/(?:script|style)|!--)", content, re.IGNORECASE), f"unsafe content of <{name}>"
    return Markup(tag(name, **attributes).replace(f"</{name}>", f"{content}</{name}>"))


def embedded(value: Any) -> str:
    """Return JSON that may stand in a `script` element: ASCII, without a `<` that could end it, NaN as null."""
    try:
        written = json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        written = json.dumps(finite(value), separators=(",", ":"))
    return written.replace("<", "\\u003c")


def finite(value: Any) -> Any:
    """Return JSON data with null for the numbers that JSON does not have: NaN and the infinities."""
    if isinstance(value, Mapping):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _attribute(name: str, value: Any) -> str:
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{html.escape(_CONTROL.sub("", str(value)), quote=True)}"'


def _flat(children: Iterable[Any]) -> Iterable[str]:
    for child in children:
        if isinstance(child, Markup):
            yield child
        elif isinstance(child, list | tuple):
            yield from _flat(child)
        elif child is not None:
            yield text(child)
