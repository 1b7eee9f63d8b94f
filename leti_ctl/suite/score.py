"""What a cell comes to, from the metrics its runs committed: a value, its interval, and what to know about it.

Intervals are the metrics' own (95 %, bootstrap over problems). Of a difference, a gain or a ratio's parts, widths are
added in quadrature, as of independent estimates; runs on the same problems are not independent, so this is too wide
rather than too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from leti_ctl.suite.book import Cell, Unit
from leti_ctl.suite.resolve import Wanted, iteration
from stages.contract.artifacts import Ref
from stages.contract.errors import LetiError
from stages.contract.records import Interval, Metrics
from stages.contract.run import Run
from stages.contract.spec import RunSpec

Open = Callable[[Wanted], tuple[Run, RunSpec]]
NORMAL_95 = 1.96


class Value(NamedTuple):
    """A number with its interval, where there is one."""

    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""

    def times(self, factor: float) -> Value:
        """Return it in another unit."""
        low, high = (None if bound is None else bound * factor for bound in (self.low, self.high))
        return self._replace(value=self.value * factor, low=low, high=high)

    def from_published(self, other: float) -> Value:
        """Return how far it lies from a number that came without an interval."""
        low, high = (None if bound is None else bound - other for bound in (self.low, self.high))
        return self._replace(value=self.value - other, low=low, high=high)

    def minus(self, other: Value) -> Value:
        """Return the difference; its interval is there when both have one."""
        value = self.value - other.value
        note = self.note or other.note
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return Value(value, note=note)
        below = math.hypot(self.value - self.low, other.high - other.value)
        above = math.hypot(self.high - self.value, other.value - other.low)
        return Value(value, value - below, value + above, note)


class Gap(NamedTuple):
    """Why a cell has no number."""

    reason: str


class Scores:
    """Reads cells from a store; `open_run` gives a run and the spec it was driven with."""

    def __init__(self, open_run: Open) -> None:
        self._open = open_run
        self._rows: dict[tuple[str, int, str], list[Metrics]] = {}

    def read(self, cell: Cell, sources: Sequence[Wanted], unit: Unit) -> Value | Gap:
        """Return what a cell comes to in its unit, or why it has no number."""
        try:
            found = self._measure(cell, sources)
        except (LetiError, KeyError, StopIteration):
            return Gap("not run")
        if isinstance(found, Gap):
            return found
        return found.times(100) if unit == "percent" else found

    def _measure(self, cell: Cell, sources: Sequence[Wanted]) -> Value | Gap:
        if cell.measure != "score":
            return self._over_iterations(cell, sources)
        if cell.evaluation is None:
            (run,) = sources
            number = iteration(run, cell.at)
            # The model that the last training left is tested, and samples for no further training.
            return self._score(run, min(number, run.spec.iterations - (cell.split == "train")), cell)
        values = [self._score(one, 0, cell) for one in sources]
        gaps = [each for each in values if isinstance(each, Gap)]
        if gaps:
            return gaps[0]
        first, *others = [each for each in values if isinstance(each, Value)]
        return first.minus(others[0]) if others else first

    def _score(self, wanted: Wanted, number: int, cell: Cell) -> Value | Gap:
        """The figure of one model: the best of its temperatures."""
        rows = self._metrics(wanted, number, cell.split)
        values = [figure(row, cell.figure, cell.listed) for row in rows]
        known = [each for each in values if isinstance(each, Value)]
        return max(known, key=lambda each: each.value) if known else values[0]

    def _over_iterations(self, cell: Cell, sources: Sequence[Wanted]) -> Value | Gap:
        run, *others = sources
        if cell.measure == "gain_ratio" and not others:
            return Gap("")
        scores = [self._score(run, number, cell.model_copy(update={"figure": "pass@1"}))
                  for number in range(self._open(run)[1].iterations + 1)]  # fmt: skip
        curve = [each for each in scores if isinstance(each, Value)]
        if len(curve) < 2 or len(curve) < len(scores):
            return Gap("fewer than two iterations are scored")
        if cell.measure == "correlation":
            return self._correlation(run, curve, cell)
        if cell.measure != "gain_ratio":
            return of_curve(curve, cell.measure)
        other = self._over_iterations(cell.model_copy(update={"measure": "gain"}), others)
        gain = of_curve(curve, "gain")
        if isinstance(other, Gap) or other.value <= 0:
            return Gap("the other run gains nothing")
        return Value(gain.value / other.value)

    def _correlation(self, run: Wanted, curve: Sequence[Value], cell: Cell) -> Value | Gap:
        others = [self._score(run, number, cell) for number in range(len(curve))]
        known = [each for each in others if isinstance(each, Value)]
        if len(known) < len(others):
            return next(each for each in others if isinstance(each, Gap))
        return pearson([each.value for each in curve], [each.value for each in known])

    def _metrics(self, wanted: Wanted, number: int, split: str) -> list[Metrics]:
        key = (wanted.name, number, split)
        if key not in self._rows:
            run, spec = self._open(wanted)
            names = [one.name for one in spec.passes() if one.split == split]
            self._rows[key] = [next(run.read(Ref("metrics", number, name), Metrics)) for name in names]
        return self._rows[key]


def figure(row: Metrics, name: str, listed: Sequence[str] = ()) -> Value | Gap:
    """Return a figure of one pass: pass@K, solve_rate, executable_rate, share:ERROR, figures.NAME."""
    kind, _, rest = name.partition(":")
    if kind == "share":
        return _share(row, rest, listed)
    if name.startswith("pass@"):
        return _pass_at(row.pass_at_k, int(name.removeprefix("pass@")))
    named = row.figures.get(name.removeprefix("figures.")) if name.startswith("figures.") else getattr(row, name)
    return _value(named) if isinstance(named, Interval) else Gap(f"the task has no {name.removeprefix('figures.')}")


def of_curve(curve: Sequence[Value], measure: str) -> Value:
    """Return a measure of a run's scores, base model first. The best is that of a trained model, the earliest among
    equals; it was chosen for its score, so it flatters."""
    first, *trained = curve
    number, best = max(enumerate(trained, 1), key=lambda pair: (pair[1].value, -pair[0]))
    if measure == "initial":
        return first
    if measure == "best":
        return best
    return Value(float(number)) if measure == "best_iteration" else best.minus(first).times(1 / number)


def pearson(first: Sequence[float], second: Sequence[float]) -> Value | Gap:
    """Return Pearson's correlation with Fisher's interval."""
    count = len(first)
    means = sum(first) / count, sum(second) / count
    pairs = [(a - means[0], b - means[1]) for a, b in zip(first, second, strict=True)]
    spread = math.sqrt(sum(a * a for a, _ in pairs) * sum(b * b for _, b in pairs))
    if count < 3 or spread == 0:
        return Gap("needs three iterations whose scores differ")
    value = max(-1.0, min(1.0, sum(a * b for a, b in pairs) / spread))
    if count < 4 or abs(value) == 1:
        return Value(value)
    width = NORMAL_95 / math.sqrt(count - 3)
    return Value(value, math.tanh(math.atanh(value) - width), math.tanh(math.atanh(value) + width))


def _pass_at(estimates: Mapping[str, Interval], k: int) -> Value | Gap:
    known = [int(each) for each in estimates if int(each) <= k]
    if not known:
        return Gap(f"too few samples for pass@{k}")
    found = max(known)
    return _value(estimates[str(found)])._replace(note="" if found == k else f"pass@{found}")


def _share(row: Metrics, name: str, listed: Sequence[str]) -> Value | Gap:
    """Share of the samples that were judged; `passed` and `other` are what they say."""
    judged = row.num_samples - row.num_infra_errors
    if judged == 0:
        return Gap("no sample was judged")
    passed = row.outcomes.get("passed", 0)
    counted = sum(row.error_types.get(each, 0) for each in listed)
    count = {"passed": passed, "other": judged - passed - counted}.get(name, row.error_types.get(name, 0))
    return Value(count / judged)


def _value(interval: Interval) -> Value:
    return Value(interval.value, interval.low, interval.high)
