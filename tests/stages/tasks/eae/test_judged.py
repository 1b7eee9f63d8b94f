"""Completions behind the judge's walls: the portrait that crosses, the feedback, and what liars get."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from stages.contract.records import Problem
from stages.contract.spec import TaskSpec
from stages.execute.judge import Judge, Program, Verdict
from stages.tasks import load_problems
from stages.tasks.eae.evaluator import evaluate
from stages.tasks.task import Judgement, Observation
from tests.stages.tasks.eae.test_evaluator import PROBLEM, RIGHT, run
from tests.stages.tasks.passes import make_pass


def verdicts(judge: Judge, asked: Sequence[tuple[Problem, str]]) -> list[Verdict]:
    """Return what the judge saw of each problem's completion."""
    return list(judge.run([Program(one.program_prompt or "", text, one.setup, one.tests) for one, text in asked]))


def judged(judge: Judge, asked: Sequence[tuple[Problem, str]]) -> list[Judgement]:
    """Return what the evaluator makes of it."""
    return [
        evaluate(problem, text, Observation(seen.outcome, seen.error_type, seen.feedback, seen.exhibit))  # type: ignore[arg-type]
        for (problem, text), seen in zip(asked, verdicts(judge, asked), strict=True)
    ]


def ask(completions: Sequence[str]) -> list[tuple[Problem, str]]:
    return [(PROBLEM, text) for text in completions]


SHOWN = (
    RIGHT,
    ")",
    'attacker=PER("x"), target=["the airport", FAC, FAC(7), None, 3.5], place="abc")',
    'attacker={PER("a"): 1}, target=(FAC(name) for name in ["x", "y"]), place=range(2))',
    'attacker=None, target=[[], FAC("é\\n")], place={FAC("z")})',
)


def test_the_portrait_that_crosses_is_the_one_python_draws(judge: Judge) -> None:
    seen = verdicts(judge, ask(SHOWN))
    assert {one.isolation for one in seen} == {"process-split"}
    assert [one.exhibit for one in seen] == [run(completion) for completion in SHOWN]


def test_programs_that_fail_by_themselves_are_told_what_python_says(judge: Judge) -> None:
    line = PROBLEM.prompt.count("\n")
    wrong, open_, unknown = verdicts(judge, ask(["attackers=[])", 'attacker=[PER("x")', "attacker=[ABC('x')])"]))
    assert f"line {line}, in <module>\n    attack_event = Attack(\n" in wrong.feedback
    assert wrong.feedback.endswith("TypeError: Attack.__init__() got an unexpected keyword argument 'attackers'\n")
    assert open_.error_type == "SyntaxError"
    assert unknown.feedback.endswith("NameError: name 'ABC' is not defined\n")


# Each knows the right answer and does not instantiate it.
LIES = (
    ")\ndef portray_role(role, value):\n    return {right}\n",
    ")\ndef portray_entity(entity):\n    return {right}\n",
    ")\nexhibit = {right}\n",
    ")\nimport builtins\nbuiltins.getattr = lambda *given: {right}\n",
    ")\ngetattr = lambda *given: {right}\n",
    ")\nimport json, os\nos._exit(0)\n",
    ")\nraise SystemExit(0)\n",
    ")\nattack_event.__class__.__len__ = lambda self: 4\n",
)


def test_a_portrait_is_drawn_by_the_tests_and_not_by_the_solution(judge: Judge) -> None:
    right = run(RIGHT)
    lies = judged(judge, ask([lie.replace("{right}", repr(right)) for lie in LIES]))
    assert [one.outcome for one in lies] == ["failed"] * len(LIES)
    assert judged(judge, ask([RIGHT]))[0].outcome == "passed"


@pytest.mark.slow
def test_references_pass_and_none_does_without_its_last_argument(judge: Judge) -> None:
    problems = load_problems(TaskSpec(name="eae"), "validation")
    complete, incomplete = (
        judged(judge, [(one, change(one.reference)) for one in problems]) for change in (str, without_last_argument)
    )
    assert {one.outcome for one in complete} == {"passed"}
    assert {one.outcome for one in incomplete} == {"failed"}
    assert all("arguments are identified correctly" in one.feedback for one in incomplete)


def without_last_argument(reference: str) -> str:
    lines = reference.splitlines(keepends=True)
    del lines[max(number for number, line in enumerate(lines) if line.startswith(" " * 8))]
    return "".join(lines)


def test_a_pass_from_completions_to_scores(tmp_path: Path) -> None:
    problems = {one.problem_id: one for one in load_problems(TaskSpec(name="eae", test_problems=3), "test")}
    assert [len(one.facts["gold"]) for one in problems.values()] == [3, 3, 2]  # type: ignore[arg-type]
    first, second, third = problems
    solutions = {
        first: [problems[first].reference + '\nprint("goes on")', 'artifact=[VEH("the damaged ferry")])'],
        second: [")", "attacker=[PER(])"],
        third: ['place=[LOC("the palace"), ORG("Veterans")], entity=[PER("nobody")])', "entity=5)"],
    }
    _, executions, metrics = make_pass(tmp_path, {"name": "eae", "postprocess": "event"}, solutions)
    assert [row.outcome for row in executions] == ["passed", *["failed"] * 5]
    assert [row.error_type for row in executions[1:]] == ["ValueError"] * 2 + ["SyntaxError"] + ["ValueError"] * 2
    assert executions[4].feedback == (
        'ValueError: The argument "Veterans" is identified successfully but assigned to the wrong role "Place"\n'
    )
    # Gold is 2 * (3 + 3 + 2) = 16. Predicted: 3 and 1; none; 2 and none. Identified all 6, classified 5 of them.
    assert {name: figure.value for name, figure in metrics.figures.items()} == pytest.approx(
        {
            "arg_i_precision": 6 / 6,
            "arg_i_recall": 6 / 16,
            "arg_i_f1": 12 / 22,
            "arg_c_precision": 5 / 6,
            "arg_c_recall": 5 / 16,
            "arg_c_f1": 10 / 22,
            "hallucinated": 1 / 7,
        }
    )
    assert metrics.error_types == {"ValueError": 4, "SyntaxError": 1}
