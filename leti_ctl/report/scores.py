"""Rows from metrics and training logs: one row per number, so that a table, a figure and a CSV read the same data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from stages.contract.records import Interval, Metrics, StepLog

Row = dict[str, Any]


class Spent(NamedTuple):
    """What was put into the model of an iteration: everything trained before it."""

    steps: int = 0
    samples: int = 0
    tokens: int = 0
    hours: float = 0.0

    def plus(self, other: Spent) -> Spent:
        """Return the sums."""
        return Spent(
            self.steps + other.steps,
            self.samples + other.samples,
            self.tokens + other.tokens,
            self.hours + other.hours,
        )


def score_rows(metrics: Metrics) -> Iterator[Row]:
    """Yield every estimate of a pass with its interval: pass@k, solve rate, executable rate, the task's own figures."""
    named: dict[str, Interval] = {f"pass@{k}": found for k, found in metrics.pass_at_k.items()}
    named |= {"solve rate": metrics.solve_rate, "executable rate": metrics.executable_rate}
    named |= metrics.figures
    for name, found in named.items():
        k = int(name.removeprefix("pass@")) if name.startswith("pass@") else None
        yield {"metric": name, "k": k, **found.model_dump(), "problems": metrics.num_problems}


def outcome_rows(metrics: Metrics) -> Iterator[Row]:
    """Yield what became of a pass's samples: `passed`, then every error type with its count and share."""
    judged = metrics.num_samples - metrics.num_infra_errors
    counts = {"passed": metrics.outcomes.get("passed", 0), **metrics.error_types}
    for name, count in counts.items():
        yield {"outcome": name, "count": count, "share": count / judged if judged else 0.0}


def length_row(metrics: Metrics, quantiles: Mapping[str, int]) -> Row:
    """Return how long a pass's solutions are and how many the model ended itself."""
    return {
        "mean_tokens": metrics.mean_solution_tokens,
        **{name: quantiles.get(name) for name in ("p10", "p25", "p50", "p75", "p90")},
        "eos_rate": metrics.eos_rate,
        "mean_feedback_characters": metrics.mean_feedback_characters,
    }


def efficiency_rows(spent: Mapping[int, Spent], scores: Iterable[Row]) -> Iterator[Row]:
    """Yield each iteration's scores beside what had been put into its model: steps, samples, tokens, hours."""
    for row in scores:
        if row["k"] is not None and row["iteration"] in spent:
            wanted = ("iteration", "pass", "split", "metric", "value", "low", "high")
            yield {**{name: row[name] for name in wanted}, **spent[row["iteration"]]._asdict()}


def loss_rows(steps: Iterable[tuple[int, StepLog]]) -> Iterator[Row]:
    """Yield the losses of (iteration, step) rows; `step` counts over the run."""
    for count, (iteration, step) in enumerate(steps):
        yield {
            "iteration": iteration,
            "stream": step.stream,
            "step": count,
            "loss": step.loss,
            "targets": step.num_targets,
            "learning_rate": step.learning_rate,
        }


def learned_rows(feedback: Iterable[Row]) -> Iterator[Row]:
    """Yield, per pass and kind of feedback: when it was most frequent, what is left of it, whether it has gone.

    `gone` means that the last iteration has less than a tenth of the greatest share; `learned` is how much of the
    greatest share is gone.
    """
    series: dict[tuple[str, str], dict[int, float]] = {}
    last: dict[str, int] = {}
    for row in feedback:
        series.setdefault((row["pass"], row["kind"]), {})[row["iteration"]] = row["share"]
        last[row["pass"]] = max(last.get(row["pass"], 0), row["iteration"])
    for (name, kind), shares in series.items():
        peak = max(shares, key=lambda iteration: (shares[iteration], -iteration))
        left = shares.get(last[name], 0.0)
        yield {"pass": name, "kind": kind, "first_seen": min(shares), "last_seen": max(shares), "peak": peak,
               "peak_share": shares[peak], "last_share": left, "learned": 1 - left / shares[peak],
               "gone": left < 0.1 * shares[peak]}  # fmt: skip
