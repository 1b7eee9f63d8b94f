"""Runs that differ in nothing but the seed, taken together: mean and standard deviation of every score."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from stages.contract.spec import RunSpec, strip_compatible

Row = dict[str, Any]


def key(spec: RunSpec) -> str:
    """Return what runs of one group have in common: the digest of every field that decides rows, save the seed."""
    fields = {name: value for name, value in strip_compatible(spec).items() if name != "seed"}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def group(specs: Mapping[str, RunSpec]) -> list[Row]:
    """Return the groups of two runs and more, each with its runs and their seeds."""
    together: dict[str, list[str]] = {}
    for name, spec in specs.items():
        together.setdefault(key(spec), []).append(name)
    return [
        {"group": names[0], "runs": names, "seeds": [specs[name].seed for name in names]}
        for names in together.values()
        if len(names) > 1
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
    return [
        {**dict(zip(names, place, strict=True)), "mean": mean(found), "sd": stdev(found) if len(found) > 1 else None,
         "seeds": len(found)}
        for place, found in values.items()
    ]  # fmt: skip
