"""Tables for people, rendered from the JSON shapes the commands print under `--json`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

STAGES = ("generate", "execute", "build", "train", "evaluate")
SHOWN_ERRORS = 3


def console() -> Console:
    """Return the console for results: stdout, wide enough to keep rows whole when it is not a terminal."""
    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)


def print_summary(summary: Mapping[str, Any]) -> None:
    """Print the table of a run: one row per iteration, then where its artifacts are."""
    out = console()
    rows = summary["per_iteration"]
    passes = list(dict.fromkeys(name for row in rows for name in row["scores"]))
    units = summary["units"]
    out.print(f"[bold]{escape(summary['run'])}[/]  {summary['phase']}  {units['done']}/{units['total']} units")
    if rows:
        out.print(_table(rows, passes))
    if best := summary["best"]:
        score = next(f"{name} {value:.1%}" for name, value in best.items() if name.startswith("pass@"))
        out.print(f"best: iteration {best['iteration']} ({score} on {best['selected_on']})")
    for failure in summary["failures"]:
        out.print(f"[red]failed[/] {escape(failure['label'])}: {escape(failure['message'])}")
    out.print(f"artifacts: {escape(summary['uri'])}", soft_wrap=True)


def _table(rows: Sequence[Mapping[str, Any]], passes: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("iter", justify="right")
    for name in passes:
        table.add_column(f"pass@1\n{name}", justify="right")
    table.add_column("outcomes of the last pass", max_width=44)
    for title in ("gen\ntok/s", "exec\n/s", "train\ntok/s", "loss"):
        table.add_column(title, justify="right")
    for stage in STAGES:
        table.add_column(f"{stage}\ns", justify="right")
    for row in rows:
        table.add_row(*_cells(row, passes))
    return table


def _cells(row: Mapping[str, Any], passes: Sequence[str]) -> list[str]:
    last = next((row["scores"][name] for name in reversed(passes) if name in row["scores"]), None)
    return [
        str(row["iteration"]),
        *(_pass_cell(row["scores"].get(name)) for name in passes),
        _errors_cell(last),
        _number(row["tokens_per_second"]),
        _number(row["executions_per_second"]),
        _number(row["training_tokens_per_second"]),
        "" if row["loss"] is None else f"{row['loss']:.3f}",
        *(_number(row["seconds"].get(stage)) for stage in STAGES),
    ]


def _pass_cell(score: Mapping[str, Any] | None) -> str:
    """Score with half the width of its interval: `12.5% ±4.2`."""
    estimate = score["pass_at_k"].get("1") if score else None
    if estimate is None:
        return ""
    return f"{estimate['value']:.1%} ±{(estimate['high'] - estimate['low']) * 50:.1f}"


def _errors_cell(score: Mapping[str, Any] | None) -> str:
    """The commonest error types with their share of all samples."""
    if not score or not score["num_samples"]:
        return ""
    shares = [f"{name} {count / score['num_samples']:.0%}" for name, count in score["error_types"].items()]
    more = f" +{len(shares) - SHOWN_ERRORS}" if len(shares) > SHOWN_ERRORS else ""
    return ", ".join(shares[:SHOWN_ERRORS]) + more


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, empty: str) -> None:
    """Print rows as a plain table with the given columns, or `empty` when there are none."""
    if not rows:
        console().print(empty)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "))
    for row in rows:
        table.add_row(*(escape(str(row[column])) for column in columns))
    console().print(table)


def print_samples(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print samples one after another: the program as the model left it, then what became of it."""
    out = console()
    for row in rows:
        verdict = row["outcome"] or "not executed"
        color = "green" if verdict == "passed" else "red"
        error = f" {row['error_type']}" if row["error_type"] else ""
        out.rule(f"{escape(row['problem_id'])} · sample {row['sample']} · [{color}]{verdict}[/]{escape(error)}")
        out.print(row["prompt"], markup=False, style="dim", end="")
        out.print(row["solution"], markup=False)
        if row["feedback"]:
            out.print(row["feedback"].rstrip("\n"), markup=False, style="yellow")
    if not rows:
        out.print("no sample matches")
