"""Which iteration of a run counts, and which of several temperatures: one rule each, said with its name.

The paper reports the highest pass@1 on test, which is a maximum over the very problems it tests on. By default a run
is selected on validation instead and the test score of that iteration is its result; the other figure stands beside
it under its own name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from stages.contract.spec import RunSpec

Row = Mapping[str, Any]
"""An iteration as `summary.summarize` has it: its number and, by pass, its scores."""


class Chosen(NamedTuple):
    """The iteration with the highest score of a split; the earliest among equals."""

    iteration: int
    value: float


def choose(rows: Iterable[Row], spec: RunSpec, split: str) -> Chosen | None:
    """Return the best iteration by the least k of a split, each at its best temperature; None when none is scored."""
    scored = [Chosen(row["iteration"], value) for row in rows if (value := score(row, spec, split)) is not None]
    return max(scored, key=lambda one: (one.value, -one.iteration), default=None)


def score(row: Row, spec: RunSpec, split: str) -> float | None:
    """Return an iteration's pass@k, least k, on a split; None where it is not scored or lost too many samples."""
    found = over_temperatures(row, spec, split).get(str(min(spec.evaluate.k)))
    return None if found is None else float(found["value"])


def over_temperatures(row: Row, spec: RunSpec, split: str) -> dict[str, dict[str, float]]:
    """Return each pass@k of a split at the temperature where it is highest (paper, Table 1), with that temperature."""
    found: dict[str, dict[str, float]] = {}
    for one in spec.passes():
        if one.split != split:
            continue
        for k, estimate in row["scores"].get(one.name, {}).get("pass_at_k", {}).items():
            if k not in found or estimate["value"] > found[k]["value"]:
                found[k] = {**estimate, "temperature": one.sampling.temperature}
    return found


def best(rows: Iterable[Row], spec: RunSpec) -> dict[str, Any] | None:
    """Return the selected iteration, its score on the split that selected it, by which rule, and its score on test."""
    rows, split = list(rows), spec.evaluate.select_on
    chosen = choose(rows, spec, split)
    if chosen is None:
        return None
    row = next(each for each in rows if each["iteration"] == chosen.iteration)
    return {
        "iteration": chosen.iteration,
        "selected_on": split,
        f"pass@{min(spec.evaluate.k)}": chosen.value,
        "rule": rule(split),
        "test": score(row, spec, "test"),
    }


def max_on_test(rows: Iterable[Row], spec: RunSpec) -> dict[str, Any] | None:
    """Return the highest score on test and its iteration, which is what the paper reports."""
    chosen = choose(rows, spec, "test")
    return chosen and {"iteration": chosen.iteration, f"pass@{min(spec.evaluate.k)}": chosen.value}


def rule(split: str) -> Literal["selected on validation", "max on test"]:
    """Return how a model that was selected on a split is told apart from others."""
    return "max on test" if split == "test" else "selected on validation"
