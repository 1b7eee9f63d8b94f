"""Runs that differ in their seed alone: which belong together, and the mean and deviation of all they measured."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from leti_ctl import control
from leti_ctl.results import summary
from stages.contract.errors import LetiError, UsageError
from stages.contract.run import Run
from stages.contract.spec import RunSpec, strip_compatible
from stages.contract.store import Store

MEASURED = ("solve_rate", "executable_rate", "eos_rate", "mean_solution_tokens", "mean_feedback_characters")


class Group(NamedTuple):
    """Runs of one spec with different seeds, in the order of their seeds."""

    digest: str
    """Of the spec without its seed."""
    runs: tuple[Run, ...]


class Spread(NamedTuple):
    """What several runs measured of one thing. `deviation` is the sample's (n - 1); None of a single run."""

    values: tuple[float, ...]
    mean: float
    deviation: float | None


def parse(text: str) -> list[int]:
    """Return the seeds that `42,43,44` names; `UsageError` for anything else."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) < 2**31 for word in words) or len(set(map(int, words))) < len(words):
        raise UsageError(f"--seeds {text!r}: write different whole numbers from 0, such as 42,43,44")
    return [int(word) for word in words]


def digest(store: Store, spec: RunSpec) -> str:
    """Return the SHA-256 of a spec without its seed; the run it starts from counts by its own, so without seed too."""
    document = strip_compatible(spec)
    del document["seed"]
    document["model"]["from_run"] = _origin(store, spec.model.from_run)
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _origin(store: Store, name: str | None) -> str | None:
    """What stands for a run's name: the digest of its spec, or the name where that run is gone."""
    if name is None:
        return None
    try:
        return digest(store, Run(store, name).spec)
    except UsageError:
        return name


def groups(runs: Iterable[Run]) -> list[Group]:
    """Return the runs by spec without seed, in the order in which a group's first run was given.

    Runs whose spec cannot be read are left out.
    """
    found: dict[str, list[Run]] = {}
    for run in runs:
        try:
            found.setdefault(digest(run.store, run.spec), []).append(run)
        except LetiError:
            continue
    return [
        Group(key, tuple(sorted(members, key=lambda run: (run.spec.seed, run.name)))) for key, members in found.items()
    ]


def spread(values: Sequence[float]) -> Spread:
    """Return the mean and the sample's standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Spread(tuple(values), statistics.fmean(values), deviation)


def across(group: Group) -> dict[str, Any]:
    """Return as JSON data what a group came to: who belongs to it, and every metric over the runs that have it."""
    found = [summary.summarize(run) for run in group.runs]
    measured: defaultdict[tuple[int, str, str], list[float]] = defaultdict(list)
    for one in found:
        for place, value in _metrics(one):
            measured[place].append(value)
    selected: defaultdict[str, list[float]] = defaultdict(list)
    for one in found:
        for name, value in _selected(one):
            selected[name].append(value)
    return {
        "spec_sha256_without_seed": group.digest,
        "runs": [run.name for run in group.runs],
        "seeds": [run.spec.seed for run in group.runs],
        "phases": [one["phase"] for one in found],
        "selected": {name: spread(values)._asdict() for name, values in selected.items()},
        "metrics": [
            {"iteration": iteration, "split": split, "metric": metric, **spread(values)._asdict()}
            for (iteration, split, metric), values in sorted(measured.items())
        ],
    }


def _metrics(found: Mapping[str, Any]) -> Iterator[tuple[tuple[int, str, str], float]]:
    for row in found["per_iteration"]:
        for split, score in row["scores"].items():
            intervals = {f"pass@{k}": each for k, each in score["pass_at_k"].items()} | score["figures"]
            for name, each in intervals.items():
                yield (row["iteration"], split, name), each["value"]
            for name in MEASURED:
                value = score[name]
                yield (row["iteration"], split, name), value["value"] if isinstance(value, dict) else value


def _selected(found: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The figures of the iteration that each run's own rule selects, which need not be the same one in all."""
    if best := found["best"]:
        yield "iteration", float(best["iteration"])
        name = next(name for name in best if name.startswith("pass@"))
        yield f"{name} on {best['selected_on']}", best[name]
        if best["test"] is not None and best["selected_on"] != "test":
            yield f"{name} on test", best["test"]
    if paper := found["max_on_test"]:
        name = next(name for name in paper if name.startswith("pass@"))
        yield f"{name} max on test", paper[name]


def of_store(store: Store) -> list[Group]:
    """Return the groups of all runs of a store."""
    return groups(Run(store, name) for name in control.run_names(store))
