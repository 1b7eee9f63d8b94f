"""What a benchmark is to the stages: where its problems come from, and how a solution is judged beyond its tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import JsonValue

from stages.contract.records import Execution, Outcome, Problem
from stages.contract.spec import Split, TaskSpec


class Observation(NamedTuple):
    """What the judge saw of one program."""

    outcome: Outcome
    error_type: str | None
    feedback: str
    exhibit: JsonValue = None
    """What the tests bound to the name `exhibit`, as plain data; None where they bound nothing or did not pass."""


@dataclass(frozen=True)
class Judgement:
    """A verdict with its text, as it becomes an `Execution`."""

    outcome: Outcome
    error_type: str | None = None
    feedback: str = ""
    answer: str | None = None
    measures: Mapping[str, float] = field(default_factory=dict)


class Ratio(NamedTuple):
    """One problem's share of a score: the score is the sum of numerators over the sum of denominators."""

    numerator: float
    denominator: float = 1.0


Loader = Callable[[TaskSpec, Split], list[Problem]]
"""Returns a split's problems in file order; `UsageError` names `task.source`, the file, the line and the column."""
Evaluator = Callable[[Problem, str, "Observation | None"], Judgement]
"""Judges one solution, as cut: a pure function that runs in the stage's process and never in a candidate's sandbox.

The observation is None for a task whose solutions are not run.
"""
Figures = Callable[[Problem, Sequence[Execution]], Mapping[str, Ratio]]
"""Returns a problem's shares of the task's own scores, from its executions in sample order, feedback left out."""


@dataclass(frozen=True)
class Task:
    """One benchmark."""

    load: Loader
    is_program: bool = True
    """Whether solutions are programs; if not, they are never run and `evaluate` judges their text."""
    evaluate: Evaluator | None = None
    """None takes the judge's verdict as it is."""
    figures: Figures | None = None
    """None for a task that pass@k says everything about."""
