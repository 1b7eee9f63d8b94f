"""Figures of what became of samples: outcomes, kinds of feedback, canaries, length and stopping."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from leti_ctl.report.plot import (
    Data,
    Grid,
    Row,
    Spec,
    clear,
    figure,
    hover,
    in_panels,
    iterations,
    percent,
    reported_pass,
    run_color,
    several,
    shown_percent,
)
from leti_ctl.report.theme import OUTCOMES, outcome_colors

MOST_OUTCOMES = 8
"""Error types shown by name; the rest is one band."""
MOST_KINDS = 18
"""Kinds of feedback shown, of all runs together."""
REST = "other errors"
FEW = 3
"""Iterations up to which shares are bars: areas need a path to follow."""


def errors(data: Data) -> Spec | None:
    """Shares of outcomes over iterations, stacked (paper, Figure 3): one panel per run, of the pass it is judged by."""
    rows = [row for row in data["tables"]["outcomes"] if row["pass"] == reported_pass(data, row["run"])]
    if not rows:
        return None
    names = _commonest(rows)
    filled = _filled(rows, names)
    color = {"field": "outcome", "type": "nominal", "legend": {"columns": 5},
             "scale": {"domain": names, "range": outcome_colors(names)}}  # fmt: skip
    is_short = len({row["iteration"] for row in rows}) <= FEW
    x = {**iterations(rows), **({"type": "ordinal", "scale": {}} if is_short else {})}
    x["axis"] = {**x["axis"], "labelAngle": 0}
    y = {"field": "share", "type": "quantitative", "stack": "zero", "scale": {"domain": [0, 1], "nice": False},
         "axis": {"format": "~%", "title": "share of samples"}}  # fmt: skip
    mark = {"type": "bar", "size": 34} if is_short else {"type": "area", "line": False, "opacity": 0.92}
    layer = {"mark": mark, "encoding": {"x": x, "y": y, "color": color, "order": {"field": "rank"},
             **hover("run", "iteration", "outcome", "count", share="%")}}  # fmt: skip
    passes = " and ".join(sorted({row["pass"] for row in rows}))
    subtitle = f"Outcomes of the samples of {passes}; passed below, then what failures ended in, the commonest first"
    return figure(_errors_title(data, rows), subtitle, in_panels(filled, "run", [layer], Grid(height=250)))


def feedback(data: Data) -> Spec | None:
    """Kinds of feedback over iterations as a heat map: which mistakes are learned away, which stay."""
    rows = [row for row in data["tables"]["feedback"] if row["pass"] == reported_pass(data, row["run"])]
    if not rows:
        return None
    kinds = _ranked_kinds(rows, MOST_KINDS if not several(data) else max(8, MOST_KINDS // several(data)))
    shown = [{**row, "percent": _cell(row["share"])} for row in rows if row["kind"] in kinds]
    last = max(row["iteration"] for row in rows)
    x = {"field": "iteration", "type": "ordinal", "axis": {"title": "iteration", "labelAngle": 0, "domain": False}}
    y = {"field": "kind", "type": "nominal", "sort": kinds, "scale": {"domain": kinds},
         "axis": {"title": None, "labelLimit": 380, "domain": False, "ticks": False, "labelFontSize": 11}}  # fmt: skip
    color = {"field": "share", "type": "quantitative", "scale": {"scheme": "viridis", "domainMin": 0, "type": "sqrt"},
             "legend": None}  # fmt: skip
    ink = {"condition": {"test": "datum.share > 0.3 * datum.greatest", "value": "#10151A"}, "value": "#F4F7FA"}
    greatest = max(row["share"] for row in shown)
    layers: list[Spec] = [
        {"mark": {"type": "rect", "cornerRadius": 2}, "encoding": {
            "x": x, "y": y, "color": color, **hover("run", "iteration", "kind", "count", share="%")}},
        {"mark": {"type": "text", "fontSize": 9}, "encoding": {
            "x": x, "y": y, "text": {"field": "percent"}, "color": ink}},
    ]  # fmt: skip
    body = in_panels([{**row, "greatest": greatest} for row in shown], "run", layers, Grid(columns=1))
    inner = body.get("spec", body)
    inner.update(width=min(56, max(22, 380 // (last + 1))) * (last + 1), height={"step": 19})
    subtitle = "Percent of samples whose feedback ends so; 'names' and Numbers are blanked. Top: gone first"
    return figure(_feedback_title(data), subtitle, body)


def canaries(data: Data) -> Spec | None:
    """Shares of what can tell that training rewards tricks; only those that were ever seen have a panel."""
    rows = data["tables"]["canaries"]
    if not rows:
        return None
    seen = [name for name in data["canaries"] if any(row["canary"] == name and row["count"] for row in rows)]
    unseen = [name for name in data["canaries"] if name not in seen]
    quiet = f"Never seen: {', '.join(each.replace('_', ' ') for each in unseen)}" if unseen else "All of them were seen"
    if not seen:
        return None
    titles = {name: data["canaries"][name]["title"] for name in seen}
    shown = [{**row, "title": titles[row["canary"]]} for row in rows if row["canary"] in titles]
    tip = hover("run", "pass", "iteration", "count", "of", share="%")
    splits = [name for name in ("train", "test", "validation") if any(row["split"] == name for row in rows)]
    dash = {"strokeDash": {"field": "split", "type": "nominal", "legend": {"symbolStrokeColor": "#7B8794"},
                           "scale": {"domain": splits, "range": [[1, 0], [4, 3], [1, 3]][: len(splits)]}}}  # fmt: skip
    shared = {"x": iterations(rows), "y": percent("share", None), "color": run_color(data), "detail": {"field": "pass"}}
    layers: list[Spec] = [
        {"mark": {"type": "line", "strokeWidth": 1.6}, "encoding": {**shared, **dash}},
        {"mark": {"type": "point", "size": 18}, "encoding": {**shared, **tip}},
    ]
    body = in_panels(shown, "title", layers, Grid(panels=list(titles.values()), columns=2, apart=("y",), height=110))
    subtitle = f"A share that rises is worth a look in the problem browser. {quiet}"
    return figure(_canary_title(data), subtitle, body)


def length(data: Data) -> Spec | None:
    """How long solutions are and how many the model ends itself."""
    rows = data["tables"]["lengths"]
    if not rows:
        return None
    long = [
        {"run": row["run"], "pass": row["pass"], "iteration": row["iteration"], "what": what, "value": row[name],
         "low": row["p10"] if name == "mean_tokens" else None, "high": row["p90"] if name == "mean_tokens" else None}
        for row in rows
        for name, what in (("mean_tokens", "tokens per solution"), ("eos_rate", "share the model ended itself"))
        if row["pass"] == reported_pass(data, row["run"])
    ]  # fmt: skip
    if not long:
        return None
    y = {"field": "value", "type": "quantitative", "scale": {"zero": True}, "axis": {"title": None, "tickCount": 5}}
    shared = {"x": iterations(rows), "y": y, "color": run_color(data)}
    band = {"mark": {"type": "area", "opacity": 0.12}, "transform": [{"filter": "isValid(datum.high)"}], "encoding": {
        **shared, "y": {**y, "field": "low"}, "y2": {"field": "high"}}}  # fmt: skip
    layers: list[Spec] = [
        *([] if several(data) else [band]),
        {"mark": {"type": "line"}, "encoding": shared},
        {"mark": {"type": "point"}, "encoding": {**shared, **hover("run", "pass", "iteration", value=",.3~r")}},
    ]
    body = in_panels(long, "what", layers, Grid(columns=2, apart=("y",), height=190))
    passes = " and ".join(sorted({row["pass"] for row in long}))
    told = "means" if several(data) else "the line is the mean, the band holds the middle 80% of solutions"
    subtitle = f"Of the samples of {passes}; {told}"
    return figure(_length_title(data, rows), subtitle, body)


def _commonest(rows: Iterable[Row]) -> list[str]:
    """Passed first, AssertionError next (those ran), then error types by how frequent they are, then the rest."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts[row["outcome"]] += row["count"]
    named = [name for name, _ in counts.most_common() if name not in ("passed", "AssertionError")]
    first = ["passed", *(["AssertionError"] if "AssertionError" in counts else [])]
    keep = named[: MOST_OUTCOMES - len(first)]
    known = [name for name in OUTCOMES if name in keep]
    return [*first, *known, *(name for name in keep if name not in known), *([REST] if len(named) > len(keep) else [])]


def _filled(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """One row per run, iteration and name, zero where nothing ended so: areas need every point."""
    found: dict[tuple[str, int, str], Row] = {}
    for run, iteration in dict.fromkeys((row["run"], row["iteration"]) for row in rows):
        for rank, name in enumerate(names):
            found[run, iteration, name] = {"run": run, "iteration": iteration, "outcome": name, "count": 0,
                                           "share": 0.0, "rank": rank}  # fmt: skip
    for row in rows:
        name = row["outcome"] if row["outcome"] in names else REST
        place = found[row["run"], row["iteration"], name]
        place["count"] += row["count"]
        place["share"] += row["share"]
    return list(found.values())


def _ranked_kinds(rows: Sequence[Row], most: int) -> list[str]:
    """The kinds with the greatest shares, by when they were made on the whole: what goes first stands at the top."""
    series: dict[str, list[Row]] = {}
    for row in rows:
        series.setdefault(row["kind"], []).append(row)
    peak = {kind: max(each["share"] for each in found) for kind, found in series.items()}
    kept = sorted(series, key=lambda kind: -peak[kind])[:most]
    return sorted(kept, key=lambda kind: (_middle(series[kind]), -peak[kind]))


def _middle(rows: Iterable[Row]) -> float:
    """The mean iteration of a kind's samples."""
    pairs = [(row["iteration"], row["share"]) for row in rows]
    return float(sum(iteration * share for iteration, share in pairs) / sum(share for _, share in pairs))


def _cell(share: float) -> str:
    return f"{share * 100:.0f}" if share >= 0.095 else f"{share * 100:.1f}"


def _ends(rows: Iterable[Row], name: str) -> tuple[float, float]:
    """A column's first and last value, by iteration."""
    ranked = sorted(rows, key=lambda row: row["iteration"])
    return float(ranked[0][name]), float(ranked[-1][name])


def _errors_title(data: Data, rows: Sequence[Row]) -> str:
    """The error type whose share fell most, of the first run."""
    run = data["runs"][0]["run"]
    mine = [row for row in rows if row["run"] == run]
    if not mine:
        return "What became of the samples"
    ends = [pick(row["iteration"] for row in mine) for pick in (min, max)]
    shares = {
        name: [sum(row["share"] for row in mine if row["outcome"] == name and row["iteration"] == end) for end in ends]
        for name in {row["outcome"] for row in mine} - {"passed"}
    }
    if not shares or ends[0] == ends[1]:
        return "What became of the samples"
    name = max(shares, key=lambda each: (shares[each][0] - shares[each][1], each))
    if shares[name][0] <= shares[name][1]:
        return "What became of the samples: no error type has become rarer"
    whose = f" ({clear(run)})" if several(data) else ""
    return f"{name} falls from {shown_percent(shares[name][0])} to {shown_percent(shares[name][1])} of samples{whose}"


def _feedback_title(data: Data) -> str:
    """How many kinds of feedback are gone; of runs that only evaluate, the commonest."""
    rows = [row for row in data["tables"]["learned"] if row["pass"] == reported_pass(data, row["run"])]
    if not any(row["last_seen"] for row in rows):
        most = max(rows, key=lambda row: row["peak_share"])
        return f"The commonest feedback, at {shown_percent(most['peak_share'])} of samples: {most['kind']}"
    told = []
    for run in data["runs"][:3]:
        mine = [row for row in rows if row["run"] == run["run"]]
        name = f"{clear(run['run'])}: " if several(data) else ""
        told.append(f"{name}{sum(row['gone'] for row in mine)} of {len(mine)}")
    return f"Mistakes that are gone by the last iteration: {', '.join(told)} kinds of feedback"


def _canary_title(data: Data) -> str:
    rows = [row for row in data["tables"]["canaries"] if row["canary"] == "tampering_passed"]
    last = {(row["run"], row["pass"]): row for row in sorted(rows, key=lambda row: row["iteration"])}
    passed, suspect = sum(row["of"] for row in last.values()), sum(row["count"] for row in last.values())
    return f"Canaries: {suspect:,} of {passed:,} passes of the last models show a sign of tampering"


def _length_title(data: Data, rows: Sequence[Row]) -> str:
    run = data["runs"][0]["run"]
    mine = [row for row in rows if row["run"] == run and row["pass"] == reported_pass(data, run)]
    if not mine:
        return "Length of solutions"
    whose = f" ({clear(run)})" if several(data) else ""
    (first, last), (ended, ends) = _ends(mine, "mean_tokens"), _ends(mine, "eos_rate")
    tokens = _arrow(f"{first:.0f}", f"{last:.0f}")
    return (
        f"Solutions of {tokens} tokens, {_arrow(shown_percent(ended), shown_percent(ends))} ended by the model{whose}"
    )


def _arrow(first: str, last: str) -> str:
    return first if first == last else f"{first} → {last}"
