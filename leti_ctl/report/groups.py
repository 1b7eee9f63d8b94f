"""Runs that differ in nothing but the seed, taken together: mean and standard deviation of every score."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from leti_ctl.results import seeds
from stages.contract.run import Run

Row = dict[str, Any]


def group(runs: Iterable[Run]) -> list[Row]:
    """Return the groups of two runs and more, each with its runs and their seeds; named after their first run."""
    given = list(runs)
    place = {run.name: number for number, run in enumerate(given)}
    return [
        {
            "group": min((run.name for run in each.runs), key=lambda name: place[name]),
            "runs": [run.name for run in each.runs],
            "seeds": [run.spec.seed for run in each.runs],
        }
        for each in seeds.groups(given)
        if len(each.runs) > 1
    ]


def rows(groups: Sequence[Row], scores: Iterable[Row]) -> list[Row]:
    """Return each group's scores: mean over its runs and the sample standard deviation, per iteration, pass, metric."""
    group_of = {name: each["group"] for each in groups for name in each["runs"]}
    values: dict[tuple[Any, ...], list[float]] = {}
    for row in scores:
        if row["run"] in group_of:
            place = (group_of[row["run"]], row["iteration"], row["pass"], row["split"], row["metric"], row["k"])
            values.setdefault(place, []).append(row["value"])
    names = ("group", "iteration", "pass", "split", "metric", "k")
    found = {place: seeds.spread(each) for place, each in values.items()}
    return [
        {**dict(zip(names, place, strict=True)), "mean": one.mean, "sd": one.deviation, "seeds": len(one.values)}
        for place, one in found.items()
    ]
