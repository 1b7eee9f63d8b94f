"""BIG-Bench-Hard (Suzgun et al. 2022, arXiv 2210.09261): 27 task files of questions, answered as text.

`task.source` is a checkout of github.com/suzgunmirac/BIG-Bench-Hard, of which these are read: `bbh/<task>.json`, the
questions; `cot-prompts/<task>.txt`, exemplars with a chain of thought; and, for the direct style, the prompts that the
benchmark's authors sent to code-davinci-002, since their exemplars are published nowhere else. The folder of the task
files works as well, with `cot-prompts` beside it or in it. So does a copy without those outputs: what they are is the
same exemplars with nothing but the answer after `A:`, so they are made of the chains of thought. (In
`date_understanding` one option differs: the published direct prompt asks about 1961 where the chain of thought was
mended to say 1963.)

A solution passes by `task.scoring`. The lenient scores are the paper's: the start of the text, or for chains of thought
any substring of it, so that "valid" is found in "invalid". The strict score is ours: the answer must be equal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stages.contract.errors import UsageError
from stages.contract.records import Execution, Problem, first_fault
from stages.contract.spec import Split, TaskSpec
from stages.tasks.task import Judgement, Observation, Ratio, Task

Style = Literal["direct", "cot"]

STEPS = "A: Let's think step by step."
RULER = "\n-----\n"
"""Ends the first line of a prompt file, which asks not to be trained on."""
PUBLISHED = "code-davinci-002-outputs/code-davinci-002-direct/{task}_few_shot_template_0-255000.json"

_ANSWER = re.compile(r"the answer is:?\s+(.+?)(?:\.(?=\s|$)|$)", re.IGNORECASE | re.MULTILINE)
_LETTER = re.compile(r"\(?([a-z])\)?")

M = TypeVar("M", bound=BaseModel)


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class Question(_Model):
    """An example of a task file."""

    input: str
    target: str = Field(pattern=r"\S")
    """Of a blank one every answer would begin with it."""


class Questions(_Model):
    """A task file; its canary is ignored."""

    examples: tuple[Question, ...] = Field(min_length=1)


class Output(_Model):
    """What code-davinci-002 was asked, of its published outputs."""

    input: str


class Outputs(_Model):
    """A file of published outputs."""

    outputs: tuple[Output, ...] = Field(min_length=1)


class Facts(_Model):
    """What the scores need to know of a question (`Problem.facts`)."""

    task: str
    target: str
    style: Style
    scoring: Literal["lenient", "strict"]


def load(spec: TaskSpec, split: Split) -> list[Problem]:
    """Return every question, task by task in the order of their names."""
    if split != "test":
        raise UsageError(f"task.name: bbh has only a test split, and the run asks for {split}; set iterations to 0")
    if spec.source is None:
        raise UsageError("task.source: bbh needs a checkout of github.com/suzgunmirac/BIG-Bench-Hard; name its folder")
    folder = Path(spec.source)
    files = sorted((folder / "bbh").glob("*.json")) or sorted(folder.glob("*.json"))
    if not files:
        raise UsageError(f"task.source: {folder} has no bbh/*.json; name a checkout of BIG-Bench-Hard")
    return [problem for file in files for problem in _problems(file, spec)]


def prompt(prefix: str, question: str, style: Style) -> str:
    """Return the prompt of a question; it ends without a space, so the model writes the one before its answer."""
    return f"{prefix}\nQ: {question}\n{'A:' if style == 'direct' else STEPS}"


def chain_of_thought_prefix(text: str) -> str:
    """Return what stands before the question: a prompt file without its canary and ruler, and one newline more."""
    _, ruler, exemplars = text.partition(RULER)
    if not ruler:
        raise ValueError("has no line of five dashes behind its canary; take the file as published")
    return exemplars + "\n"


def direct_prefix(text: str) -> str:
    """Return a prompt file's description and exemplars with their answers alone, as the published outputs show them."""
    description, *exemplars = chain_of_thought_prefix(text).split("\nQ: ")
    pairs = (_shortened(exemplar) for exemplar in exemplars)
    return description.rstrip() + "\n" + "".join(f"\nQ: {question}\nA: {answer}\n" for question, answer in pairs)


def published_prefix(inputs: Sequence[str]) -> str:
    """Return what the published inputs have before their question, which is the last; the same for all of them."""
    prefix = inputs[0].rpartition("\nQ: ")[0]
    if not prefix or not all(text.startswith(prefix) for text in inputs):
        raise ValueError("its inputs do not begin with the same exemplars; take the file as published")
    return prefix


def is_lenient_match(solution: str, target: str, style: Style) -> bool:
    """Whether the paper counts the solution as right."""
    if style == "direct":
        return solution.lstrip().startswith(target.lstrip())
    return target.strip() in own_text(solution)


def answer_of(solution: str, style: Style) -> str | None:
    """Return the answer a solution gives: its first line, or what its last "the answer is" says; None without one."""
    text = own_text(solution)
    if style == "direct":
        return normalized(text.partition("\n")[0]) or None
    stated = _ANSWER.findall(text)
    return (normalized(stated[-1]) or None) if stated else None


def own_text(solution: str) -> str:
    """Return the solution up to where the model goes on with a question of its own."""
    return solution.partition("Q:")[0].strip()


def normalized(answer: str) -> str:
    """Return an answer in lower case, single spaced, without marks around it, final period or brackets of a letter."""
    bare = " ".join(answer.lower().split()).lstrip("\"'`* ").rstrip("\"'`* .")
    letter = _LETTER.fullmatch(bare)
    return letter[1] if letter else bare


def evaluate(problem: Problem, solution: str, observation: Observation | None) -> Judgement:
    """Score a solution both ways."""
    facts = Facts.model_validate(problem.facts)
    answer = answer_of(solution, facts.style)
    measures = {
        "lenient": float(is_lenient_match(solution, facts.target, facts.style)),
        "strict": float(answer == normalized(facts.target)),
    }
    if measures[facts.scoring]:
        return Judgement("passed", None, "", answer, measures)
    said = "no answer" if answer is None else f"the answer {answer!r}"
    return Judgement("failed", None, f"Expected {facts.target!r}, got {said}.\n", answer, measures)


def figures(problem: Problem, executions: Sequence[Execution]) -> Mapping[str, Ratio]:
    """Return both scores, over all questions (as the paper) and over those of the problem's task."""
    task = Facts.model_validate(problem.facts).task
    shares = {
        name: Ratio(sum(one.measures[name] for one in executions), len(executions)) for name in ("lenient", "strict")
    }
    return {**shares, **{f"{name}/{task}": share for name, share in shares.items()}}


def _problems(file: Path, spec: TaskSpec) -> list[Problem]:
    task = file.stem
    prefix = _prefix(task, file.parent, spec.style)
    return [
        Problem(
            problem_id=f"bbh/{task}/{number}",
            prompt=prompt(prefix, question.input, spec.style),
            reference=f" {question.target}" if spec.style == "direct" else f"\nSo the answer is {question.target}.",
            facts=Facts(task=task, target=question.target, style=spec.style, scoring=spec.scoring).model_dump(),
        )
        for number, question in enumerate(_parsed(file, Questions).examples)
    ]


def _prefix(task: str, folder: Path, style: Style) -> str:
    published, written = _near(folder, PUBLISHED.format(task=task)), _near(folder, f"cot-prompts/{task}.txt")
    path = published if style == "direct" and published.is_file() else written
    try:
        if path == published:
            return published_prefix([output.input for output in _parsed(path, Outputs).outputs])
        text = _read(path).decode()
        return direct_prefix(text) if style == "direct" else chain_of_thought_prefix(text)
    except ValueError as error:
        raise UsageError(f"task.source: {path} {error}") from error


def _near(folder: Path, path: str) -> Path:
    """Return a file that is in the folder of the task files or, as in a checkout, beside that folder."""
    within = folder / path
    return within if within.is_file() else folder.parent / path


def _shortened(exemplar: str) -> tuple[str, str]:
    """Return question and answer of an exemplar that answers after a chain of thought."""
    question, thought, reasoning = exemplar.partition(f"\n{STEPS}")
    stated = _ANSWER.findall(reasoning)
    if not thought or not stated:
        raise ValueError(f"has an exemplar without {STEPS!r} and 'the answer is'; take the file as published")
    return question, stated[-1]


def _parsed(path: Path, kind: type[M]) -> M:
    try:
        return kind.model_validate_json(_read(path))
    except ValidationError as error:
        raise UsageError(f"task.source: {path}: {first_fault(error)}; take the file as published") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"task.source: cannot read {path}: {error.strerror}; name a checkout of BIG-Bench-Hard"
        ) from error


TASK = Task(load, is_program=False, evaluate=evaluate, figures=figures)
