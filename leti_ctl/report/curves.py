"""Figures of scores: learning curves, pass@k, sample efficiency, the other rates, and means over seeds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from leti_ctl.report.plot import (
    Data,
    Grid,
    Row,
    Spec,
    clear,
    facts_of,
    figure,
    hover,
    in_panels,
    iterations,
    percent,
    reported_pass,
    rounded,
    run_color,
    selected,
    several,
    shown_percent,
)

EFFORTS = {
    "steps": "gradient steps",
    "samples": "samples drawn for training",
    "tokens": "tokens trained on",
    "hours": "hours of generating and training",
}

COUNT = "format(datum.value, datum.value >= 1000 ? '~s' : '~g')"
"""Label of an axis of counts: 12, 1.5k, 8M; and of hours: 0.25."""


def learning(data: Data) -> Spec | None:
    """pass@k over iterations with intervals, a panel per pass (paper, Figure 2)."""
    metric = _least(data)
    rows = _of(data, "scores", metric=metric)
    if not rows:
        return None
    for row in rows:
        best = facts_of(data, row["run"])["best"]
        row["ring"] = bool(best and best["iteration"] == row["iteration"])
        row["mark"] = shown_percent(row["value"]) if row["ring"] and row["split"] != "train" else None
    where = " and ".join(sorted({run["best"]["selected_on"] for run in data["runs"] if run["best"]}))
    ring = f", rings the model selected on {where}" if where else ""
    subtitle = f"{metric} of every iteration's model; bands are 95% intervals over problems{ring}"
    layers: list[Spec] = [_band(data), *_line(data), _ring(data), _label(data)]
    passes = _ranked_passes(rows)
    return figure(_rise(data, metric), subtitle, in_panels(rows, "pass", layers, Grid(panels=passes)))


def pass_at_k(data: Data) -> Spec | None:
    """pass@k against k: each run's base model and the one it selected."""
    rows = [row for row in _of(data, "scores") if row["k"] is not None]
    if len({row["k"] for row in rows}) < 2:
        return None
    kept = [each for run in dict.fromkeys(row["run"] for row in rows) for each in _first_and_selected(data, run, rows)]
    ks = sorted({row["k"] for row in kept})
    x = {"field": "k", "type": "quantitative", "scale": {"type": "log", "base": 2, "nice": False},
         "axis": {"values": ks, "title": "k (samples drawn per problem)", "format": "d"}}  # fmt: skip
    dash = {"field": "model", "type": "nominal", "scale": {"domain": ["selected", "base"], "range": [[1, 0], [4, 4]]},
            "legend": {"title": None, "symbolStrokeColor": "#7B8794"}}  # fmt: skip
    shared = {"x": x, "y": percent("value", "pass@k"), "color": run_color(data), "detail": {"field": "model"}}
    tip = hover("run", "model", "iteration", "k", value="%", low="%", high="%")
    layers: list[Spec] = [
        {"mark": {"type": "rule", "opacity": 0.35}, "encoding": {
            "x": x, "y": percent("low", "pass@k"), "y2": {"field": "high"}, "color": run_color(data)}},
        {"mark": {"type": "line"}, "encoding": {**shared, "strokeDash": dash}},
        {"mark": {"type": "point"}, "encoding": {**shared, **tip}},
    ]  # fmt: skip
    title = f"pass@{ks[-1]} {_change(data, f'pass@{ks[-1]}')}"
    subtitle = "Dashed: the base model; solid: the model the run selected; bars are 95% intervals over problems"
    body = {"data": {"values": rounded(kept)}, "width": 520, "height": 260, "layer": layers}
    return figure(title, subtitle, body)


def efficiency(data: Data) -> Spec | None:
    """Held-out pass@k against what had been put into the model (paper, section 3.3)."""
    metric = _least(data)
    rows = [
        {"run": row["run"], "iteration": row["iteration"], "effort": title, "x": row[name], "value": row["value"],
         "low": row["low"], "high": row["high"]}
        for row in _of(data, "efficiency", metric=metric)
        if row["pass"] == reported_pass(data, row["run"])
        for name, title in EFFORTS.items()
    ]  # fmt: skip
    trained = {row["run"] for row in rows if row["iteration"] > 0}
    rows = [row for row in rows if row["run"] in trained]
    if not rows:
        return None
    x = {"field": "x", "type": "quantitative", "axis": {"title": None, "labelExpr": COUNT, "tickCount": 5}}
    tip = hover("run", "iteration", x=",.4~r", value="%", low="%", high="%")
    layers: list[Spec] = [
        {"mark": {"type": "area", "opacity": 0.1}, "encoding": {
            "x": x, "y": percent("low", metric), "y2": {"field": "high"}, "color": run_color(data)}},
        {"mark": {"type": "line"}, "encoding": {"x": x, "y": percent("value", metric), "color": run_color(data)}},
        {"mark": {"type": "point"}, "encoding": {
            "x": x, "y": percent("value", metric), "color": run_color(data), **tip}},
    ]  # fmt: skip
    where = reported_pass(data, rows[0]["run"])
    subtitle = "Every point is one iteration's model; the axes count all that was spent before it was scored"
    body = in_panels(rows, "effort", layers, Grid(panels=list(EFFORTS.values()), columns=2, apart=("x",), height=170))
    return figure(f"What {metric} on {where} costs: {_cheapest(data, metric, trained)}", subtitle, body)


def rates(data: Data) -> Spec | None:
    """Scores that are no pass@k, of training and the pass reported: solve rate, executable rate, the task's figures."""
    rows = [
        row
        for row in _of(data, "scores")
        if row["k"] is None and row["pass"] in ("train", reported_pass(data, row["run"]))
    ]
    if not rows:
        return None
    metrics = [name for name in data["metrics"] if not name.startswith("pass@")]
    dash = _dash(rows)
    shared = {"x": iterations(rows), "y": percent("value", None), "color": run_color(data), **dash}
    layers: list[Spec] = [
        *([] if several(data) or dash else [_band(data)]),
        {"mark": {"type": "line"}, "encoding": shared},
        {"mark": {"type": "point"}, "encoding": {
            **{name: shared[name] for name in ("x", "y", "color")},
            **hover("run", "pass", "iteration", value="%", low="%", high="%")}},
    ]  # fmt: skip
    for layer in layers:
        layer["encoding"]["x"] = iterations(rows)
    subtitle = "Solved: at least one of the samples passes. Executable: passes or ends in AssertionError"
    title = f"Programs that run: executable rate {_change(data, 'executable rate')}"
    return figure(title, subtitle, in_panels(rows, "metric", layers, Grid(panels=metrics, columns=2, height=170)))


def seeds(data: Data) -> Spec | None:
    """Mean and standard deviation over runs that differ in the seed alone."""
    metric = _least(data)
    rows = [
        {**row, "low": max(0.0, row["mean"] - row["sd"]), "high": min(1.0, row["mean"] + row["sd"])}
        for row in data["tables"]["seeds"]
        if row["metric"] == metric and row["sd"] is not None
    ]
    if not rows:
        return None
    color = {"field": "group", "type": "nominal", "legend": {} if len(data["groups"]) > 1 else None,
             "scale": {"domain": [each["group"] for each in data["groups"]]}}  # fmt: skip
    x, tip = iterations(rows), hover("group", "iteration", "seeds", mean="%", sd="%")
    layers: list[Spec] = [
        {"mark": {"type": "area", "opacity": 0.18}, "encoding": {
            "x": x, "y": percent("low", metric), "y2": {"field": "high"}, "color": color}},
        {"mark": {"type": "line"}, "encoding": {"x": x, "y": percent("mean", metric), "color": color}},
        {"mark": {"type": "point"}, "encoding": {"x": x, "y": percent("mean", metric), "color": color, **tip}},
    ]  # fmt: skip
    counts = " and ".join(sorted({f"{row['seeds']} seeds" for row in rows}))
    subtitle = f"Mean over {counts}; bands are one standard deviation"
    return figure(f"How much the seed decides: {metric}", subtitle, in_panels(rows, "pass", layers))


def _first_and_selected(data: Data, run: str, rows: Iterable[Row]) -> list[Row]:
    mine = [row for row in rows if row["run"] == run and row["pass"] == reported_pass(data, run)]
    there = [row["iteration"] for row in mine]
    models = {"base": 0, "selected": selected(data, run, there)} if there else {}
    return [{**row, "model": name} for name, number in models.items() for row in mine if row["iteration"] == number]


def _of(data: Data, table: str, **wanted: Any) -> list[Row]:
    rows = data["tables"][table]
    return [dict(row) for row in rows if all(row[name] == value for name, value in wanted.items())]


def _least(data: Data) -> str:
    """The pass@k of the least k there is."""
    return next((name for name in data["metrics"] if name.startswith("pass@")), "pass@1")


def _ranked_passes(rows: Iterable[Row]) -> list[str]:
    """Held-out passes last, as they come."""
    return list(dict.fromkeys(row["pass"] for row in rows))


def _band(data: Data) -> Spec:
    y = {**percent("low", None), "title": None}
    return {"mark": {"type": "area", "opacity": 0.08 if several(data) > 3 else 0.15}, "encoding": {
        "x": iterations(data["tables"]["scores"]), "y": y, "y2": {"field": "high"}, "color": run_color(data),
    }}  # fmt: skip


def _line(data: Data) -> list[Spec]:
    x, y = iterations(data["tables"]["scores"]), percent("value", None)
    tip = hover("run", "pass", "iteration", value="%", low="%", high="%")
    return [
        {"mark": {"type": "line"}, "encoding": {"x": x, "y": y, "color": run_color(data)}},
        {"mark": {"type": "point"}, "encoding": {"x": x, "y": y, "color": run_color(data), **tip}},
    ]


def _ring(data: Data) -> Spec:
    return {"transform": [{"filter": "datum.ring"}],
            "mark": {"type": "point", "filled": False, "size": 120, "strokeWidth": 2}, "encoding": {
        "x": iterations(data["tables"]["scores"]), "y": percent("value", None), "color": run_color(data)}}  # fmt: skip


def _label(data: Data) -> Spec:
    return {"transform": [{"filter": "datum.mark"}],
            "mark": {"type": "text", "dy": -15, "fontWeight": 600}, "encoding": {
        "x": iterations(data["tables"]["scores"]), "y": percent("value", None), "text": {"field": "mark"},
        "color": run_color(data)}}  # fmt: skip


def _dash(rows: Sequence[Row]) -> Mapping[str, Any]:
    passes = _ranked_passes(rows)
    if len(passes) < 2:
        return {}
    patterns = [[1, 0], [4, 4], [1, 3], [8, 3, 1, 3], [2, 2], [10, 4]]
    order = [*passes[1:], passes[0]]
    return {"strokeDash": {"field": "pass", "type": "nominal", "legend": {"symbolStrokeColor": "#7B8794"},
                           "scale": {"domain": order, "range": patterns[: len(order)]}}}  # fmt: skip


def _rise(data: Data, metric: str) -> str:
    return f"{metric} {_change(data, metric)}"


def _change(data: Data, metric: str) -> str:
    """`on test: 2% → 44% at iteration 7`, from the base model to the selected one; per run where there are several."""
    told: list[str] = []
    for run in data["runs"]:
        where = reported_pass(data, run["run"])
        rows = [row for row in _of(data, "scores", metric=metric, run=run["run"]) if row["pass"] == where]
        values = {row["iteration"]: shown_percent(row["value"]) for row in rows}
        if values:
            chosen = selected(data, run["run"], values)
            ends = [values[number] for number in dict.fromkeys((min(values), chosen))]
            name = f"{clear(run['run'])} " if several(data) else f"on {where}: "
            at = "" if several(data) or len(ends) == 1 else f" at iteration {chosen}"
            # No break within a run's words.
            told.append(f"{name}{' → '.join(ends)}{at}".replace(" ", "\u00a0"))
    return ("on held-out problems: " if several(data) else "") + ", ".join(told[:3]) + (", …" if told[3:] else "")


def _cheapest(data: Data, metric: str, trained: Collection[str]) -> str:
    """Which run reaches what all reach with the fewest steps, in words."""
    reached: dict[str, list[Row]] = {}
    for row in _of(data, "efficiency", metric=metric):
        if row["run"] in trained and row["pass"] == reported_pass(data, row["run"]):
            reached.setdefault(row["run"], []).append(row)
    goal = min(max(row["value"] for row in rows) for rows in reached.values())
    steps = {run: min(row["steps"] for row in rows if row["value"] >= goal) for run, rows in reached.items()}
    run = min(steps, key=lambda name: steps[name])
    if len(steps) == 1:
        return f"{shown_percent(goal)} after {steps[run]:,} gradient steps"
    others = next(iter(steps.keys() - {run})) if len(steps) == 2 else "all others"
    soonest = sum(found == steps[run] for found in steps.values()) == 1
    told = f", sooner than {clear(others)}" if soonest else ""
    return f"{clear(run)} reaches {shown_percent(goal)} after {steps[run]:,} gradient steps{told}"
