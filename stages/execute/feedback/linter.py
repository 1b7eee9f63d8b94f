"""What pyflakes says of a program: names that nothing defines, variables that nothing reads, and the like.

    <string>:4:12: undefined name 'totl'

Of a program that does not parse it says nothing: the traceback does.
"""

from __future__ import annotations

import ast
import warnings

from pyflakes.checker import Checker

FILE_NAME = "<string>"


def read(program: str, first_line: int) -> str:
    """Return pyflakes' messages about the lines from `first_line` on, one a line, in the lines' order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(program, FILE_NAME)
        except (SyntaxError, ValueError):
            return ""
    messages = [each for each in Checker(tree, filename=FILE_NAME).messages if each.lineno >= first_line]
    messages.sort(key=lambda each: (each.lineno, each.col, str(each)))
    return "".join(f"{message}\n" for message in messages)
