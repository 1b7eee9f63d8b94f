"""The expression languages of a Workflow manifest, strictly: what Argo would quietly make false or nil is an error.

`evaluate` is expr-lang (`{{=...}}`, `retryStrategy.expression`, `depends`), `decide` the older language of `when`, in
which bare words are strings. Only what manifests of this project may use is known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<text>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")"
    r"|(?P<word>[A-Za-z_]\w*)|(?P<sign>&&|\|\||==|!=|<=|>=|\*\*|\?\?|[-+*/%<>!?:()\[\],.]))"
)
WORDS = ("in", "matches", "contains", "startsWith", "endsWith", "and", "or", "not")
BINDING = {"??": 1, "||": 2, "or": 2, "&&": 3, "and": 3, "==": 4, "!=": 4, "<": 4, "<=": 4, ">": 4, ">=": 4, "in": 4,
           "matches": 4, "contains": 4, "startsWith": 4, "endsWith": 4, "+": 5, "-": 5, "*": 6, "/": 6,
           "%": 6}  # fmt: skip
Scope = Mapping[str, Any]
"""Values by dotted name: `inputs.parameters.iteration`."""


class Unresolved(Exception):
    """An expression names a value that is not in scope."""


class Malformed(Exception):
    """An expression does not parse or cannot be evaluated."""


def evaluate(text: str, scope: Scope) -> Any:
    """Return the value of an expr-lang expression; every name in it must be in scope, in branches not taken as well."""
    parser = _Parser(list(_tokens(text)), scope, text)
    value = parser.ternary()
    parser.expect_end()
    return value()


def decide(text: str) -> bool:
    """Return what a `when` (after substitution) says; both sides of a comparison must be of one type."""
    words = re.sub(
        r"'[^']*'|\"[^\"]*\"|[A-Za-z_][\w.-]*",
        lambda m: m[0] if m[0][0] in "'\"" or m[0] in ("true", "false", "in") else f"'{m[0]}'",
        text,
    )
    value = evaluate(words, {})
    if not isinstance(value, bool):
        raise Malformed(f"when {text!r} is {value!r}, neither true nor false")
    return value


def as_text(value: Any) -> str:
    """Return a value as Go prints it into the manifest; refuses what would print as no one expects."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if value.is_integer() and abs(value) < 1e6:
            return str(int(value))
        if abs(value) >= 1e6 or 0 < abs(value) < 1e-4:
            raise Malformed(f"{value} would be printed with an exponent; use int(...)")
    if not isinstance(value, int | float | str):
        raise Malformed(f"{value!r} has no text")
    return str(value)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    place = 0
    while text[place:].strip():
        found = TOKEN.match(text, place)
        if found is None:
            raise Malformed(f"{text!r}: cannot read {text[place:]!r}")
        kind = str(found.lastgroup)
        yield ("sign" if found[kind] in WORDS and kind == "word" else kind), found[kind]
        place = found.end()


Thunk = Callable[[], Any]


class _Parser:
    """Precedence climbing; nodes are functions without arguments, evaluated once all names are known to resolve."""

    def __init__(self, tokens: list[tuple[str, str]], scope: Scope, text: str) -> None:
        self.tokens, self.scope, self.text, self.at = tokens, scope, text, 0

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) and self.tokens[self.at][0] == "sign" else ""

    def take(self, sign: str) -> bool:
        if self.peek() == sign:
            self.at += 1
            return True
        return False

    def expect(self, sign: str) -> None:
        if not self.take(sign):
            raise Malformed(f"{self.text!r}: expected {sign!r} at token {self.at}")

    def expect_end(self) -> None:
        if self.at < len(self.tokens):
            raise Malformed(f"{self.text!r}: unexpected {self.tokens[self.at][1]!r}")

    def ternary(self) -> Thunk:
        condition = self.binary(0)
        if not self.take("?"):
            return condition
        then = self.ternary()
        self.expect(":")
        other = self.ternary()
        return lambda: then() if _truth(condition()) else other()

    def binary(self, floor: int) -> Thunk:
        left = self.unary()
        while True:
            sign = self.peek()
            negated = sign == "not" and self.tokens[self.at + 1 : self.at + 2] == [("sign", "in")]
            sign = "in" if negated else sign
            if BINDING.get(sign, -1) <= floor:
                return left
            self.at += 2 if negated else 1
            left = _apply(sign, left, self.binary(BINDING[sign]), negated)

    def unary(self) -> Thunk:
        if self.take("!") or self.take("not"):
            operand = self.unary()
            return lambda: not _truth(operand())
        if self.take("-"):
            operand = self.unary()
            return lambda: -_number(operand())
        return self.primary()

    def primary(self) -> Thunk:
        if self.take("("):
            inner = self.ternary()
            self.expect(")")
            return inner
        if self.take("["):
            items = self.items("]")
            return lambda: [item() for item in items]
        if self.at >= len(self.tokens):
            raise Malformed(f"{self.text!r}: ends too early")
        kind, token = self.tokens[self.at]
        self.at += 1
        if kind == "number":
            number = float(token) if "." in token else int(token)
            return lambda: number
        if kind == "text":
            content = re.sub(r"\\(.)", r"\1", token[1:-1])
            return lambda: content
        if kind != "word":
            raise Malformed(f"{self.text!r}: unexpected {token!r}")
        return self.named(token)

    def named(self, token: str) -> Thunk:
        if token in ("true", "false", "nil"):
            constant = {"true": True, "false": False, "nil": None}[token]
            return lambda: constant
        if self.take("("):
            if token not in FUNCTIONS:
                raise Malformed(f"{self.text!r}: unknown function {token}")
            arguments = self.items(")")
            return lambda: FUNCTIONS[token](*(one() for one in arguments))
        path = [token]
        while self.peek() in (".", "[") and self.tokens[self.at + 1 : self.at + 2] != [("sign", ":")]:
            bracket = self.tokens[self.at][1] == "["
            self.at += 1
            path.append(self.member(bracket))
        name = ".".join(path)
        if name in FUNCTIONS and self.take("("):
            arguments = self.items(")")
            return lambda: FUNCTIONS[name](*(one() for one in arguments))
        if name not in self.scope:
            raise Unresolved(name)
        return self.beginning(lambda: self.scope[name])

    def beginning(self, value: Thunk) -> Thunk:
        """Return the first characters of a text where `[:NUMBER]` follows, else the value."""
        if not self.take("["):
            return value
        self.expect(":")
        end = self.primary()
        self.expect("]")
        return lambda: as_text(value())[: _number(end())]

    def member(self, bracket: bool) -> str:
        kind, token = self.tokens[self.at] if self.at < len(self.tokens) else ("", "")
        if kind != ("text" if bracket else "word"):
            raise Malformed(f"{self.text!r}: cannot look up {token!r}")
        self.at += 1
        if bracket:
            self.expect("]")
        return token.strip("'\"")

    def items(self, end: str) -> list[Thunk]:
        found: list[Thunk] = []
        while not self.take(end):
            if found:
                self.expect(",")
            found.append(self.ternary())
        return found


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Malformed(f"{value!r} is neither true nor false")
    return value


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Malformed(f"{value!r} is no number; use asInt(...)")
    return value


def _apply(sign: str, left: Thunk, right: Thunk, negated: bool) -> Thunk:
    if sign in ("||", "or"):
        return lambda: _truth(left()) or _truth(right())
    if sign in ("&&", "and"):
        return lambda: _truth(left()) and _truth(right())
    if sign == "??":
        return lambda: right() if (value := left()) is None else value
    return lambda: _combine(sign, left(), right()) is not negated if sign == "in" else _combine(sign, left(), right())


def _combine(sign: str, left: Any, right: Any) -> Any:
    if sign == "in":
        if not isinstance(right, list) or any(type(item) is not type(left) for item in right):
            raise Malformed(f"{left!r} in {right!r}: types differ, so it is never true")
        return left in right
    if sign in ("==", "!="):
        if _class(left) != _class(right):
            raise Malformed(f"{left!r} {sign} {right!r}: types differ, so it is never equal")
        return (left == right) == (sign == "==")
    if sign in TEXTUAL:
        if not isinstance(left, str) or not isinstance(right, str):
            raise Malformed(f"{left!r} {sign} {right!r}: both must be strings")
        return TEXTUAL[sign](left, right)
    if not (sign in ("+", "<", "<=", ">", ">=") and isinstance(left, str) and isinstance(right, str)):
        _number(left), _number(right)
    return ARITHMETIC[sign](left, right)


def _class(value: Any) -> type:
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)


def _as_int(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise Malformed(f"asInt({value!r}): not a number") from error


TEXTUAL: dict[str, Callable[[str, str], bool]] = {
    "matches": lambda a, b: re.search(b, a) is not None,
    "contains": lambda a, b: b in a,
    "startsWith": str.startswith,
    "endsWith": str.endswith,
}
ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "%": lambda a, b: a % b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "asInt": _as_int,
    "asFloat": float,
    "int": lambda value: int(_number(value)),
    "string": as_text,
    "toJson": json.dumps,
    "min": lambda *values: min(map(_number, values)),
    "max": lambda *values: max(map(_number, values)),
    "len": len,
    "replace": lambda text, old, new: text.replace(old, new),
}
