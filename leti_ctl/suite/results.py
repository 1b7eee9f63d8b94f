"""A suite's tables as data: per cell ours, the published value and the difference; and as CSV and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from leti_ctl.suite.book import Spot, Table
from leti_ctl.suite.resolve import Resolver, Wanted
from leti_ctl.suite.score import Gap, Scores, Value

COLUMNS = (
    "table", "row", "column", "unit", "ours", "low", "high", "published", "difference", "difference_low",
    "difference_high", "note", "runs",
)  # fmt: skip
LINES = ("ours", "paper", "difference")
"""What each row of a printed table is about."""


def collect(tables: Mapping[str, Table], resolver: Resolver, scores: Scores) -> dict[str, Any]:
    """Return every table with its cells."""
    return {
        name: {
            "title": table.title,
            "source": table.source,
            "notes": list(table.notes),
            "columns": [column.title for column in table.columns],
            "rows": [row.name for row in table.rows],
            "cells": [_cell(spot, resolver.sources(spot.cell), scores) for spot in table.spots()],
        }
        for name, table in tables.items()
    }


def to_csv(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Return all cells as CSV, a line each."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for name, table in tables.items():
        for cell in table["cells"]:
            writer.writerow({"table": name, **cell, "runs": " ".join(cell["runs"])})
    return out.getvalue()


def to_markdown(title: str, warning: str, tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Return all tables as Markdown."""
    parts = [f"# {title}", *([f"**{warning}**"] if warning else [])]
    for name, table in tables.items():
        head = ["", "", *table["columns"]]
        lines = [_piped(head), _piped(["---"] * 2 + ["---:"] * len(table["columns"]))]
        lines += [_piped(row) for row in printed(table)]
        parts += [f"## {table['title']}", f"`{name}`: {table['source']}", "\n".join(lines)]
        parts += ["\n".join(f"- {note}" for note in table["notes"])] if table["notes"] else []
    return "\n\n".join(parts) + "\n"


def printed(table: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield a table's printed lines: per row of the paper ours, the paper's, and the difference with its interval."""
    width = len(table["columns"])
    for number, name in enumerate(table["rows"]):
        cells = table["cells"][number * width : (number + 1) * width]
        shown = [_shown(cell) for cell in cells]
        for place, line in enumerate(LINES):
            yield [name if place == 0 else "", line, *(texts[place] for texts in shown)]


def _cell(spot: Spot, sources: Sequence[Wanted], scores: Scores) -> dict[str, Any]:
    found = scores.read(spot.cell, sources, spot.unit)
    value = None if isinstance(found, Gap) else found
    difference = None if value is None or spot.published is None else value.from_published(spot.published)
    return {
        "row": spot.row,
        "column": spot.column,
        "unit": spot.unit,
        **_bounds(value, ("ours", "low", "high")),
        "published": None if spot.published is None else round(spot.published, 4),
        **_bounds(difference, ("difference", "difference_low", "difference_high")),
        "note": found.reason if isinstance(found, Gap) else found.note,
        "runs": list(dict.fromkeys(one.name for one in sources)),
    }


def _bounds(value: Value | None, names: tuple[str, str, str]) -> dict[str, float | None]:
    bounds = (None, None, None) if value is None else (value.value, value.low, value.high)
    return {name: None if bound is None else round(bound, 4) for name, bound in zip(names, bounds, strict=True)}


def _shown(cell: Mapping[str, Any]) -> tuple[str, str, str]:
    """The three lines of a cell."""
    digits = 0 if cell["unit"] == "iterations" else 2
    paper = "" if cell["published"] is None else f"{cell['published']:.{digits}f}"
    if cell["ours"] is None:
        return f"({cell['note']})" if cell["note"] else "", paper, ""
    half = "" if cell["low"] is None else f" ±{(cell['high'] - cell['low']) / 2:.{digits}f}"
    note = f" ({cell['note']})" if cell["note"] else ""
    return f"{cell['ours']:.{digits}f}{half}{note}", paper, _difference(cell, digits)


def _difference(cell: Mapping[str, Any], digits: int) -> str:
    if cell["difference"] is None:
        return ""
    text = f"{cell['difference']:+.{digits}f}"
    if cell["difference_low"] is None:
        return text
    return f"{text} [{cell['difference_low']:+.{digits}f}, {cell['difference_high']:+.{digits}f}]"


def _piped(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
