"""Rows of an artifact side by side: those that differ, as text."""

from __future__ import annotations

import difflib
import json
from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Iterator, Mapping
from itertools import count, islice, zip_longest
from typing import Any

from leti_ctl.artifacts import holdings
from leti_ctl.compare.sides import Side
from stages.contract.artifacts import ARTIFACTS, Ref

Row = Mapping[str, Any]
IDENTITY = ("problem_id", "sample", "row", "epoch", "step", "block", "file")
"""Columns that say which row it is."""
EXAMPLE = ("epoch", "problem_id", "sample")
"""What makes two training examples the same one: which row of its step each is packed in depends on all lengths."""
MOVED = 100
"""Examples shown that are packed in another row and else the same; they come last."""
Pairs = Iterator[tuple[int, Row | None, Row | None]]
"""The number of the first's row (of the second's where that is alone), and both."""


def differing(one: Side, other: Side, name: str, limit: int) -> list[dict[str, Any]]:
    """Return the first rows of an artifact that differ, each with its number, what it is and a line diff per column."""
    return list(islice(_differing(one, one.refs[name], other, other.refs[name]), limit))


def _differing(one: Side, left: Ref, other: Side, right: Ref) -> Iterator[dict[str, Any]]:
    if ARTIFACTS[left.artifact].format == "folder":
        yield from _files(one, left, other, right)
        return
    rows = (holdings.rows(side.run, ref, None, None) for side, ref in ((one, left), (other, right)))
    moved: list[dict[str, Any]] = []
    for number, first, second in _matched(*rows) if left.artifact == "examples" else _side_by_side(*rows):
        if first != second:
            shown = first or second or {}
            found = {
                "row": number,
                "of": {key: shown[key] for key in IDENTITY if key in shown},
                "only": None if first and second else "first" if first else "second",
                "columns": (columns := list(_columns(first or {}, second or {}))),
            }
            if [each["column"] for each in columns] != ["row"]:
                yield found
            elif len(moved) < MOVED:
                moved.append(found)
    yield from moved


def _side_by_side(first: Iterable[Row], second: Iterable[Row]) -> Pairs:
    yield from ((number, *pair) for number, pair in zip(count(), zip_longest(first, second), strict=False))


def _matched(first: Iterable[Row], second: Iterable[Row]) -> Pairs:
    """Pair examples by what they are of; kept are those whose other has not come yet, a step's at most as a rule."""
    waiting: tuple[defaultdict[Hashable, deque[tuple[int, Row]]], ...] = (defaultdict(deque), defaultdict(deque))
    for number, rows in enumerate(zip_longest(first, second)):
        for side, row in enumerate(rows):
            if row is None:
                continue
            name = tuple(row[column] for column in EXAMPLE)
            if others := waiting[1 - side][name]:
                at, other = others.popleft()
                yield (at, other, row) if side else (number, row, other)
            else:
                waiting[side][name].append((number, row))
    for number, row in sorted((each for rows in waiting[0].values() for each in rows), key=lambda each: each[0]):
        yield number, row, None
    for number, row in sorted((each for rows in waiting[1].values() for each in rows), key=lambda each: each[0]):
        yield number, None, row


def _columns(first: Row, second: Row) -> Iterator[dict[str, Any]]:
    for name in dict.fromkeys([*first, *second]):
        if first.get(name) != second.get(name):
            before, after = _lines(first.get(name)), _lines(second.get(name))
            lines = list(difflib.unified_diff(before, after, lineterm="", n=2))[2:]
            yield {"column": name, "first": first.get(name), "second": second.get(name), "diff": lines}


def _lines(value: Any) -> list[str]:
    """Return a value as lines to compare; long lists of numbers as what they are, on one line."""
    if value is None:
        return []
    return value.split("\n") if isinstance(value, str) else [json.dumps(value)]


def _files(one: Side, left: Ref, other: Side, right: Ref) -> Iterator[dict[str, Any]]:
    first, second = _held(one, left), _held(other, right)
    for path in sorted(first.keys() | second.keys()):
        if first.get(path) != second.get(path):
            yield {"row": None, "of": {"file": path}, "only": None,
                   "columns": [{"column": "sha256", "first": first.get(path), "second": second.get(path),
                                "diff": [f"-{first.get(path)}", f"+{second.get(path)}"]}]}  # fmt: skip


def _held(side: Side, ref: Ref) -> dict[str, str]:
    return {path: sha256 for text in side.contents(ref) for sha256, _, path in [text.partition(" ")]}
