"""A suite as a person reads it: the tables, and before anything runs what would run and what it would take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from leti_ctl.results.tables import console
from leti_ctl.suite.results import printed


def print_tables(title: str, warning: str, tables: Mapping[str, Mapping[str, Any]]) -> None:
    """Print every table in the paper's shape."""
    out = console()
    out.print(f"[bold]{escape(title)}[/]")
    for name, table in tables.items():
        if warning:
            out.print(f"[red]{escape(warning)}[/]")
        out.print(f"\n[bold]{escape(table['title'])}[/]  [dim]{name}: {escape(table['source'])}[/]", soft_wrap=True)
        out.print(_grid(table))
        for note in table["notes"]:
            out.print(f"[dim]- {escape(note)}[/]", soft_wrap=True)


def print_plan(rows: Sequence[Mapping[str, Any]], total: Mapping[str, Any]) -> None:
    """Print every run with its state and what it would take."""
    out, table = console(), Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("run", "tables"):
        table.add_column(heading, overflow="fold")
    for heading in ("units", "accelerator-hours", "wall hours", "US dollars"):
        table.add_column(heading, justify="right")
    for row in (*rows, {"run": f"{total['runs']} runs", "tables": (), **total}):
        units = f"{row['done']}/{row['units']}"
        figures = (_number(row[name]) for name in ("accelerator_hours", "wall_hours", "dollars"))
        table.add_row(escape(row["run"]), escape(", ".join(row["tables"])), units, *figures)
    out.print(table)
    out.print("likely figures of `leti-ctl estimate`, each run as if alone and from its start")


def _grid(table: Mapping[str, Any]) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    grid.add_column("")
    grid.add_column("", style="dim")
    for column in table["columns"]:
        grid.add_column(escape(column), justify="right")
    for number, line in enumerate(printed(table)):
        grid.add_row(*map(escape, line), end_section=number % 3 == 2)
    return grid


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"
