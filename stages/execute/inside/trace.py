"""Feedback: the text CPython prints about the program that ran.

Frames come from two processes, the tests' and the candidate's; source lines come from the program's own text and never
from a file system, so that no code name can make a host file appear.
"""

from __future__ import annotations

import io
import itertools
import re
import sysconfig
import traceback
from collections.abc import Iterator
from types import CodeType, TracebackType
from typing import Any

from stages.execute.inside import report

HEADER = "Traceback (most recent call last):\n"
BETWEEN = {
    "cause": "\nThe above exception was the direct cause of the following exception:\n\n",
    "context": "\nDuring handling of the above exception, another exception occurred:\n\n",
}
MOST_REPEATS = 3
BLANK = "\x1a"
_ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]+")
_LIBRARY = sysconfig.get_paths()["stdlib"]

Frame = list[Any]


class Listing:
    """The program's lines, and how its tracebacks are shown."""

    def __init__(self, program: str, carets: bool, longest: int) -> None:
        self.lines = _newlines(program).split("\n")
        self.carets = carets
        self.longest = longest

    def of_links(self, links: list[report.Link]) -> str:
        """The text for a chain of exceptions, first printed first."""
        pieces = []
        for link in links:
            pieces.append(BETWEEN.get(link["how"] or "", ""))
            if link["frames"]:
                pieces += [HEADER, *self._stack(link["frames"])]
            pieces.append(clean(link["text"]))
        return self.cap("".join(pieces))

    def cap(self, text: str) -> str:
        """Valid Unicode, and only the end of a text that is too long: the end says what went wrong."""
        text = text.encode("utf-8", "backslashreplace").decode()
        return text[-self.longest :] if len(text) > self.longest else text

    def _stack(self, frames: list[Frame]) -> Iterator[str]:
        """Frames one after the other; CPython prints a recursion's same line three times and counts the rest."""
        for _, same in itertools.groupby(frames, key=lambda frame: (frame[0], frame[1])):
            group = list(same)
            yield from map(self._frame, group[:MOST_REPEATS])
            more = len(group) - MOST_REPEATS
            if more > 0:
                yield f"  [Previous line repeated {more} more time{'s' if more > 1 else ''}]\n"

    def _frame(self, frame: Frame) -> str:
        number, function, end, column, end_column, own = frame
        line = self.lines[number - 1] if own and 0 < number <= len(self.lines) else ""
        if not self.carets or not line:
            end = column = end_column = None
        blanks = line[len(line.rstrip()) :]
        # The interpreter itself keeps blanks at the end of a line, its traceback module does not: they get a stand-in.
        shown = line.rstrip() + BLANK * len(blanks)
        summary = traceback.FrameSummary(
            report.FILE_NAME, number, function, lookup_line=False, line=shown and shown + "\n",
            end_lineno=end, colno=column, end_colno=end_column,
        )  # fmt: skip
        text = traceback.StackSummary().format_frame_summary(summary)
        return text.replace(BLANK * len(blanks) + "\n", blanks + "\n", 1) if blanks else text


def _newlines(text: str) -> str:
    """Line ends as CPython's tokenizer reads them: `\\r\\n` and `\\r` are each one."""
    return io.StringIO(text, newline=None).read()


def count_lines(text: str) -> int:
    """Complete lines of a text."""
    return _newlines(text).count("\n")


def clean(text: str) -> str:
    """Nothing that differs between runs or machines: memory addresses, the place of the standard library."""
    return _ADDRESS.sub("at 0x...", text).replace(_LIBRARY, "<stdlib>")


def links_of(error: BaseException, tests: set[CodeType], offset: int) -> list[report.Link]:
    """The chain of an exception that left the tests, with the candidate's own frames and links where it came from
    there.

    `tests` are the code objects of the tests, whose lines begin after `offset` lines of the program.
    """
    links: list[report.Link] = []
    current: BaseException | None = error
    seen: set[int] = set()
    while current is not None and id(current) not in seen and len(links) < report.MOST_LINKS:
        seen.add(id(current))
        own = _own_links(current, tests, offset)
        links = own + links
        following, how = _previous(current)
        if following is None or _is_told(current, following):
            break
        own[0]["how"], current = how, following
    return links


def _previous(error: BaseException) -> tuple[BaseException | None, str | None]:
    if error.__cause__ is not None:
        return error.__cause__, "cause"
    if error.__context__ is not None and not error.__suppress_context__:
        return error.__context__, "context"
    return None, None


def _is_told(error: BaseException, earlier: BaseException) -> bool:
    """Whether the candidate's report of `error` includes what it says of the exception before."""
    is_sent = "links" in getattr(error, "_leti_report", {})
    return is_sent and "links" not in getattr(earlier, "_leti_report", {"links": None})


def _own_links(error: BaseException, tests: set[CodeType], offset: int) -> list[report.Link]:
    frames = _test_frames(error.__traceback__, tests, offset)
    sent = getattr(error, "_leti_report", None)
    if sent is None or "links" not in sent:
        return [{"frames": frames, "text": report.text_of(error), "how": None}]
    *earlier, last = sent["links"]
    return [*({**link} for link in earlier), {**last, "frames": frames + last["frames"]}]


def _test_frames(tb: TracebackType | None, tests: set[CodeType], offset: int) -> list[Frame]:
    found = []
    while tb is not None:
        if tb.tb_frame.f_code in tests:
            end, column, end_column = report.position(tb)
            last = None if end is None else end + offset
            found.append([tb.tb_lineno + offset, tb.tb_frame.f_code.co_name, last, column, end_column, True])
        tb = tb.tb_next
    return found
