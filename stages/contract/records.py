"""The rows of every artifact. One frozen class per artifact; unknown or missing columns are refused.

Measured times are not among the columns: a row must come out the same when its part is run again, so what was
measured (seconds, tokens per second) stands in the part record beside the data (`artifacts.PartRecord`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, NonNegativeInt, ValidationError

from stages.contract.errors import ArtifactError

Outcome = Literal["passed", "failed", "timed_out", "out_of_memory", "output_limit", "infra_error"]
FinishReason = Literal["eos", "length"]
RewardToken = Literal["none", "good", "bad"]


class Record(BaseModel):
    """A row: frozen, exactly its columns, no silent conversion between types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ser_json_inf_nan="constants")


class Problem(Record):
    """One benchmark item. `prompt` is what the model reads; the program is prompt + solution, setup, tests."""

    problem_id: str
    prompt: str
    """Text the model continues; also the first part of the program. LETI's MBPP prompt has no trailing newline."""
    program_prompt: str | None = None
    """First part of the program where that is not the prompt; empty where the solution is a program of its own."""
    tests: tuple[str, ...] = ()
    """None where solutions are text that is not run."""
    setup: str = ""
    """Code that runs after the solution and before the tests."""
    reference: str = ""
    """The data set's own solution; for the supervised baseline and for checks, never shown to the model."""
    facts: dict[str, JsonValue] = {}
    """What the task's own evaluator needs to know: a target, gold arguments, the group that figures are made for."""


class Sample(Record):
    """One completion of one problem."""

    problem_id: str
    sample: NonNegativeInt
    reward_token: RewardToken
    """The token that stood before the prompt when this was sampled."""
    solution: str
    """What the model wrote, without special tokens."""
    token_ids: tuple[int, ...]
    """The ids as sampled, without the end-of-sequence token."""
    finish_reason: FinishReason
    num_prompt_tokens: NonNegativeInt
    seed: NonNegativeInt
    """The 63-bit seed of this very sample; with the model it determines the row."""


class Execution(Record):
    """What happened to one program."""

    problem_id: str
    sample: NonNegativeInt
    program_sha256: str
    """Of the exact text that ran; equal programs were run once."""
    outcome: Outcome
    error_type: str | None
    """The exception class CPython reports; None when passed."""
    feedback: str
    """What was wrong: the traceback, or what the spec's `feedback` makes of it; empty when passed."""
    isolation: str
    """The wall the verdict was made behind, as the judge names it; `none` for text that was not run."""
    answer: str | None = None
    """What the task's evaluator took for the answer, spelled so that equal answers are equal texts."""
    measures: dict[str, float] = {}
    """Numbers the task's evaluator found, such as the arguments a prediction got right."""


class Note(Record):
    """What somebody, a person or a program, has to say about a solution."""

    problem_id: str
    sample: NonNegativeInt
    solution_sha256: str
    """Of the solution's text as it was sampled, in UTF-8."""
    text: str


class PackedRow(Record):
    """One row of a training step: whole examples laid end to end, no padding.

    A step's rows hold exactly `train.batch_size` examples; examples of a row may not attend to each other.
    """

    epoch: NonNegativeInt
    step: NonNegativeInt
    """FCFT step within the iteration, over all epochs."""
    input_ids: tuple[int, ...]
    lengths: tuple[int, ...]
    """Tokens per example; sums to the number of input ids."""
    loss_mask: tuple[int, ...]
    """1 where the token is a training target."""
    problem_ids: tuple[str, ...]
    samples: tuple[int, ...]


class Block(Record):
    """One block of the pre-training stream: a fixed number of tokens of concatenated files."""

    block: NonNegativeInt
    input_ids: tuple[int, ...]


class StepLog(Record):
    """One optimizer step, as trained."""

    step: NonNegativeInt
    stream: Literal["fcft", "pretraining", "joint"]
    loss: float
    """Sum of token cross-entropies over the step divided by its number of targets."""
    num_targets: NonNegativeInt
    learning_rate: float


class Interval(Record):
    """An estimate with its bootstrap confidence interval (over problems, 95 %)."""

    value: float
    low: float
    high: float


class Metrics(Record):
    """What `evaluate` found for one iteration's model on one split."""

    iteration: NonNegativeInt
    split: str
    temperature: float
    reward_token: RewardToken
    num_problems: NonNegativeInt
    """Problems that the figures below are about."""
    num_excluded_problems: NonNegativeInt = 0
    """Problems left without a sample by infrastructure errors."""
    num_samples: NonNegativeInt
    """All samples, those with infrastructure errors included."""
    num_infra_errors: NonNegativeInt
    """Samples the platform failed on; excluded from every figure below."""
    pass_at_k: dict[str, Interval]
    """Keyed by k; only those k that every problem has samples for."""
    solve_rate: Interval
    """Share of problems with at least one passing sample (pass@n)."""
    executable_rate: Interval
    """Share of samples that pass or end in AssertionError (paper section 3.2)."""
    error_types: dict[str, NonNegativeInt]
    """Exception class to number of samples, most frequent first; outcomes without a class under their own name."""
    outcomes: dict[str, NonNegativeInt]
    """Outcome to number of samples, most frequent first."""
    mean_solution_tokens: float
    """Per sample, without the end-of-sequence token."""
    mean_feedback_characters: float
    """Per sample that did not pass."""
    eos_rate: float = Field(ge=0, le=1)
    """Share of samples that the model ended itself."""
    num_overlong_prompts: NonNegativeInt = 0
    """Problems whose prompt left no room to write anything."""
    figures: dict[str, Interval] = {}
    """The task's own scores, such as a majority vote or an F1."""


R = TypeVar("R", bound=Record)


def write_rows(rows: Iterable[Record]) -> Iterator[bytes]:
    """Yield each row as one line of JSON with the columns in class order, so that equal rows are equal bytes."""
    for row in rows:
        yield row.model_dump_json().encode() + b"\n"


def read_rows(lines: Iterable[bytes], record: type[R], *, source: str) -> Iterator[R]:
    """Yield the rows of a JSONL object; `ArtifactError` names the source, the line and the column at fault."""
    for number, line in enumerate(lines, 1):
        try:
            yield record.model_validate_json(line)
        except ValidationError as error:
            raise ArtifactError(f"{source}, line {number}: {first_fault(error)}") from error


def first_fault(error: ValidationError) -> str:
    """One line for the first thing pydantic found: the field's dotted path, the message and the value."""
    fault = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "value_error":
        # A rule of our own: it shows the value itself, and names the field where it is about several.
        message = str(fault.get("ctx", {}).get("error", fault["msg"]))
        return f"{path}: {message}" if path else message
    shown = "" if fault["type"] == "missing" else f", got {fault['input']!r}"
    line = f"{fault['msg']}{shown if len(shown) <= 86 else shown[:83] + '...'}"
    return f"{path}: {line}" if path else line
