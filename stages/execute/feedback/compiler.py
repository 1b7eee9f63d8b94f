"""What CPython's compiler says of a program: the warnings that no traceback has, and a syntax error where there is one.

It says so as it would on a terminal, file name, line and the line itself:

    <string>:3: SyntaxWarning: "is" with a literal. Did you mean "=="?
      if n is 0:
"""

from __future__ import annotations

import traceback
import warnings

FILE_NAME = "<string>"


def read(program: str, first_line: int) -> str:
    """Return the compiler's text about the lines from `first_line` on, empty where it has none."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        error = _compile(program)
    lines = program.split("\n")
    caught = sorted(caught, key=lambda each: each.lineno)
    said = [_spell(each, lines) for each in caught if each.lineno >= first_line]
    return "".join(dict.fromkeys(said)) + error


def _compile(program: str) -> str:
    try:
        compile(program, FILE_NAME, "exec", dont_inherit=True)
    except SyntaxError as error:
        return "".join(traceback.format_exception_only(error))
    except ValueError as error:
        return f"{type(error).__name__}: {error}\n"  # a null byte, before Python 3.12, or a lone surrogate
    return ""


def _spell(warning: warnings.WarningMessage, lines: list[str]) -> str:
    source = lines[warning.lineno - 1].strip() if warning.lineno <= len(lines) else ""
    told = f"{FILE_NAME}:{warning.lineno}: {warning.category.__name__}: {warning.message}\n"
    return told + (f"  {source}\n" if source else "")
