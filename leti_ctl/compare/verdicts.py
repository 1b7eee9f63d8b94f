"""Problems gained and lost between two sides, and whether the difference of their scores could be chance.

Both sides' samples of a pass are of the same problems, so the comparison is paired: per problem, the difference of the
unbiased estimates of pass@k. Its mean has a 95 % interval by the percentile bootstrap over problems, and a two-sided
p-value by the sign-flip test (Fisher's randomisation test for pairs): how often the mean would be as far from nought
if each problem's difference had come out with either sign alike. Up to `EXACT` differing problems every choice of
signs is counted; above, `RESAMPLES` of them are drawn, from a fixed seed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from leti_ctl.compare.sides import Side
from stages.contract.artifacts import Ref
from stages.contract.records import Execution, Metrics

RESAMPLES = 10_000
EXACT = 16
SIGNIFICANT = 0.05
SEED = 0
METHOD = (
    f"difference: mean over problems, 95 % interval by paired bootstrap ({RESAMPLES} resamples of problems), p by "
    f"two-sided sign-flip test over problems (exact up to {EXACT} that differ); significant below {SIGNIFICANT}"
)
Outcomes = Mapping[str, Mapping[int, Execution]]
"""Executions without infrastructure errors, by problem and sample."""


def compare(one: Side, other: Side) -> Iterator[dict[str, Any]]:
    """Yield, for each pass that both sides have judged, problems gained and lost, and scores side by side."""
    for name, left in one.refs.items():
        right = other.refs.get(name)
        if left.artifact != "executions" or right is None:
            continue
        first, second = _outcomes(one, left), _outcomes(other, right)
        same = one.contents(left) == other.contents(right)
        yield {
            "iterations": [left.iteration, right.iteration],
            "split": left.split,
            "same": same,
            "problems": [len(first), len(second)],
            "gained": [] if same else list(_moved(first, second)),
            "lost": [] if same else list(_moved(second, first, back=True)),
            "samples_changed": _changed(first, second),
            "scores": list(_scores(one, other, (left, right), (first, second))),
        }


def _outcomes(side: Side, ref: Ref) -> Outcomes:
    found: defaultdict[str, dict[int, Execution]] = defaultdict(dict)
    for row in side.run.read(ref, Execution):
        if row.outcome != "infra_error":
            found[row.problem_id][row.sample] = row.model_copy(update={"feedback": ""})
    return found


def _moved(before: Outcomes, after: Outcomes, *, back: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the problems that no sample solved before and one does after, with those that do."""
    for name in (each for each in before if each in after):
        solved = _passing(after[name])
        if solved and not _passing(before[name]):
            told = [f"0/{len(before[name])}", f"{len(solved)}/{len(after[name])}"]
            yield {"problem_id": name, "first": told[back], "second": told[not back], "samples": solved}


def _passing(rows: Mapping[int, Execution]) -> list[int]:
    return sorted(number for number, row in rows.items() if row.outcome == "passed")


def _changed(first: Outcomes, second: Outcomes) -> int:
    """Return how many (problem, sample) pairs of both sides have another verdict."""
    return sum(
        (rows[number].outcome, rows[number].error_type)
        != (second[name][number].outcome, second[name][number].error_type)
        for name, rows in first.items()
        if name in second
        for number in rows.keys() & second[name].keys()
    )


def _scores(
    one: Side, other: Side, refs: tuple[Ref, Ref], sides: tuple[Outcomes, Outcomes]
) -> Iterator[dict[str, Any]]:
    reported = [_reported(side, ref) for side, ref in zip((one, other), refs, strict=True)]
    for k in sorted({*reported[0], *reported[1]}, key=int):
        told = {"k": int(k), "first": reported[0].get(k), "second": reported[1].get(k)}
        yield {**told, **paired(*sides, int(k))}


def _reported(side: Side, executions: Ref) -> dict[str, Any]:
    ref = Ref("metrics", executions.iteration, executions.split)
    if not side.catalog.is_complete(ref):
        return {}
    metrics = next(side.run.read(ref, Metrics))
    return {k: interval.model_dump() for k, interval in metrics.pass_at_k.items()}


def paired(first: Outcomes, second: Outcomes, k: int) -> dict[str, Any]:
    """Return the mean difference of pass@k over the problems both sides have, its interval and its p-value."""
    names = [name for name in first if name in second and min(len(first[name]), len(second[name])) >= k]
    differences = [_pass_at_k(second[name], k) - _pass_at_k(first[name], k) for name in names]
    if not differences:
        return {"pairs": 0, "difference": None, "low": None, "high": None, "p": None, "significant": None}
    low, high = _interval(differences)
    p = _sign_flip(differences)
    return {"pairs": len(names), "difference": math.fsum(differences) / len(names), "low": low, "high": high, "p": p,
            "significant": p < SIGNIFICANT}  # fmt: skip


def _pass_at_k(rows: Mapping[int, Execution], k: int) -> float:
    """1 - C(n - c, k) / C(n, k) (Chen et al. 2021)."""
    return 1 - math.comb(len(rows) - len(_passing(rows)), k) / math.comb(len(rows), k)


def _interval(differences: list[float]) -> tuple[float, float]:
    import numpy as np

    values = np.array(differences)
    drawn = np.random.default_rng(SEED).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def _sign_flip(differences: list[float]) -> float:
    """Return how often the sum, signs drawn anew, is at least as far from nought; equal sides give 1."""
    import numpy as np

    values = np.abs([each for each in differences if each])
    actual = abs(math.fsum(differences)) - 1e-12
    if len(values) <= EXACT:
        numbers = np.arange(2 ** len(values))[:, None]
        signs = 1 - 2 * ((numbers >> np.arange(len(values))) & 1)
        return float(np.mean(np.abs(signs @ values) >= actual))
    signs = np.random.default_rng(SEED).choice([-1, 1], size=(RESAMPLES, len(values)))
    # The observed signs are one of the choices, so that no p is nought.
    return float((1 + np.sum(np.abs(signs @ values) >= actual)) / (1 + RESAMPLES))
