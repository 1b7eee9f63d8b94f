"""Pieces that figures are put together from: encodings, panels, titles; plain Vega-Lite as dicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from leti_ctl.report.theme import SCHEMA

Data = Mapping[str, Any]
"""What `collect` returns."""
Row = dict[str, Any]
Spec = dict[str, Any]
WIDTH = 760
"""Of a figure's panels together, in pixels."""
GAP = 62
"""Between panels side by side, for the labels of an axis."""


def figure(title: str, subtitle: str, body: Spec) -> Spec:
    """Return a whole figure: `body` with its schema, title and description."""
    lines = wrapped(subtitle)
    return {"$schema": SCHEMA, "description": f"{title}. {subtitle}.", "title": {"text": wrapped(title, 92),
            "subtitle": lines}, "autosize": {"type": "pad", "contains": "padding"}, "padding": 12, **body}  # fmt: skip


def wrapped(text: str, width: int = 118) -> list[str]:
    """Return the text as lines that fit over the panels."""
    lines, line = [], ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line]


def panel_width(columns: int) -> int:
    """Return the width of each of so many panels side by side."""
    return (WIDTH - GAP * (columns - 1)) // columns


class Grid(NamedTuple):
    """How panels are laid out."""

    panels: Sequence[str] = ()
    """Their order; as the rows have them where it is empty."""
    columns: int = 0
    """Panels side by side; 0 leaves it to their number."""
    height: int = 230
    apart: tuple[str, ...] = ()
    """Scales that each panel has for itself: `x`, `y`."""


def in_panels(rows: Sequence[Row], field: str, layers: list[Spec], grid: Grid | None = None) -> Spec:
    """Return one panel per value of a field, each with the same layers."""
    grid = grid or Grid()
    there = [
        name
        for name in grid.panels or dict.fromkeys(row[field] for row in rows)
        if any(row[field] == name for row in rows)
    ]
    columns = grid.columns or (3 if len(there) == 3 or len(there) > 4 else 2)
    inner = {"width": panel_width(min(columns, len(there))), "height": grid.height, "layer": layers}
    found = {"data": {"values": rounded(rows)}}
    if len(there) == 1:
        return {**found, **inner}
    header = {"field": field, "type": "nominal", "sort": list(there), "header": {"title": None}}
    resolve: Spec = {"axis": {"x": "independent", "y": "independent"}}
    if grid.apart:
        resolve["scale"] = dict.fromkeys(grid.apart, "independent")
    # Flush: a point that stands out over the frame must not push its panel down.
    spacing = {"row": 88, "column": GAP}
    return {**found, "facet": header, "columns": columns, "bounds": "flush", "spacing": spacing, "spec": inner,
            "resolve": resolve}  # fmt: skip


def rounded(rows: Iterable[Row]) -> list[Row]:
    """Return rows for a figure: numbers to five significant digits, without what is null."""
    return [
        {name: float(f"{value:.5g}") if isinstance(value, float) else value for name, value in row.items()
         if value is not None}
        for row in rows
    ]  # fmt: skip


def iterations(rows: Iterable[Row]) -> Spec:
    """Return the x axis of iterations: whole numbers only."""
    last = max((row["iteration"] for row in rows), default=0)
    step = max(1, -(-last // 12))
    return {"field": "iteration", "type": "quantitative", "scale": {"domain": [0, max(1, last)], "nice": False},
            "axis": {"title": "iteration", "values": list(range(0, last + 1, step)), "format": "d",
                     "labelOverlap": "parity"}}  # fmt: skip


def percent(field: str, title: str | None) -> Spec:
    """Return a y axis of shares."""
    return {"field": field, "type": "quantitative", "axis": {"format": "~%", "title": title, "tickCount": 5},
            "scale": {"zero": True, "nice": True}}  # fmt: skip


def run_color(data: Data) -> Spec:
    """Return the colour of a run: by its place in the report, from the theme's range."""
    names = [run["run"] for run in data["runs"]]
    return {"field": "run", "type": "nominal", "scale": {"domain": names},
            "legend": {} if len(names) > 1 else None}  # fmt: skip


def hover(*fields: str, **numbers: str) -> Spec:
    """Return a tooltip encoding: plain fields, then numbers with their format (`%` for shares)."""
    shown = [{"field": name, "title": name} for name in fields]
    shown += [
        {"field": name, "type": "quantitative", "title": name, "format": ".2~%" if form == "%" else form}
        for name, form in numbers.items()
    ]
    return {"tooltip": shown}


def facts_of(data: Data, run: str) -> Row:
    """Return what the data tells about a run beside its rows."""
    return dict(next(each for each in data["runs"] if each["run"] == run))


def reported_pass(data: Data, run: str) -> str:
    """Return the pass a run is reported by: the first over the test split, else over validation, else training."""
    splits = {"test": 0, "validation": 1, "train": 2}
    return str(min(facts_of(data, run)["passes"], key=lambda each: splits[each["split"]])["name"])


def selected(data: Data, run: str, there: Iterable[int]) -> int:
    """Return the iteration whose model the run selected, of those there are; the last of them while it has none."""
    numbers, best = list(there), facts_of(data, run)["best"]
    return best["iteration"] if best and best["iteration"] in numbers else max(numbers)


def several(data: Data) -> int:
    """Return the number of runs where there are several, else 0."""
    return len(data["runs"]) if len(data["runs"]) > 1 else 0


def clear(name: str) -> str:
    """Return a run's name short enough for a title."""
    return name if len(name) <= 28 else f"{name[:13]}…{name[-13:]}"


def shown_percent(share: float) -> str:
    """Return a share for people: `44%`, `1.6%`."""
    return f"{share:.0%}" if share >= 0.1 or share == 0 else f"{share:.1%}"
