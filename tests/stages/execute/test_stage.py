"""The stage around the judge: how programs are put together, and which verdicts a run accepts."""

from __future__ import annotations

import pytest

from stages.contract.records import Problem, Sample
from stages.contract.spec import RunSpec
from stages.execute.judge import Verdict
from stages.execute.stage import accepted, assemble

PROBLEM = Problem(
    problem_id="p", prompt='def add(a, b):\n    """Sum."""\n', tests=("assert add(1, 2) == 3",), setup="x = 1"
)


def make_spec(**sections: dict[str, str]) -> RunSpec:
    return RunSpec.model_validate(sections)


def make_sample(solution: str, token: str = "good") -> Sample:
    row = {"problem_id": "p", "sample": 0, "reward_token": token, "solution": solution, "token_ids": (1,)}
    return Sample.model_validate({**row, "finish_reason": "eos", "num_prompt_tokens": 3, "seed": 1})


def test_a_program_is_prompt_and_solution_then_setup_then_tests() -> None:
    program = assemble(RunSpec(), PROBLEM, make_sample("    return a + b\n"))
    assert (program.prompt, program.solution) == (PROBLEM.prompt, "    return a + b\n")
    assert (program.setup, program.tests) == ("x = 1", PROBLEM.tests)


@pytest.mark.parametrize(
    ("how", "left"), [("none", "\na / b\nprint(1)"), ("first_block", "\na / b"), ("first_block_legacy", "\na")]
)
def test_a_solution_is_cut_as_the_task_says(how: str, left: str) -> None:
    spec = make_spec(task={"postprocess": how}, build={"solution_ids": "retokenized"})
    assert assemble(spec, PROBLEM, make_sample("\na / b\nprint(1)")).solution == left


def test_the_official_slip_eats_the_first_letter_of_a_conditioned_prompt() -> None:
    slip = make_spec(execute={"reward_token_removal": "character_set"})
    assert assemble(slip, PROBLEM, make_sample("")).prompt.startswith("ef add")
    assert assemble(slip, PROBLEM, make_sample("", "none")).prompt.startswith("def add")
    assert assemble(RunSpec(), PROBLEM, make_sample("")).prompt.startswith("def add")


def make_verdict(isolation: str) -> Verdict:
    return Verdict(outcome="failed", error_type="KeyError", feedback="text", seconds=0.1, isolation=isolation)


def test_a_verdict_behind_too_little_is_no_label() -> None:
    strict = make_spec(execute={"least_isolation": "split"})
    refused = accepted(make_verdict("gvisor-beside"), strict)
    assert (refused.outcome, refused.error_type, refused.feedback) == ("infra_error", None, "")
    assert accepted(make_verdict("gvisor-split"), strict).outcome == "failed"
    assert accepted(make_verdict("gvisor-beside"), RunSpec()).outcome == "failed"
