"""Every number of a run as points: name, step, value, time. They depend on what is committed and on nothing else.

| name | step | value |
|---|---|---|
| `PASS/pass_at_K`, `PASS/solve_rate`, ... with `_low`, `_high` | iteration | an estimate and its 95 % interval |
| `PASS/errors/TYPE`, `PASS/outcomes/OUTCOME` | iteration | share of the judged samples |
| `PASS/eos_rate`, `PASS/solution_tokens`, ... | iteration | lengths and counts |
| `loss/STREAM` | optimizer step, from the run's first | mean token cross-entropy of the step |
| `speed/...`, `seconds/STAGE`, `gpu_hours` | iteration | of iterations that are done |

A share that was told once is told in every later iteration, as 0 where the type is gone: a curve ends at nothing only
where the run does. Times are those of the part records.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from leti_ctl import control, decisions
from leti_ctl.results import summary
from stages.contract.artifacts import Part, PartRecord, Ref
from stages.contract.records import Interval, Metrics, StepLog
from stages.contract.run import Run

MOST_TYPES = 20
"""Error types of one iteration that get a curve of their own; candidates make up classes, and the rest is `other`."""
SPEEDS = ("tokens_per_second", "executions_per_second", "training_tokens_per_second")


class Point(NamedTuple):
    """One number. Names are made of word characters, `.`, `-` and `/`."""

    name: str
    step: int
    value: float
    at: float
    """Seconds since the epoch at which it was committed."""


def points(run: Run) -> Iterator[Point]:
    """Yield every number that the run has come to, each name's steps in ascending order."""
    spec = decisions.effective(run, control.current_spec(run))
    for one in spec.passes():
        yield from _pass_points(run, one.name, spec.iterations)
    yield from _loss_points(run, spec.iterations)
    for row in summary.summarize(run)["per_iteration"]:
        if row["done"] == row["units"]:
            yield from _speed_points(run, row, [one.name for one in spec.passes()])


def ended(record: PartRecord) -> float:
    """Return when a part was committed, in seconds since the epoch."""
    return datetime.fromisoformat(record.made.started_at).timestamp() + record.made.seconds


def clean(name: str) -> str:
    """Return a name that every tracker takes: word characters, `.` and `-`, at most 100."""
    return re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)[:100] or "_"


def _pass_points(run: Run, name: str, iterations: int) -> Iterator[Point]:
    told: dict[str, set[str]] = {"errors": set(), "outcomes": set()}
    for iteration in range(iterations + 1):
        ref = Ref("metrics", iteration, name)
        record = run.find_part(ref, Part())
        if record is None:
            continue
        metrics = next(run.read(ref, Metrics))
        for key, value in {**_estimates(metrics), **_plain(metrics), **_shares(metrics, told)}.items():
            yield Point(f"{clean(name)}/{key}", iteration, value, ended(record))


def _estimates(metrics: Metrics) -> dict[str, float]:
    named = {f"pass_at_{k}": estimate for k, estimate in metrics.pass_at_k.items()}
    named |= {"solve_rate": metrics.solve_rate, "executable_rate": metrics.executable_rate}
    figures: Mapping[str, Interval] = metrics.figures
    named |= {f"figures/{clean(name)}": estimate for name, estimate in figures.items()}
    found: dict[str, float] = {}
    for name, estimate in named.items():
        found |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return found


def _plain(metrics: Metrics) -> dict[str, float]:
    return {
        "solution_tokens": metrics.mean_solution_tokens,
        "feedback_characters": metrics.mean_feedback_characters,
        "eos_rate": metrics.eos_rate,
        "samples": metrics.num_samples,
        "infra_errors": metrics.num_infra_errors,
        "excluded_problems": metrics.num_excluded_problems,
    }


def _shares(metrics: Metrics, told: dict[str, set[str]]) -> dict[str, float]:
    judged = max(1, metrics.num_samples - metrics.num_infra_errors)
    found: dict[str, float] = {}
    for group, counts in (("errors", metrics.error_types), ("outcomes", metrics.outcomes)):
        told[group] |= set(list(counts)[:MOST_TYPES])
        for name in sorted(told[group]):
            key = f"{group}/{clean(name)}"
            found[key] = found.get(key, 0.0) + counts.get(name, 0) / judged
        others = sum(count for name, count in counts.items() if name not in told[group])
        if others or f"{group}/" in told:
            told.setdefault(f"{group}/", set())
            found[f"{group}/other"] = others / judged
    return found


def _loss_points(run: Run, iterations: int) -> Iterator[Point]:
    """Number the steps over the whole run; what follows an iteration whose log is missing has no number yet."""
    before = 0
    for iteration in range(iterations):
        ref = Ref("steps", iteration)
        record = run.find_part(ref, Part())
        if record is None:
            return
        end, steps = ended(record), list(run.read(ref, StepLog))
        for number, row in enumerate(steps):
            at = end - record.made.seconds * (len(steps) - 1 - number) / len(steps)
            yield Point(f"loss/{row.stream}", before + row.step, row.loss, at)
        before += len(steps)


def _speed_points(run: Run, row: Mapping[str, Any], passes: list[str]) -> Iterator[Point]:
    """What a finished iteration took. `at` is when its last score or its training was committed."""
    number = row["iteration"]
    refs = (Ref("steps", number), *(Ref("metrics", number, name) for name in passes))
    at = max((ended(record) for ref in refs if (record := run.find_part(ref, Part()))), default=0.0)
    for name in SPEEDS:
        if row[name] is not None:
            yield Point(f"speed/{name}", number, row[name], at)
    for stage, seconds in row["seconds"].items():
        yield Point(f"seconds/{stage}", number, seconds, at)
    yield Point("gpu_hours", number, row["gpu_hours"], at)
