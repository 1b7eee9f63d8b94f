"""Reading samples beside their executions, as a person inspects them."""

from __future__ import annotations

from typing import Any, NamedTuple

from leti_ctl import control
from stages.contract.artifacts import Ref
from stages.contract.cuts import cut
from stages.contract.errors import UsageError
from stages.contract.records import Execution, Problem, Sample
from stages.contract.run import Run
from stages.contract.spec import Pass


class Filter(NamedTuple):
    """Which samples to read; None matches all. `outcome` is an outcome or an error type."""

    iteration: int
    split: str
    problem: str | None = None
    outcome: str | None = None
    limit: int = 5


def read_samples(run: Run, wanted: Filter) -> list[dict[str, Any]]:
    """Return the first samples that match, each with its prompt, solution, verdict and feedback.

    Samples that are not executed yet have null verdicts, so that a running iteration can be read too.
    """
    one = _pass(run, wanted.split)
    prompts = {problem.problem_id: problem for problem in run.read(Ref("problems", split=one.split), Problem)}
    if wanted.problem and wanted.problem not in prompts:
        raise UsageError(f"--problem {wanted.problem!r}: split {one.split} has no such problem, but {_some(prompts)}")
    executions = _executions(run, wanted)
    found: list[dict[str, Any]] = []
    for sample in _samples(run, wanted):
        execution = executions.get((sample.problem_id, sample.sample))
        row = _row(sample, execution, prompts[sample.problem_id], run.spec.task.rule())
        if _matches(row, wanted):
            found.append(row)
        if len(found) == wanted.limit:
            break
    return found


def _pass(run: Run, name: str) -> Pass:
    passes = {one.name: one for one in control.current_spec(run).passes()}
    if name not in passes:
        raise UsageError(f"--split {name!r}: this run has {', '.join(passes)}")
    return passes[name]


def _samples(run: Run, wanted: Filter) -> list[Sample]:
    ref = Ref("samples", wanted.iteration, wanted.split)
    if run.find_index(ref) is None:
        raise UsageError(f"run {run.name}: no complete samples for iteration {wanted.iteration}, split {wanted.split}")
    return list(run.read(ref, Sample))


def _executions(run: Run, wanted: Filter) -> dict[tuple[str, int], Execution]:
    ref = Ref("executions", wanted.iteration, wanted.split)
    if run.find_index(ref) is None:
        return {}
    return {(row.problem_id, row.sample): row for row in run.read(ref, Execution)}


def _row(sample: Sample, execution: Execution | None, problem: Problem, how: str) -> dict[str, Any]:
    """`how` is the spec's `task.rule()`: `executed` is what that left of the solution."""
    return {
        "problem_id": sample.problem_id,
        "sample": sample.sample,
        "reward_token": sample.reward_token,
        "prompt": problem.prompt,
        "solution": sample.solution,
        "executed": cut(how, sample.solution),
        "finish_reason": sample.finish_reason,
        "tokens": len(sample.token_ids),
        "outcome": execution.outcome if execution else None,
        "error_type": execution.error_type if execution else None,
        "isolation": execution.isolation if execution else None,
        "feedback": execution.feedback if execution else None,
    }


def _matches(row: dict[str, Any], wanted: Filter) -> bool:
    if wanted.problem and row["problem_id"] != wanted.problem:
        return False
    return wanted.outcome is None or wanted.outcome in (row["outcome"], row["error_type"])


def _some(names: dict[str, Problem]) -> str:
    shown = list(names)[:3]
    return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
