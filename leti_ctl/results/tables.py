"""Tables for people, rendered from the JSON shapes the commands print under `--json`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

STAGES = ("generate", "execute", "build", "train", "evaluate")
SHOWN_ERRORS = 3
TERM_WIDTH = 32
"""Columns that a list's terms take, its indent and gap among them."""


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
        out.print(_scores(rows, passes))
        if (last := _last_with_figures(rows, passes)) is not None:
            out.print(f"the task's own scores on {last}:")
            out.print(_figures(rows, last))
        out.print(_fitting(_costs(rows), out))
        if any(row["best_over_temperatures"] for row in rows):
            out.print("max over temperatures, for each k on its own (what the paper reports for HumanEval):")
            out.print(_over_temperatures(rows))
    for line in (*_overlong(rows), *selected(summary)):
        out.print(line)
    if end := summary["early_end"]:
        out.print(
            f"ends early, after {end['iteration']} of {summary['iterations']} iterations: {escape(end['reason'])}"
        )
    if summary["gpu_hours"]:
        out.print(f"GPU-hours: {summary['gpu_hours']:.2f}")
    for failure in summary["failures"]:
        out.print(f"[red]failed[/] {escape(failure['label'])}: {escape(failure['message'])}")
    out.print(f"artifacts: {escape(summary['uri'])}", soft_wrap=True)


def selected(summary: Mapping[str, Any]) -> list[str]:
    """Return a line for the iteration that the spec's rule selects, and one for the paper's where that is another.

    A run that only evaluates has nothing to select among.
    """
    if not summary["iterations"]:
        return []
    lines = []
    best, paper = summary["best"], summary["max_on_test"]
    if best:
        on_test = "" if best["selected_on"] == "test" or best["test"] is None else f", {best['test']:.1%} on test"
        lines.append(
            f"{best['rule']}: iteration {best['iteration']} ({_pass_at_k(best)} on {best['selected_on']}{on_test})"
        )
    if paper and not (best and best["selected_on"] == "test"):
        lines.append(f"max on test (what the paper reports): iteration {paper['iteration']} ({_pass_at_k(paper)})")
    return lines


def print_spreads(groups: Sequence[Mapping[str, Any]]) -> None:
    """Print runs of several seeds, a row per spec: the selected scores' mean and deviation over the seeds."""
    names = list(dict.fromkeys(name for group in groups for name in group["selected"]))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("runs", "seeds", *names):
        table.add_column(title, justify="left" if title == "runs" else "right")
    for group in groups:
        seeds = ", ".join(map(str, group["seeds"]))
        cells = (_spread_cell(name, group["selected"].get(name)) for name in names)
        table.add_row(escape(", ".join(group["runs"])), seeds, *cells)
    console().print(table)


def _spread_cell(name: str, found: Mapping[str, Any] | None) -> str:
    """Mean and sample deviation, scores as percentages: `12.5% ±0.8 (n 3)`."""
    if found is None:
        return ""
    by, unit = (100, "%") if name.startswith("pass@") else (1, "")
    deviation = "" if found["deviation"] is None else f" ±{found['deviation'] * by:.1f}"
    return f"{found['mean'] * by:.1f}{unit}{deviation} (n {len(found['values'])})"


def _pass_at_k(found: Mapping[str, Any]) -> str:
    return next(f"{name} {value:.1%}" for name, value in found.items() if name.startswith("pass@"))


def _over_temperatures(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The best of several temperatures, for each k on its own, with the temperature in brackets."""
    cells = {(split, k): None for row in rows for split, ks in row["best_over_temperatures"].items() for k in ks}
    table = _new_table(("iteration", *(f"pass@{k} {split}" for split, k in cells)))
    for row in rows:
        found = [row["best_over_temperatures"].get(split, {}).get(k) for split, k in cells]
        shown = (f"{each['value']:.1%} (T {each['temperature']:g})" if each else "" for each in found)
        table.add_row(str(row["iteration"]), *shown)
    return table


def _scores(rows: Sequence[Mapping[str, Any]], passes: Sequence[str]) -> Table:
    """How good each iteration's model is, and what its failures on the last pass are."""
    table = _new_table(("iteration", *(f"pass@1 {name}" for name in passes), "mean loss"))
    table.add_column(f"outcomes on {passes[-1]}" if passes else "")
    for row in rows:
        last = next((row["scores"][name] for name in reversed(passes) if name in row["scores"]), None)
        scores = (_pass_cell(row["scores"].get(name)) for name in passes)
        loss = "" if row["loss"] is None else f"{row['loss']:.3f}"
        table.add_row(str(row["iteration"]), *scores, loss, _errors_cell(last))
    return table


def _last_with_figures(rows: Sequence[Mapping[str, Any]], passes: Sequence[str]) -> str | None:
    """The last pass whose task has scores of its own."""
    return next(
        (one for one in reversed(passes) if any(row["scores"].get(one, {}).get("figures") for row in rows)), None
    )


def _figures(rows: Sequence[Mapping[str, Any]], name: str) -> Table:
    """The task's own scores on a pass, and of several samples the share of problems with any right one.

    Those of single groups of problems (`strict/dates`) are many; the JSON has them.
    """
    scores = {row["iteration"]: row["scores"][name] for row in rows if name in row["scores"]}
    figures = list(dict.fromkeys(each for score in scores.values() for each in score["figures"] if "/" not in each))
    samples = max(round(score["num_samples"] / score["num_problems"]) for score in scores.values())
    any_right = [f"any\u00a0of\u00a0{samples} right"] if samples > 1 else []
    table = _new_table(("iteration", *any_right, *(each.replace("_", " ") for each in figures)))
    for iteration, score in scores.items():
        estimates = [score["solve_rate"]] * len(any_right) + [score["figures"].get(each) for each in figures]
        table.add_row(str(iteration), *map(_estimate_cell, estimates))
    return table


def _overlong(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line per pass some of whose prompts were too long for any solution, as of its last iteration."""
    last = {name: score for row in rows for name, score in row["scores"].items()}
    return [
        f"{name}: {score['num_overlong_prompts']} of {score['num_problems']} prompts leave no room to write; what they "
        "ask counts as failed"
        for name, score in last.items()
        if score["num_overlong_prompts"]
    ]


def _costs(rows: Sequence[Mapping[str, Any]]) -> Table:
    """How fast each iteration was, and where its seconds went."""
    table = _new_table(("iteration", "tok/s", "exec/s", "train tok/s", *(f"{stage} s" for stage in STAGES)))
    for row in rows:
        rates = (row["tokens_per_second"], row["executions_per_second"], row["training_tokens_per_second"])
        table.add_row(str(row["iteration"]), *map(_number, rates), *(_number(row["seconds"].get(s)) for s in STAGES))
    return table


def _new_table(numbers: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in numbers:
        table.add_column(title.replace(" ", "\n"), justify="right")
    return table


def _fitting(table: Table, out: Console) -> Table:
    """Return a table of numbers with narrow gaps where it would not fit otherwise: a number cut off is none."""
    if out.measure(table, options=out.options.update(max_width=10 * out.width)).maximum > out.width:
        table.padding = (0, 0)
    return table


def _pass_cell(score: Mapping[str, Any] | None) -> str:
    return _estimate_cell(score["pass_at_k"].get("1") if score else None)


def _estimate_cell(estimate: Mapping[str, float] | None) -> str:
    """Score with half the width of its interval: `12.5% ±4.2`."""
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
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(row[column])) for column in columns))
    console().print(table)


def plain(rows: Sequence[Mapping[str, str]], spared: Sequence[str] = ()) -> Iterator[str]:
    """Yield rows as columns under their names, numbers to the right; nothing is ever cut off to fit a terminal.

    Columns that are `spared` are left out, one by one, on a terminal too narrow for all.
    """
    names = list(rows[0]) if rows else []
    lines = [{name: name.replace("_", " ") for name in names}, *rows] if rows else []
    widths = {name: max(len(line[name]) for line in lines) for name in names}
    for name in spared if sys.stdout.isatty() else ():
        if sum(widths[each] + 2 for each in names) - 2 > console().width:
            names.remove(name)
    numeric = {name: all(row[name][:1].isdigit() for row in rows) for name in names}
    for line in lines:
        cells = (f"{line[name]:{'>' if numeric[name] else '<'}{widths[name]}}" for name in names)
        yield "  ".join(cells).rstrip()


def print_groups(groups: Mapping[str, Sequence[tuple[str, str]]]) -> None:
    """Print (term, meaning) pairs under headings; a term too long for its column has its meaning below it."""
    out = console()
    for number, (heading, rows) in enumerate(groups.items()):
        out.print(f"{'' if number == 0 else chr(10)}[bold]{escape(heading)}[/]")
        for term, meaning in rows:
            split = "\n" + " " * TERM_WIDTH if len(term) + 4 > TERM_WIDTH else " " * (TERM_WIDTH - len(term) - 2)
            out.print(f"  {escape(term)}{split}{escape(meaning)}", soft_wrap=True)


def print_samples(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print samples one after another: the program as it ran, then what became of it.

    A model may write anything; what would steer a terminal is shown as its escape.
    """
    from stages.contract.prompts import sanitize  # which takes a while to import

    out = console()
    for row in rows:
        verdict = row["outcome"] or "not executed"
        color = "green" if verdict == "passed" else "red"
        error = f" {sanitize(row['error_type'])}" if row["error_type"] else ""
        out.rule(
            f"{escape(sanitize(row['problem_id']))} · sample {row['sample']} · [{color}]{verdict}[/]{escape(error)}"
        )
        out.print(sanitize(row["prompt"]), markup=False, style="dim", end="")
        out.print(sanitize(row["executed"]), markup=False)
        if cut := row["solution"].removeprefix(row["executed"]).strip("\n"):
            out.print(f"(cut before it ran: {len(cut.splitlines())} more lines)", style="dim")
        if row["feedback"]:
            out.print(sanitize(row["feedback"]).rstrip("\n"), markup=False, style="yellow")
    if not rows:
        out.print("no sample matches")
