"""From what the judge saw of a program to its `Execution`: the task's own evaluator has the last word.

Evaluators run here, in the stage's process: nothing a candidate wrote shares an interpreter with them.
"""

from __future__ import annotations

import hashlib
from typing import cast

from stages.contract.prompts import cap, sanitize
from stages.contract.records import Execution, Outcome, Problem, Sample
from stages.contract.spec import RunSpec
from stages.execute.judge import Program, Verdict
from stages.tasks.task import Judgement, Observation, Task

TEXT = "none"
"""Isolation of a solution that is text and was not run."""


class Assessor:
    """Turns samples, programs and verdicts of one run into rows."""

    def __init__(self, spec: RunSpec, task: Task) -> None:
        self.spec, self.task = spec, task

    def row(self, problem: Problem, sample: Sample, program: Program, verdict: Verdict | None) -> Execution:
        """Return the execution of a sample; `verdict` is None where solutions are text."""
        judged = self.judge(problem, program.solution, verdict)
        text = "\n".join((program.prompt + program.solution, program.setup, *program.tests))
        return Execution(
            problem_id=sample.problem_id,
            sample=sample.sample,
            program_sha256=hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
            outcome=judged.outcome,
            error_type=judged.error_type,
            feedback=judged.feedback,
            isolation=verdict.isolation if verdict else TEXT,
            answer=judged.answer,
            measures=dict(judged.measures),
        )

    def judge(self, problem: Problem, solution: str, verdict: Verdict | None) -> Judgement:
        """Return the task's judgement, or the judge's where the task has none to add."""
        seen = _observation(verdict) if verdict else None
        if self.task.evaluate is None or (seen and seen.outcome == "infra_error"):
            assert seen is not None, "a task whose solutions are not run judges their text itself"
            return Judgement(seen.outcome, seen.error_type, seen.feedback)
        judged = self.task.evaluate(problem, solution, seen)
        feedback = cap(sanitize(judged.feedback), self.spec.execute.feedback_chars)
        return Judgement(judged.outcome, judged.error_type, feedback, judged.answer, judged.measures)


def _observation(verdict: Verdict) -> Observation:
    return Observation(cast(Outcome, verdict.outcome), verdict.error_type, verdict.feedback, verdict.exhibit)
