"""The parser: compiles model-written text, never executes it.

It runs behind the same wall as a candidate, with the same memory limit: the compiler can be made to use much of both
time and memory. Requests and replies:

    {"op": "solution", "prefix", "program", "carets"}  ->  {"certified", "reads"} and code, or {"error", "type"}
    {"op": "program", "prefix", "program", "carets"}  ->  {"code"} and the code of the tests in the whole program, for
                                                          tests that run in the solution's own namespace
"""

from __future__ import annotations

import ast
import contextlib
import gc
import io
import marshal
from types import CodeType
from typing import Any

from stages.execute.inside import certify, report, wire

FILE_NAME = "<string>"


def main(channel: wire.Channel, config: dict[str, Any], shared: bool) -> None:
    """Serve until the referee closes."""
    gc.disable()  # syntax trees have no cycles
    with contextlib.suppress(wire.Closed):
        while True:
            request, _ = channel.receive()
            message, code = answer(request)
            channel.send(message, code)


def answer(request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Compile what is asked for. Whatever the compiler raises is CPython's answer to the program: it is the reply."""
    try:
        if request["op"] == "program":
            return {}, marshal.dumps(_tests_of(request["prefix"], request["program"]))
        tree = ast.parse(_source(request["prefix"]), FILE_NAME)
        code = compile(tree, FILE_NAME, "exec", dont_inherit=True)
        return {"certified": certify.is_harmless(tree), "reads": sorted(names_of(code))}, marshal.dumps(code)
    except Exception as error:
        return _describe(_of_the_whole(request, error), request["carets"]), b""


def _tests_of(prefix: str, program: str) -> CodeType:
    """The part of a program that begins after its solution, with the line numbers it has there."""
    tree = ast.parse(_source(program), FILE_NAME)
    compile(tree, FILE_NAME, "exec", dont_inherit=True)
    lines = io.StringIO(prefix, newline=None).read().count("\n")
    tree.body = [statement for statement in tree.body if statement.lineno > lines]
    code: CodeType = compile(tree, FILE_NAME, "exec", dont_inherit=True)
    return code


def names_of(code: CodeType) -> set[str]:
    """Every name that the code can look up in its module, at any depth."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= names_of(constant)
    return names


def _of_the_whole(request: dict[str, Any], error: Exception) -> Exception:
    """What CPython says about the whole program, which can differ where the solution ends in the middle of something.

    A solution that is incomplete alone and "completed" by the tests' text does not compile here: it fails with its own
    error.
    """
    try:
        _compile(request["program"])
    except Exception as whole:
        return whole
    return error


def _compile(program: str) -> CodeType:
    code: CodeType = compile(_source(program), FILE_NAME, "exec", dont_inherit=True)
    return code


def _source(text: str) -> str | bytes:
    """Lone surrogates cannot be in a file; as bytes they give the error that a file with them gives."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def _describe(error: Exception, carets: bool) -> dict[str, str]:
    if isinstance(error, SyntaxError) and not carets:
        error.offset = None
    return {"error": report.text_of(error), "type": type(error).__name__}
