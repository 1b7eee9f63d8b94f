"""What CPython's compiler warns of, which no traceback has. Its errors are left to the traceback.

It says so as it would on a terminal, file name, line and the line itself:

    <string>:3: SyntaxWarning: "is" with a literal. Did you mean "=="?
      if n is 0:
"""

from __future__ import annotations

import contextlib
import warnings

FILE_NAME = "<string>"


def read(program: str, first_line: int) -> str:
    """Return the compiler's warnings about the lines from `first_line` on, each once, in the lines' order."""
    with warnings.catch_warnings(record=True) as caught, contextlib.suppress(SyntaxError, ValueError):
        warnings.simplefilter("always")
        compile(program, FILE_NAME, "exec", dont_inherit=True)
    lines = program.split("\n")
    caught.sort(key=lambda each: each.lineno)
    return "".join(dict.fromkeys(_spell(each, lines) for each in caught if each.lineno >= first_line))


def _spell(warning: warnings.WarningMessage, lines: list[str]) -> str:
    source = lines[warning.lineno - 1].strip() if warning.lineno <= len(lines) else ""
    told = f"{FILE_NAME}:{warning.lineno}: {warning.category.__name__}: {warning.message}\n"
    return told + (f"  {source}\n" if source else "")
