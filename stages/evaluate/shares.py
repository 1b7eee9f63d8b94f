"""The task's own scores: every problem's share, summed over problems, with the interval that pass@k has too."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from stages.contract.records import Execution, Interval, Problem
from stages.evaluate.bootstrap import Bootstrap
from stages.tasks.task import Figures, Ratio

ABSENT = Ratio(0.0, 0.0)
"""The share of a problem that a score is not about."""


class Shares:
    """The shares of a pass's problems; executions that the platform failed on count as never drawn."""

    def __init__(self, figures: Figures, problems: Iterable[Problem], executions: Iterable[Execution]) -> None:
        by_problem: dict[str, list[Execution]] = {}
        for row in executions:
            if row.outcome != "infra_error":
                # Feedback is most of a row, and no score is made from it.
                by_problem.setdefault(row.problem_id, []).append(row.model_copy(update={"feedback": ""}))
        self.shares = [
            figures(problem, sorted(by_problem[problem.problem_id], key=lambda row: row.sample))
            for problem in problems
            if problem.problem_id in by_problem
        ]

    def figures(self, resamples: int, seed: int) -> dict[str, Interval]:
        """Return every score by name, in the order the task first names them."""
        names = dict.fromkeys(name for shares in self.shares for name in shares)
        bootstrap = Bootstrap(max(1, len(self.shares)), resamples=resamples, seed=seed)
        return {name: self._interval(name, bootstrap) for name in names}

    def _interval(self, name: str, bootstrap: Bootstrap) -> Interval:
        ratios = [shares.get(name, ABSENT) for shares in self.shares]
        numerators, denominators = (np.array(column, dtype=np.float64) for column in zip(*ratios, strict=True))
        return bootstrap.interval(numerators, denominators)
