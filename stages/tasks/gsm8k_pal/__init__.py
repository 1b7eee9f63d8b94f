"""GSM8K (Cobbe et al. 2021, arXiv 2110.14168), answered with programs as in PaL (Gao et al. 2022, arXiv 2211.10435).

The model reads exemplars and a question and writes `def solution():`, a program of its own. Its value is brought out
of the sandbox as the tests' exhibit and compared here, so that wrong answers are known too and can be voted on.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, JsonValue, field_validator

from stages.contract.errors import UsageError
from stages.contract.records import Execution, Problem
from stages.contract.spec import Split, TaskSpec
from stages.tasks import rows
from stages.tasks.task import Judgement, Observation, Ratio, Task

HUB_NAME, CONFIGURATION = "openai/gsm8k", "main"
EXEMPLARS = Path(__file__).with_name("exemplars.txt")
QUERY = "Q: {question}\n# solution in Python:"
TESTS = ("exhibit = solution()",)
EXACT_FLOATS = 2**53
"""Whole numbers below are the same number as int and as float."""
LONGEST_ANSWER, SHOWN = 200, 100
"""Characters of an answer; and of one that is longer."""


class Row(BaseModel):
    """A line of GSM8K in PaL's columns (`input`, `target`) or in its own (`question`, `answer`)."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    input: str = Field(min_length=1, validation_alias=AliasChoices("input", "question"))
    target: int | float = Field(validation_alias=AliasChoices("target", "answer"))

    @field_validator("target", mode="before")
    @classmethod
    def _final_answer(cls, value: object) -> object:
        """Of GSM8K's worked answers, the number after the last `####`."""
        if not isinstance(value, str):
            return value
        text = value.rpartition("####")[2].strip().replace(",", "")
        try:
            return int(text) if text.lstrip("-").isdecimal() else float(text)
        except ValueError:
            raise ValueError(f"no number after ####, got {text[-40:]!r}") from None


def load(spec: TaskSpec, split: Split) -> list[Problem]:
    """Return the split's problems in file order, from the hub (`train` and `test`) or from `task.source` (`test`)."""
    source = spec.source or HUB_NAME
    if rows.is_file(source):
        parts = {"test": rows.read_file(source, Row, benchmark="GSM8K")}
    else:
        parts = rows.read_dataset(source, Row, benchmark="GSM8K", configuration=CONFIGURATION)
    if split not in parts:
        raise UsageError(
            f"task.source: {source} has no {split} split (only {', '.join(parts)}); set iterations to 0 and "
            "evaluate.splits to [test]"
        )
    template = read_template(spec.prompt_file)
    return [_problem(row, f"{split}-{number}", template, spec.tolerance) for number, row in enumerate(parts[split])]


def read_template(prompt_file: str | None) -> str:
    """Return the text around `{question}`: exemplars, the question, three newlines (the official code's layout).

    A file of exemplars is followed by the question; one that holds `{question}` itself says where the question stands.
    """
    path = EXEMPLARS if prompt_file is None else Path(prompt_file)
    try:
        exemplars = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(f"task.prompt_file: cannot read {path}: {reason}; name a text file of exemplars") from error
    return (exemplars if "{question}" in exemplars else f"{exemplars}\n{QUERY}") + "\n\n\n"


def _problem(row: Row, number: str, template: str, tolerance: float) -> Problem:
    return Problem(
        problem_id=f"gsm8k_pal/{number}",
        prompt=template.replace("{question}", row.input),
        program_prompt="",
        tests=TESTS,
        facts={"target": row.target, "tolerance": tolerance},
    )


def evaluate(problem: Problem, solution: str, seen: Observation | None) -> Judgement:
    """Compare what `solution()` returned with the target; a wrong answer fails as an assert of it would."""
    assert seen is not None, "solutions of GSM8K are run"
    if seen.outcome != "passed":
        return Judgement(seen.outcome, seen.error_type, seen.feedback)
    answer = canonical(seen.exhibit)
    if is_right(seen.exhibit, problem.facts["target"], problem.facts["tolerance"]):
        return Judgement("passed", answer=answer)
    return Judgement("failed", "AssertionError", _failed_assert(problem, solution), answer)


def is_right(value: JsonValue, target: JsonValue, tolerance: JsonValue) -> bool:
    """Whether an answer counts: equal to the target, or with a tolerance, as a number closer to it than that (PaL)."""
    assert isinstance(target, (int, float)) and isinstance(tolerance, (int, float))
    if not tolerance:
        return value == target
    if not isinstance(value, (int, float, str)):
        return False
    try:
        return abs(float(value) - target) < tolerance
    except (ValueError, OverflowError):
        return False


def canonical(value: JsonValue) -> str:
    """Return a text that is the same for values that Python takes for equal numbers: 18, 18.0; 1, True.

    What is no plain data is None, as is what a function without `return` gives; a long text is known by its digest.
    """
    if isinstance(value, bool):
        value = int(value)
    if isinstance(value, float) and math.isfinite(value) and value.is_integer() and abs(value) < EXACT_FLOATS:
        value = int(value)
    text = repr(value)
    if len(text) <= LONGEST_ANSWER:
        return text
    return f"{text[:SHOWN]}... {hashlib.sha256(text.encode()).hexdigest()}"


def _failed_assert(problem: Problem, solution: str) -> str:
    """What CPython prints of the official check, an assert on the line after the solution.

    The two are one program there; here the comparison is made outside the sandbox, and the text is written for it.
    """
    line = solution.replace("\r\n", "\n").replace("\r", "\n").count("\n") + 2
    target = problem.facts["target"]
    return (
        "Traceback (most recent call last):\n"
        f'  File "<string>", line {line}, in <module>\n'
        f"    assert solution() == {target!r}\n"
        "AssertionError\n"
    )


def figures(problem: Problem, executions: Sequence[Execution]) -> dict[str, Ratio]:
    """Return whether the most frequent answer is right (PaL's majority vote; of equals the first drawn wins).

    Programs that fail to run have no vote.
    """
    votes = Counter(row.answer for row in executions if row.answer is not None)
    if not votes:
        return {"majority_vote": Ratio(0.0)}
    winner = votes.most_common(1)[0][0]
    right = any(row.answer == winner and row.outcome == "passed" for row in executions)
    return {"majority_vote": Ratio(float(right))}


TASK = Task(load, evaluate=evaluate, figures=figures)
