"""Figures of the machinery: losses, speeds, seconds per stage, and every unit on a time line with the critical path."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from leti_ctl.pipeline import GRAPH
from leti_ctl.report.plot import (
    WIDTH,
    Data,
    Grid,
    Row,
    Spec,
    clear,
    figure,
    hover,
    in_panels,
    iterations,
    run_color,
    several,
)
from leti_ctl.report.theme import STAGES
from leti_ctl.report.timeline import SPEEDS

MOST_BARS = 600
"""Units of a run drawn one by one; beyond, parts of one node and iteration that overlap are one bar."""
NUMBERED = 25
"""Iterations up to which each training bar has its number."""
LOSS_POINTS = 400
"""Bins of each stream of a run's losses: more than there are pixels say nothing."""
STREAMS = {
    "fcft": "feedback-conditioned fine-tuning",
    "pretraining": "pre-training stream",
    "joint": "both in one step",
}
UNITS = ((3 * 3600.0, 3600.0, "hours"), (180.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
"""From how many seconds on times are told in which unit."""


def loss(data: Data) -> Spec | None:
    """Loss per gradient step, a panel per stream, with the range of each bin of steps."""
    streams: dict[tuple[str, str], list[Row]] = {}
    for row in data["tables"]["losses"]:
        streams.setdefault((row["run"], row["stream"]), []).append(row)
    rows = [row for steps in streams.values() for row in _binned(steps)]
    if not rows:
        return None
    x = {"field": "step", "type": "quantitative", "axis": {"title": "gradient step", "format": "~s", "tickCount": 6}}
    y = {"field": "loss", "type": "quantitative", "scale": {"zero": False}, "axis": {"title": "loss", "tickCount": 5}}
    tip = hover("run", "iteration", "step", loss=".4~r", low=".4~r", high=".4~r")
    layers: list[Spec] = [
        {"mark": {"type": "area", "opacity": 0.18}, "encoding": {
            "x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": run_color(data)}},
        {"mark": {"type": "line", "strokeWidth": 1.5}, "encoding": {"x": x, "y": y, "color": run_color(data), **tip}},
    ]  # fmt: skip
    binned = any(row["steps"] > 1 for row in rows)
    subtitle = "Mean cross-entropy per target token" + ("; bands are the range within a bin of steps" if binned else "")
    return figure(_loss_title(data, rows), subtitle, in_panels(rows, "what", layers, Grid(apart=("y",), height=200)))


def speed(data: Data) -> Spec | None:
    """Tokens generated, programs executed and tokens trained per second, by iteration."""
    rows = [row for row in data["tables"]["stages"] if row["speed"] is not None]
    if not rows:
        return None
    y = {"field": "speed", "type": "quantitative", "scale": {"zero": True},
         "axis": {"title": None, "format": "~s", "tickCount": 4}}  # fmt: skip
    shared = {"x": iterations(rows), "y": y, "color": run_color(data)}
    tip = hover("run", "iteration", "parts", speed=",.4~r", amount=",.4~r", working_seconds=",.3~r")
    layers: list[Spec] = [
        {"mark": {"type": "line"}, "encoding": shared},
        {"mark": {"type": "point"}, "encoding": {**shared, **tip}},
    ]
    subtitle = "Totals of an iteration's parts divided, without starting up; held-out passes count in, by iteration"
    names = [name for _, _, name in SPEEDS.values()]
    body = in_panels(rows, "speed_name", layers, Grid(panels=names, columns=3, apart=("y",), height=150))
    return figure("How fast the stages work", subtitle, body)


def stages(data: Data) -> Spec | None:
    """Seconds of all parts per stage and iteration, stacked; a panel per run."""
    rows = [
        {**{name: row[name] for name in ("run", "iteration", "stage", "parts", "seconds")},
         "rank": list(STAGES).index(row["stage"])}
        for row in data["tables"]["stages"]
    ]  # fmt: skip
    if not rows:
        return None
    tallest: dict[tuple[str, int], float] = {}
    for row in rows:
        place = (row["run"], row["iteration"])
        tallest[place] = tallest.get(place, 0.0) + row["seconds"]
    factor, unit = _unit(max(tallest.values()))
    rows = [{**row, "time": row["seconds"] / factor} for row in rows]
    x = {"field": "iteration", "type": "ordinal", "axis": {"title": "iteration", "labelAngle": 0}}
    y = {"field": "time", "type": "quantitative", "stack": "zero", "axis": {"title": unit, "tickCount": 5}}
    layer: Spec = {"mark": {"type": "bar"}, "encoding": {
        "x": x, "y": y, "color": _stage_color(rows), "order": {"field": "rank"},
        **hover("run", "iteration", "stage", "parts", seconds=",.1~f")}}  # fmt: skip
    subtitle = "Seconds of all parts added up, which side by side take less; the last iteration only evaluates"
    return figure(_stages_title(data, rows), subtitle, in_panels(rows, "run", [layer], Grid(height=190)))


def gantt(data: Data) -> Spec | None:
    """Every unit from its start to its end, a lane per node of the graph; the critical path stands out."""
    rows = [row for run in data["runs"] for row in _bars(data, run["run"])]
    if not rows:
        return None
    lanes = [node.name for node in GRAPH if any(row["node"] == node.name for row in rows)]
    factor, unit = _unit(max(row["end"] for row in rows))
    for row in rows:
        for name in ("start", "end", "before_end"):
            row[name] = None if row[name] is None else row[name] / factor
    x = {"field": "start", "type": "quantitative", "scale": {"nice": False},
         "axis": {"title": f"{unit} since the run began", "grid": True, "tickCount": 8}}  # fmt: skip
    y = {"field": "node", "type": "nominal", "sort": lanes, "scale": {"domain": lanes, "paddingInner": 0.25},
         "axis": {"title": None, "grid": False}}  # fmt: skip
    tip = hover("run", "label", "host", "units", seconds=",.1~f", waited=",.0f")
    shared = {"x": x, "x2": {"field": "end"}, "y": y, "color": _stage_color(rows)}
    critical = {"condition": {"test": "datum.critical", "value": 1}, "value": 0.38}
    layers: list[Spec] = [
        {"transform": [{"filter": "datum.critical && datum.before != null"}], "mark": {"type": "rule", "opacity": 0.7},
         "encoding": {"x": {**x, "field": "before_end"}, "x2": {"field": "start"},
                      "y": {**y, "field": "before"}, "y2": {"field": "node"}}},
        {"mark": {"type": "bar", "height": {"band": 0.8}, "cornerRadius": 1.5},
         "encoding": {**shared, "opacity": critical, **tip}},
    ]  # fmt: skip
    if max(row["iteration"] for row in rows) < NUMBERED:
        layers.append(_numbers(x, y))
    body = in_panels(rows, "run", layers, Grid(columns=1))
    body.get("spec", body).update(width=WIDTH - 90, height={"step": 22})
    subtitle = "Full colour and thin lines: the critical path, from prepare to what ended last; numbers are iterations"
    return figure(_gantt_title(data), subtitle, body)


def _numbers(x: Spec, y: Spec) -> Spec:
    """Each iteration's number on its training."""
    return {"transform": [{"filter": "datum.stage === 'train'"}],
            "mark": {"type": "text", "align": "left", "dx": 3, "fontSize": 10, "fontWeight": 600, "color": "white"},
            "encoding": {"x": x, "y": y, "text": {"field": "iteration"}}}  # fmt: skip


def _binned(steps: Sequence[Row]) -> Iterator[Row]:
    """A stream's losses in at most `LOSS_POINTS` bins of consecutive steps: mean, least and greatest."""
    size = max(1, -(-len(steps) // LOSS_POINTS))
    for start in range(0, len(steps), size):
        some = steps[start : start + size]
        losses = [step["loss"] for step in some]
        yield {
            "run": some[0]["run"],
            "iteration": some[0]["iteration"],
            "step": some[0]["step"],
            "steps": len(some),
            "what": STREAMS.get(some[0]["stream"], some[0]["stream"]),
            "loss": sum(losses) / len(losses),
            "low": min(losses),
            "high": max(losses),
        }


def _bars(data: Data, run: str) -> list[Row]:
    """A run's bars: its units, or where they are many the overlapping parts of one node and iteration together."""
    rows = [dict(row) for row in data["tables"]["units"] if row["run"] == run]
    ranked = {unit: number for number, unit in enumerate(_critical(data, run))}
    path = sorted((row for row in rows if row["unit"] in ranked), key=lambda row: ranked[row["unit"]])
    for before, row in pairwise(path):
        row["before"], row["before_end"] = before["node"], before["end"]
    wanted = ("run", "node", "stage", "label", "host", "start", "end", "seconds", "critical", "waited", "before",
              "before_end")  # fmt: skip
    bars = [{**{name: row.get(name) for name in wanted}, "units": 1, "iteration": row["iteration"]} for row in rows]
    return bars if len(bars) <= MOST_BARS else _merged(bars)


def _merged(bars: Iterable[Row]) -> list[Row]:
    """Bars of one node, iteration and path membership joined where they overlap."""
    found: list[Row] = []
    ranked = sorted(bars, key=lambda bar: (bar["node"], bar["iteration"], bar["critical"], bar["start"]))
    for bar in ranked:
        last = found[-1] if found else None
        same = last and all(last[name] == bar[name] for name in ("node", "iteration", "critical"))
        if last and same and bar["start"] <= last["end"] and not bar["critical"]:
            last["end"] = max(last["end"], bar["end"])
            last["seconds"] += bar["seconds"]
            last["units"] += 1
            last["label"] = last["label"].partition(" · part")[0]
        else:
            found.append(dict(bar))
    return found


def _critical(data: Data, run: str) -> list[str]:
    return list(next(each for each in data["runs"] if each["run"] == run)["critical_path"]["units"])


def _unit(seconds: float) -> tuple[float, str]:
    """The unit to tell so long a time in, and its seconds."""
    return next((factor, name) for least, factor, name in UNITS if seconds >= least)


def _stage_color(rows: Iterable[Row]) -> Spec:
    there = {row["stage"] for row in rows}
    names = [name for name in STAGES if name in there]
    return {"field": "stage", "type": "nominal", "legend": {"symbolType": "square"},
            "scale": {"domain": names, "range": [STAGES[name] for name in names]}}  # fmt: skip


def _loss_title(data: Data, rows: Sequence[Row]) -> str:
    run, what = rows[0]["run"], rows[0]["what"]
    losses = [row["loss"] for row in rows if row["run"] == run and row["what"] == what]
    tenth = max(1, len(losses) // 10)
    first, last = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
    whose = f" ({clear(run)})" if several(data) else ""
    return f"The loss of {what} goes from {first:.2f} to {last:.2f}{whose}"


def _stages_title(data: Data, rows: Sequence[Row]) -> str:
    run = data["runs"][0]["run"]
    seconds: dict[str, float] = {}
    for row in rows:
        if row["run"] == run:
            seconds[row["stage"]] = seconds.get(row["stage"], 0.0) + row["seconds"]
    if not sum(seconds.values()):
        return "Where the seconds go"
    most = max(seconds, key=lambda stage: seconds[stage])
    whose = f" ({clear(run)})" if several(data) else ""
    return f"{most} takes {seconds[most] / sum(seconds.values()):.0%} of all seconds{whose}"


def _gantt_title(data: Data) -> str:
    run = data["runs"][0]
    path = run["critical_path"]
    whose = f"{clear(run['run'])} took" if several(data) else "The run took"
    longest = max(path["seconds"], key=lambda name: path["seconds"][name])
    share = path["seconds"][longest] / max(path["wall_seconds"], 1e-9)
    return f"{whose} {duration(path['wall_seconds'])}, {share:.0%} of its critical path in {longest}"


def duration(seconds: float) -> str:
    """Return a time for people: `3 h 12 min`, `45 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
