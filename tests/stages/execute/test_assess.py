"""The task's evaluator and the judge's verdict, put together."""

from __future__ import annotations

import pytest

from stages.contract.records import Execution, Problem, Sample
from stages.contract.spec import RunSpec
from stages.execute.assess import Assessor
from stages.execute.judge import Program, Verdict
from stages.tasks.task import Judgement, Observation, Task

PROBLEM = Problem(problem_id="t/1", prompt="Q", facts={"target": 4})
SAMPLE = Sample(problem_id="t/1", sample=3, reward_token="none", solution=" 4", token_ids=(1,), finish_reason="eos",
                num_prompt_tokens=1, seed=0)  # fmt: skip
VERDICT = Verdict("passed", None, "", 0.1, "process-split", exhibit=4)


def load(*_: object) -> list[Problem]:
    return [PROBLEM]


def compare(problem: Problem, solution: str, seen: Observation | None) -> Judgement:
    if seen and seen.outcome != "passed":
        return Judgement(seen.outcome, seen.error_type, seen.feedback)
    answer = seen.exhibit if seen else int(solution)
    if answer == problem.facts["target"]:
        return Judgement("passed", answer=str(answer), measures={"exact": 1})
    return Judgement("failed", "WrongAnswer", f"wrong:\x07 {answer}" + "x" * 5000, str(answer), {"exact": 0})


def row(task: Task, verdict: Verdict | None, solution: str = " 4") -> Execution:
    program = Program("", solution, "", ())
    return Assessor(RunSpec(), task).row(PROBLEM, SAMPLE, program, verdict)


def test_without_an_evaluator_the_judges_verdict_stands() -> None:
    failed = Verdict("failed", "NameError", "NameError: x\n", 0.1, "process-split")
    found = row(Task(load), failed)
    assert (found.outcome, found.error_type, found.feedback) == ("failed", "NameError", "NameError: x\n")
    assert (found.isolation, found.answer, found.measures) == ("process-split", None, {})


def test_an_evaluator_judges_what_the_tests_exhibit() -> None:
    found = row(Task(load, evaluate=compare), VERDICT)
    assert (found.outcome, found.answer, found.measures) == ("passed", "4", {"exact": 1})
    wrong = row(Task(load, evaluate=compare), Verdict("passed", None, "", 0.1, "process-split", exhibit=5))
    assert (wrong.outcome, wrong.error_type, wrong.answer) == ("failed", "WrongAnswer", "5")


def test_text_is_judged_without_a_sandbox() -> None:
    found = row(Task(load, is_program=False, evaluate=compare), None)
    assert (found.outcome, found.isolation) == ("passed", "none")


def test_what_an_evaluator_says_is_capped_and_hides_nothing() -> None:
    found = row(Task(load, is_program=False, evaluate=compare), None, "5")
    assert len(found.feedback) <= RunSpec().execute.feedback_chars
    assert "\x07" not in found.feedback


@pytest.mark.parametrize("task", [Task(load), Task(load, evaluate=compare)])
def test_no_evaluator_is_asked_about_what_the_platform_failed_on(task: Task) -> None:
    found = row(task, Verdict("infra_error", None, "", 0.1, "process-split"))
    assert (found.outcome, found.feedback) == ("infra_error", "")
