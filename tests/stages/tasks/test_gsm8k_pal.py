"""GSM8K with programs: prompts in PaL's layout, answers compared outside the sandbox, votes as PaL counts them.

python -m pytest tests/stages/tasks/test_gsm8k_pal.py -q
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.contract.errors import UsageError
from stages.contract.records import Execution, Outcome, Problem
from stages.contract.spec import TaskSpec
from stages.execute.judge import Judge, Program, Verdict
from stages.tasks import load_problems, load_task
from stages.tasks.gsm8k_pal import EXEMPLARS, TASK, canonical, evaluate, figures, is_right
from stages.tasks.task import Judgement, Observation, Ratio
from tests.stages.tasks.passes import make_pass

ROOT = Path(__file__).parents[3]
REAL = ROOT.parent / "shared" / "data" / "gsm8k-first300.jsonl"
GOLDEN = ROOT / "tests" / "golden" / "prompt-gsm8k_pal.txt"
needs_real_rows = pytest.mark.skipif(not REAL.is_file(), reason="GSM8K's rows are not beside the repository")
TASK_TESTS = ("exhibit = solution()",)
QUESTION = "A crate holds 12 jars.  How many jars do {3} crates hold?"


def write(path: Path, *rows: dict[str, Any]) -> TaskSpec:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return TaskSpec(name="gsm8k_pal", source=str(path))


def problem(target: float = 18, tolerance: float = 0.0) -> Problem:
    facts: dict[str, Any] = {"target": target, "tolerance": tolerance}
    return Problem(problem_id="gsm8k_pal/test-0", prompt="", program_prompt="", facts=facts)


def assess(value: Any, target: float = 18, tolerance: float = 0.0) -> Judgement:
    """The judgement on a program whose `solution()` gave a value."""
    return evaluate(problem(target, tolerance), "", Observation("passed", None, "", value))


# Prompts


def test_a_prompt_matches_the_golden_file_to_the_last_character(tmp_path: Path) -> None:
    (one,) = load_problems(write(tmp_path / "g.jsonl", {"input": QUESTION, "target": 36}), "test")
    assert one.prompt == GOLDEN.read_text()
    assert one.prompt.endswith(f"\nQ: {QUESTION}\n# solution in Python:\n\n\n")


def test_exemplars_follow_each_other_without_a_blank_line_and_repeat_their_question() -> None:
    text = EXEMPLARS.read_text().strip()
    assert "\n\n" not in text and text.isascii()
    blocks = re.split(r"(?m)^Q: ", text)[1:]
    assert len(blocks) == 8
    for block in blocks:
        question, comment, signature, docstring, *body = block.strip().split("\n")
        assert (comment, signature, docstring) == ("# solution in Python:", "def solution():", f'    """{question}"""')
        assert body[-2].startswith("    result = ") and body[-1] == "    return result"


def test_every_exemplar_passes_its_own_check(judge: Judge) -> None:
    blocks = [block[block.index("def ") :] for block in re.split(r"(?m)^Q: ", EXEMPLARS.read_text())[1:]]
    verdicts = judge.run([Program("", block, "", TASK_TESTS) for block in blocks])
    assert [verdict.exhibit for verdict in verdicts] == [17, 40, 25, 16, 37, 19, 60, 27]


def test_exemplars_can_come_from_a_file(tmp_path: Path) -> None:
    plain, whole = tmp_path / "plain.txt", tmp_path / "whole.txt"
    plain.write_text("\nQ: one?\ndef solution():\n    return {1: 1}[1]\n\n")
    whole.write_text("Q: one?\n\n\nQ: {question}\n\n# solution in Python:\n")
    spec = write(tmp_path / "g.jsonl", {"input": QUESTION, "target": 36})
    prompts = [
        load_problems(spec.model_copy(update={"prompt_file": str(path)}), "test")[0].prompt for path in (plain, whole)
    ]
    assert prompts == [
        f"Q: one?\ndef solution():\n    return {{1: 1}}[1]\nQ: {QUESTION}\n# solution in Python:\n\n\n",
        f"Q: one?\n\n\nQ: {QUESTION}\n\n# solution in Python:\n\n\n",
    ]


def test_a_missing_file_of_exemplars_is_named(tmp_path: Path) -> None:
    spec = write(tmp_path / "g.jsonl", {"input": QUESTION, "target": 36})
    with pytest.raises(UsageError, match=r"task\.prompt_file: cannot read .*none\.txt: No such file"):
        load_problems(spec.model_copy(update={"prompt_file": str(tmp_path / "none.txt")}), "test")


# Rows


def test_pals_columns_and_gsm8ks_own_make_the_same_problems(tmp_path: Path) -> None:
    pal = write(tmp_path / "pal.jsonl", {"input": "a?", "target": 1234}, {"input": "b?", "target": -2.5})
    own = write(
        tmp_path / "own.jsonl",
        {"question": "a?", "answer": "5 * 2 = <<5*2=10>>10\n#### 1,234"},
        {"question": "b?", "answer": "#### 3\n#### -2.5"},
    )
    problems = load_problems(pal, "test")
    assert load_problems(own, "test") == problems
    assert [one.facts["target"] for one in problems] == [1234, -2.5]
    assert [one.problem_id for one in problems] == ["gsm8k_pal/test-0", "gsm8k_pal/test-1"]
    assert {(one.program_prompt, one.tests) for one in problems} == {("", TASK_TESTS)}


def test_the_tolerance_reaches_the_evaluator(tmp_path: Path) -> None:
    spec = write(tmp_path / "g.jsonl", {"input": "a?", "target": 3}).model_copy(update={"tolerance": 0.001})
    assert load_problems(spec, "test")[0].facts == {"target": 3, "tolerance": 0.001}


def test_a_file_holds_the_test_split_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no train split \(only test\)"):
        load_problems(write(tmp_path / "g.jsonl", {"input": "a?", "target": 3}), "train")


@pytest.mark.slow
def test_datasets_reads_a_folder_with_both_splits(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    for split in ("train", "test"):
        write(tmp_path / f"{split}.jsonl", {"question": f"{split}?", "answer": "#### 3"})
    spec = TaskSpec(name="gsm8k_pal", source=str(tmp_path))
    assert [load_problems(spec, split)[0].problem_id for split in ("train", "test")] == [
        "gsm8k_pal/train-0",
        "gsm8k_pal/test-0",
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"input": "a?"}, "line 2: target: Field required"),
        ({"target": 3}, "line 2: input: Field required"),
        ({"input": "a?", "target": True}, "line 2: target"),
        ({"input": "a?", "target": None}, "line 2: target"),
        ({"question": "a?", "answer": "#### many"}, "line 2: answer: no number after ####, got 'many'"),
        ({"question": "a?", "answer": ""}, "line 2: answer: no number after ####"),
        ({"input": "", "target": 3}, "line 2: input"),
    ],
)
def test_a_broken_line_is_named_with_file_line_and_column(tmp_path: Path, line: dict[str, Any], said: str) -> None:
    spec = write(tmp_path / "g.jsonl", {"input": "a?", "target": 3}, line)
    with pytest.raises(UsageError) as caught:
        load_problems(spec, "test")
    assert f"{spec.source}, {said}" in str(caught.value) and "\n" not in str(caught.value)


@needs_real_rows
def test_the_real_rows_are_read_and_none_of_them_is_an_exemplar() -> None:
    problems = load_problems(TaskSpec(name="gsm8k_pal", source=str(REAL)), "test")
    assert len(problems) == 300
    assert all(isinstance(one.facts["target"], int) for one in problems)
    exemplars = EXEMPLARS.read_text()
    assert all(one.prompt.count("# solution in Python:") == 9 for one in problems)
    assert not any(json.loads(line)["input"] in exemplars for line in REAL.read_text().splitlines())


# Answers


SOLUTIONS = {
    "right": "def solution():\n    return 18\n",
    "right as a float": "def solution():\n    return 36 / 2",
    "right as a fraction": "from fractions import Fraction\ndef solution(): return Fraction(36, 2)",
    "wrong": "def solution():\n    return 17\n\n",
    "nearly right": "from decimal import Decimal\ndef solution(): return Decimal('18.' + '0' * 20 + '1')",
    "nearly right as a fraction": "from fractions import Fraction\ndef solution(): return 18 + Fraction(1, 10**30)",
    "wrong with carriage returns": "def solution():\r\n    return 17\r\n",
    "a text": "def solution(): return '18'",
    "nothing": "def solution(): print(18)",
    "a liar": "class A:\n    __eq__ = lambda s, o: True\ndef solution(): return A()",
    "raises": "def solution():\n    return 1 / 0",
    "does not compile": "def solution()\n    return 18",
    "missing": "answer = 18",
    "takes arguments": "def solution(x): return 18",
}


def test_an_answer_is_judged_as_the_official_assert_judges_it(judge: Judge) -> None:
    def seen(verdict: Verdict) -> tuple[str, str | None, str]:
        return verdict.outcome, verdict.error_type, verdict.feedback

    one = problem(18)
    shown = judge.run([Program("", text, "", TASK_TESTS) for text in SOLUTIONS.values()])
    official = list(judge.run([Program("", text, "", ("assert solution() == 18",)) for text in SOLUTIONS.values()]))
    for (name, text), verdict, theirs in zip(SOLUTIONS.items(), shown, official, strict=True):
        ours = evaluate(one, text, Observation(*_outcome(verdict), verdict.exhibit))
        said = ours.feedback.replace("exhibit = solution()", "assert solution() == 18")
        assert (ours.outcome, ours.error_type, said) == seen(theirs), name
    assert [verdict.outcome for verdict in official].count("passed") == 3


def _outcome(verdict: Verdict) -> tuple[Outcome, str | None, str]:
    return verdict.outcome, verdict.error_type, verdict.feedback  # type: ignore[return-value]


def test_equality_is_exact_without_a_tolerance_and_pals_with_one() -> None:
    assert assess(18.0).outcome == "passed"
    assert assess(18.0005).outcome == assess("18").outcome == "failed"
    assert assess(18.0005, tolerance=1e-3).outcome == assess(" 18", tolerance=1e-3).outcome == "passed"
    assert assess("18.0").outcome == "failed"
    assert assess(18.0011, tolerance=1e-3).outcome == "failed"


@given(st.none() | st.integers() | st.floats() | st.booleans() | st.text(max_size=3) | st.lists(st.integers()))
def test_with_a_tolerance_the_answer_counts_where_pal_would_count_it(value: Any) -> None:
    try:
        expected = abs(float(value) - 18) < 1e-3
    except (TypeError, ValueError, OverflowError):
        expected = False
    assert is_right(value, 18, 1e-3) == expected


NUMBERS = st.sampled_from([18, 18.0, 17, 17.5, 1, 1.0, True, 0, -0.0, False, "18", "a", None, 2**60, 1e300])


@given(NUMBERS, NUMBERS)
def test_answers_are_spelled_alike_where_python_takes_them_for_equal(one: Any, other: Any) -> None:
    assert (canonical(one) == canonical(other)) == (one == other)


def test_a_long_answer_is_known_by_its_digest() -> None:
    one, other = canonical("a" * 60_000), canonical("a" * 59_999)
    assert one != other and len(one) < 200


# Votes


def executions(values: list[Any], target: float = 18) -> list[Execution]:
    """Rows of programs whose `solution()` gave these values; of those that raised where a value is an exception."""
    rows = []
    for number, value in enumerate(values):
        error = isinstance(value, Exception)
        seen = Observation("failed", "KeyError", "x") if error else Observation("passed", None, "", value)
        found = evaluate(problem(target), "", seen)
        rows.append(
            Execution(
                problem_id="gsm8k_pal/test-0", sample=number, program_sha256="0" * 64, outcome=found.outcome,
                error_type=found.error_type, feedback="", isolation="process-split", answer=found.answer,
            )
        )  # fmt: skip
    return rows


@pytest.mark.parametrize(
    ("values", "right"),
    [
        ([18, 17, 18.0], True),
        ([17, 18, 18, 17], False),
        ([18, 17, 17, 18], True),
        ([17, KeyError(), KeyError(), KeyError(), 18, 18], True),
        ([18, None, None], False),
        ([KeyError()], False),
        ([17, 16, 18], False),
    ],
)
def test_the_most_frequent_answer_wins_and_of_equals_the_first_drawn(values: list[Any], right: bool) -> None:
    assert figures(problem(), executions(values)) == {"majority_vote": Ratio(float(right))}


@given(st.lists(NUMBERS | st.just(KeyError()), min_size=1, max_size=12))
def test_votes_are_counted_as_pal_counts_values(values: list[Any]) -> None:
    cast = [value for value in values if not isinstance(value, Exception)]
    expected = bool(cast) and Counter(cast).most_common(1)[0][0] == 18
    assert figures(problem(), executions(values)) == {"majority_vote": Ratio(float(expected))}


def test_a_pass_is_scored_by_any_right_answer_and_by_the_vote(tmp_path: Path) -> None:
    spec = write(tmp_path / "g.jsonl", *({"input": f"{n}?", "target": 6 + n} for n in range(3)))
    drawn = (["6", "12 / 2", "5", "1 / 0"], ["5", "5", "7", "'7'"], ["None", "[9]", "{}['k']", "8.0001"])
    script = {
        f"gsm8k_pal/test-{number}": [f"def solution():\n    return {value}\n\nQ: And (\n" for value in values]
        for number, values in enumerate(drawn)
    }
    task = {"name": "gsm8k_pal", "source": spec.source, "postprocess": "question"}
    _, rows, metrics = make_pass(tmp_path, task, script)
    assert [row.answer for row in rows] == ["6", "6", "5", None, "5", "5", "7", "'7'", "None", "[9]", None, "8.0001"]
    assert [row.sample for row in rows if row.outcome == "passed"] == [0, 1, 2]
    assert metrics.solve_rate.value == 2 / 3
    assert metrics.pass_at_k["1"].value == pytest.approx(3 / 12)
    assert metrics.figures["majority_vote"].value == 1 / 3
    assert metrics.error_types == {"AssertionError": 7, "KeyError": 1, "ZeroDivisionError": 1}


def test_the_task_is_found_by_its_name() -> None:
    assert load_task("gsm8k_pal") is TASK
