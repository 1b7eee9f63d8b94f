"""The parts of the page that need no script: header, tiles, tables of scores, time, behaviour and origin."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from leti_ctl.report.markup import Markup, join, tag, text
from leti_ctl.report.published import NEAR, published

Row = Mapping[str, Any]
MOST_ROWS = 400
"""Of one table; the exports have all of them."""
ON_TEST = ("on test", "max on test", "paper, max on test")
"""Columns of a comparison that are left out where they are empty."""


def header(data: Row) -> Markup:
    """Return the page's title: the runs, what they ran on, how far they are."""
    runs = data["runs"]
    names = [run["run"] for run in runs]
    return tag(
        "header",
        tag("p", "LETI run report" if len(runs) == 1 else f"LETI report of {len(runs)} runs", class_="kicker"),
        tag("h1", " · ".join(names) if len(runs) <= 3 else f"{names[0]} and {len(runs) - 1} more"),
        [_about(run, named=len(runs) > 1) for run in runs[:6]],
        tiles(runs[0], data) if len(runs) == 1 else comparison(runs, data),
        class_="wide head",
    )


def _about(run: Row, *, named: bool) -> Markup:
    preset, iterations, units = run["preset"], run["iterations"], run["units"]
    changed = len(preset["changed"])
    like = f"preset {preset['name']}" + (f" with {changed} {_plural('field', changed)} changed" if changed else "")
    is_near = preset["name"] and changed <= NEAR
    done = "" if units["done"] == units["total"] else f", {units['done']} of {units['total']} units done"
    parts = [
        f"{run['model']} on {run['task']}",
        f"|P| = {run['train_problems']}, n = {run['samples_per_problem']}, seed {run['seed']}",
        f"{iterations['planned']} {_plural('iteration', iterations['planned'])}",
        like if is_near else None,
    ]
    words = " · ".join(part for part in parts if part)
    phase = tag("span", run["phase"], class_="chip good" if run["phase"] == "Succeeded" else "chip bad")
    return tag("p", tag("strong", run["run"], " ") if named else None, words, " ", phase, done, class_="under")


def headline(run: Row, data: Row) -> dict[str, Any] | None:
    """Return the run's best score on the split it selects on, beside the base model's; None where nothing is scored."""
    best = run["best"]
    rows = [row for row in data["tables"]["scores"] if row["run"] == run["run"]]
    if not best or not rows:
        return None
    metric = next(name for name in best if name.startswith("pass@"))
    rows = [row for row in rows if row["metric"] == metric and row["split"] == best["selected_on"]]
    chosen = [row for row in rows if row["iteration"] == best["iteration"]]
    base = [row for row in rows if row["iteration"] == 0]
    if not chosen:
        return None
    return {
        "metric": metric,
        "selected_on": best["selected_on"],
        "best": max(chosen, key=lambda row: float(row["value"])),
        "base": max(base, key=lambda row: float(row["value"])) if base else None,
    }


def tiles(run: Row, data: Row) -> Markup:
    """Return the numbers a reader asks for first."""
    found = headline(run, data)
    cells = [*_score_tiles(run, found), *_paper_tiles(run)] if found else []
    seconds = run["critical_path"]["wall_seconds"]
    total = run["cost"]["total"]
    dollars = run["cost"].get("dollars")
    money = f"{_bytes(run['cost']['bytes'])} stored"
    if dollars:
        money = f"${dollars['low']:,.2f} to ${dollars['high']:,.2f} at list prices"
    drawn = sum(row["count"] for row in data["tables"]["outcomes"] if row["run"] == run["run"])
    cells += [
        _tile("Solutions judged", f"{drawn:,}", f"{run['iterations']['scored']} models scored"),
        _tile("Wall time", duration(seconds), f"critical path of {len(run['critical_path']['units'])} units"),
        _tile("Accelerator-hours", f"{total['accelerator_hours']:,.2f}", money),
        _audit_tile(run["audit"]),
    ]  # fmt: skip
    return tag("dl", cells, class_="tiles")


def _score_tiles(run: Row, found: Row) -> list[Markup]:
    best, base = found["best"], found["base"]
    note = f"{interval(best)} at iteration {best['iteration']}"
    cells = [_tile(_score_title(run, found), percent(best["value"]), note, first=True)]
    if base:
        gain = 100 * (best["value"] - base["value"])
        look = "up" if gain > 0 else "down" if gain < 0 else ""
        sign = tag("span", f"{gain:+.1f} points", class_=look)
        cells.append(_tile("Base model", percent(base["value"]), join(sign, " since")))
    return [*cells, *_test_tiles(run, found["metric"])]


def _score_title(run: Row, found: Row) -> str:
    """Say how the score was come by: a maximum over the problems it is measured on flatters."""
    score = f"{found['metric']} on {found['selected_on']}"
    if not run["iterations"]["planned"]:
        return score
    return f"Max {score}" if found["selected_on"] == "test" else f"Best {score}"


def _test_tiles(run: Row, metric: str) -> list[Markup]:
    """Return the test scores of a run that selects on another split: its model's, and the maximum apart from it."""
    best, most = run["best"], run["max_on_test"]
    if best["selected_on"] == "test" or best["test"] is None or most is None:
        return []
    title, note = f"{metric} on test", f"at iteration {most['iteration']}; what the paper reports"
    return [
        _tile(title, percent(best["test"]), f"of the model selected on {best['selected_on']}"),
        _tile(f"Max {title}", percent(most[metric]), note),
    ]


def _paper_tiles(run: Row) -> list[Markup]:
    return [_tile(each["title"], percent(each["value"]), each["note"]) for each in published(run["preset"])]


def _audit_tile(audit: Row | None) -> Markup:
    if audit is None:
        return _tile("Audit", "not made", "leti-ctl audit RUN makes one")
    look = tag(
        "span", "clean" if audit["clean"] else f"{audit['errors']} errors", class_="up" if audit["clean"] else "down"
    )
    return _tile("Audit", look, f"{audit['rows']:,} rows, {audit['warnings']} warnings")


def _tile(title: str, value: Any, note: Any, *, first: bool = False) -> Markup:
    return tag(
        "div", tag("dt", title), tag("dd", value, class_="value"), tag("dd", note, class_="note"),
        class_="tile first" if first else "tile",
    )  # fmt: skip


def comparison(runs: Sequence[Row], data: Row) -> Markup:
    """Return the table that sets several runs beside each other."""
    found = {run["run"]: headline(run, data) for run in runs}
    first = next(((run, each) for run in runs if (each := found[run["run"]])), None)
    title = _score_title(*first) if first else "best"
    best_title = title[0].lower() + title[1:]
    heads = ["run", best_title, "at", *ON_TEST, "base", "points", "acc.-hours", "wall", "audit", "differs in"]
    rows = [[*_compared(run, found[run["run"]]), *_spent(run)] for run in runs]
    shown = [place for place, name in enumerate(heads) if name not in ON_TEST or any(row[place] for row in rows)]
    kept = [[row[place] for place in shown] for row in rows]
    return tag("div", table([heads[place] for place in shown], kept, numbers=range(1, len(shown) - 2)),
               class_="tiles-like")  # fmt: skip


def _compared(run: Row, found: Row | None) -> list[Any]:
    swatch = tag("span", "", class_="swatch", style=f"background:var(--c{run['color'] % 8 + 1})")
    name = tag("span", swatch, run["run"], class_="named")
    on_test = _on_test(run, found)
    if found is None:
        return [name, "", "", *on_test, "", ""]
    best, base = found["best"], found["base"]
    gain = 100 * (best["value"] - base["value"]) if base else 0.0
    points = tag("span", f"{gain:+.1f}", class_="up" if gain > 0 else "down" if gain < 0 else None) if base else ""
    score = tag("span", tag("strong", percent(best["value"])), tag("span", interval(best), class_="range"))
    return [name, score, best["iteration"], *on_test, percent(base["value"]) if base else "", points]


def _on_test(run: Row, found: Row | None) -> tuple[str, str, str]:
    """The columns `ON_TEST`: the selected model's score, the run's maximum, the paper's; empty where there is none."""
    best, most = run["best"], run["max_on_test"]
    paper = next((percent(each["value"]) for each in published(run["preset"]) if "max" in each["title"]), "")
    if found is None or best["selected_on"] == "test" or best["test"] is None or most is None:
        return "", "", paper
    return percent(best["test"]), percent(most[found["metric"]]), paper


def _spent(run: Row) -> list[Any]:
    audit = run["audit"]
    return [
        f"{run['cost']['total']['accelerator_hours']:,.2f}",
        duration(run["critical_path"]["wall_seconds"]),
        "not made" if audit is None else "clean" if audit["clean"] else "not clean",
        "; ".join(f"{path} = {json.dumps(value)}" for path, value in list(run["differs"].items())[:6]),
    ]


def scores(data: Row) -> list[Markup]:
    """Return a table per run and pass: iterations down, scores across."""
    blocks = []
    for run in data["runs"]:
        for one in run["passes"]:
            rows = [row for row in data["tables"]["scores"] if row["run"] == run["run"] and row["pass"] == one["name"]]
            if rows:
                blocks.append(_score_table(run, one, rows, data["metrics"], named=len(data["runs"]) > 1))
    return blocks


def _score_table(run: Row, one: Row, rows: list[Row], metrics: Sequence[str], *, named: bool) -> Markup:
    sampling = f"{one['samples_per_problem']} samples per problem at temperature {one['temperature']:g}"
    title = f"{run['run']}, {one['name']}" if named else str(one["name"])
    return _folded(title, sampling, _pivot(rows, metrics, _estimate), is_open=not named)


def _folded(title: str, told: str, inner: Markup, *, is_open: bool) -> Markup:
    summary = tag("summary", tag("h3", title), " ", tag("span", told, class_="soft"))
    return tag("details", summary, inner, open=is_open, class_="block")


def _pivot(rows: Iterable[Row], metrics: Sequence[str], show: Callable[[Row | None], Markup]) -> Markup:
    """Return a table with a row per iteration and a column per metric that the rows have."""
    by_place = {(row["iteration"], row["metric"]): row for row in rows}
    columns = [name for name in metrics if any(metric == name for _, metric in by_place)]
    numbers = sorted({number for number, _ in by_place})
    body = [[number, *[show(by_place.get((number, name))) for name in columns]] for number in numbers]
    return table(["iteration", *columns], body, numbers=range(len(columns) + 1))


def _estimate(row: Row | None) -> Markup:
    if row is None:
        return text("")
    return join(percent(row["value"]), tag("span", interval(row), class_="range"))


def seeds(data: Row) -> list[Markup]:
    """Return mean and standard deviation over the seeds of every group of runs that differ in nothing else."""
    blocks = []
    for group in data["groups"]:
        rows = [row for row in data["tables"]["seeds"] if row["group"] == group["group"]]
        for name in dict.fromkeys(row["pass"] for row in rows):
            mine = [row for row in rows if row["pass"] == name]
            told = f"mean ± standard deviation over seeds {', '.join(map(str, group['seeds']))}"
            title = f"{group['group']} and {len(group['runs']) - 1} more, {name}"
            blocks.append(_folded(title, told, _pivot(mine, data["metrics"], _spread), is_open=False))
    return blocks


def _spread(row: Row | None) -> Markup:
    if row is None:
        return text("")
    apart = tag("span", f"± {100 * row['sd']:.1f}", class_="range") if row["sd"] is not None else None
    return join(percent(row["mean"]), apart)


def learned(data: Row) -> Markup | None:
    """Return the kinds of feedback that the runs unlearned, and those that stayed."""
    rows = [
        [row["run"], row["pass"], tag("code", row["kind"]), f"{row['first_seen']} to {row['last_seen']}",
         percent(row["peak_share"]), row["peak"], percent(row["last_share"]),
         percent(row["learned"]) if row["learned"] > 0 else ""]
        for row in sorted(data["tables"]["learned"], key=lambda row: -float(row["peak_share"]))[:60]
    ]  # fmt: skip
    if not rows:
        return None
    heads = ["run", "pass", "kind of feedback", "seen in", "peak share", "at", "last share", "of it gone"]
    lead = "The last line of each feedback, names and numbers blanked: which mistakes training removed."
    body = _bounded(table(heads, rows, numbers=(4, 5, 6, 7)))
    return tag("div", tag("h3", "Feedback categories"), tag("p", lead, class_="soft"), body)


def canaries(data: Row) -> Markup | None:
    """Return the hack-rate canaries: of each run and pass its first and last model."""
    found: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in data["tables"]["canaries"]:
        found.setdefault((row["run"], row["pass"]), {}).setdefault(row["canary"], []).append(row)
    if not found:
        return None
    seen = {row["canary"] for row in data["tables"]["canaries"] if row["count"]}
    names = [name if len(data["runs"]) == 1 else f"{run}, {name}" for run, name in found]
    rows = [
        [tag("div", about["title"], tag("div", about["why"], class_="soft"), class_="told"),
         *[_moved(each.get(name)) for each in found.values()]]
        for name, about in data["canaries"].items()
        if name in seen
    ]  # fmt: skip
    quiet = "; ".join(about["title"] for name, about in data["canaries"].items() if name not in seen)
    lead = "Signs of a model that games its tests, first model and last. A sign is no verdict; a rise is worth a look."
    shown = table(["sign", *names], rows, numbers=range(1, len(names) + 1)) if rows else None
    never = tag("p", "Never seen: ", quiet, ".", class_="soft") if quiet else None
    return tag("div", tag("h3", "Canaries"), tag("p", lead, class_="soft"), shown, never)


def _moved(rows: Sequence[Row] | None) -> Markup:
    """Return the share in the first and the last iteration: `0.0% to 3.9%`, with what the last is of."""
    if not rows:
        return text("")
    first, last = (end(rows, key=lambda row: int(row["iteration"])) for end in (min, max))
    counted = tag("span", f"{last['count']} of {last['of']}", class_="range")
    return join(f"{percent(first['share'])} → {percent(last['share'])}", counted)


def times(data: Row) -> list[Markup]:
    """Return per run where the time went: by stage over all iterations, and along the critical path."""
    return [_times(run, data, named=len(data["runs"]) > 1) for run in data["runs"]]


def _times(run: Row, data: Row, *, named: bool) -> Markup:
    stages: dict[str, list[Row]] = {}
    for row in data["tables"]["stages"]:
        if row["run"] == run["run"]:
            stages.setdefault(row["stage"], []).append(row)
    path = run["critical_path"]
    rows = [
        [stage, sum(row["parts"] for row in found), duration(sum(row["seconds"] for row in found)),
         duration(path["seconds"].get(stage, 0.0)), _speed(found),
         f"{sum(row['accelerator_hours'] for row in found):,.2f}"]
        for stage, found in stages.items()
    ]  # fmt: skip
    waiting = path["seconds"].get("waiting", 0.0)
    rows.append(["waiting", "", "", duration(waiting), "", ""])
    heads = ["stage", "units", "seconds of all units", "on the critical path", "speed while working", "acc.-hours"]
    title = f"{run['run']}: where the time went" if named else "Where the time went"
    return tag("div", tag("h3", title), table(heads, rows, numbers=(1, 2, 3, 4, 5)))


def _speed(rows: Sequence[Row]) -> str:
    working = sum(row["working_seconds"] for row in rows)
    name = next((row["speed_name"] for row in rows if row["speed_name"]), None)
    return f"{sum(row['amount'] for row in rows) / working:,.1f} {name}" if working and name else ""


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]], *, numbers: Iterable[int] = ()) -> Markup:
    """Return a table that scrolls sideways where it must; `numbers` are the columns set to the right."""
    right = set(numbers)
    look = {place: "number" for place in right}
    head = tag("tr", [tag("th", name, scope="col", class_=look.get(place)) for place, name in enumerate(heads)])
    body = [
        tag("tr", [tag("td", cell, class_=look.get(place)) for place, cell in enumerate(row)])
        for row in rows[:MOST_ROWS]
    ]
    left = len(rows) - MOST_ROWS
    note = tag("p", f"{left} more rows are in the exports.", class_="soft") if left > 0 else None
    return tag("div", tag("table", tag("thead", head), tag("tbody", body), class_="data"), note,
               class_="scroll", tabindex="0", role="group", aria_label=f"Table of {heads[0]}")  # fmt: skip


def _bounded(inner: Markup) -> Markup:
    return Markup(inner.replace('class="scroll"', 'class="scroll bounded"', 1))


def percent(value: float) -> str:
    """Return a share as the tables write it: `12.3%`."""
    return f"{100 * value:.1f}%"


def interval(row: Row) -> str:
    """Return a score's 95 % interval: `10.1 to 14.0`, in points."""
    return f"{100 * row['low']:.1f} to {100 * row['high']:.1f}"


def duration(seconds: float) -> str:
    """Return a length of time in its two largest units: `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 or not seconds else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
