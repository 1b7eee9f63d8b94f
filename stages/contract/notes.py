"""Notes: texts about solutions that people or programs write, matched by problem and solution.

A file of notes is JSONL, a note a line:

    {"problem_id": "mbpp/601", "solution_sha256": "9f86d0...", "text": "The loop never reaches the last element."}
    {"problem_id": "mbpp/602", "iteration": 3, "sample": 17, "text": "Sorts, but the order is to be kept."}

`solution_sha256` names every sample of the problem with that text, in any iteration; `iteration` and `sample` name one
and win over it. Further columns are ignored, so that a line of `leti-ctl notes` is a note as soon as it has a text, and
a line without text is none. Of two notes on the same solution the later line counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import ConfigDict, NonNegativeInt, ValidationError, model_validator

from stages.contract.artifacts import Part, Ref
from stages.contract.errors import UsageError
from stages.contract.records import Execution, Outcome, Record, Sample, first_fault
from stages.contract.store import address, open_store

WAITING = "waiting"


class Line(Record):
    """A line of a file of notes."""

    model_config = ConfigDict(extra="ignore")

    problem_id: str
    solution_sha256: str | None = None
    iteration: NonNegativeInt | None = None
    sample: NonNegativeInt | None = None
    text: str = ""

    @model_validator(mode="after")
    def _names_one(self) -> Line:
        if self.solution_sha256 is None and (self.iteration is None or self.sample is None):
            raise ValueError("names no solution; give solution_sha256, or iteration and sample")
        return self


class Request(Record):
    """A solution to write a note on: the line is one as soon as it has a `text`."""

    problem_id: str
    solution_sha256: str
    iteration: NonNegativeInt
    samples: tuple[NonNegativeInt, ...]
    """All that have this solution."""
    prompt: str
    solution: str
    outcome: Outcome
    error_type: str | None
    feedback: str
    """What the program's failure printed."""
    text: str = ""


class Notes(NamedTuple):
    """The notes of one file."""

    sha256: str
    """Of the file."""
    by_solution: dict[tuple[str, str], str]
    """Text by problem and digest."""
    by_sample: dict[tuple[str, int, int], str]
    """Text by problem, iteration and sample."""

    def find(self, sample: Sample, iteration: int) -> str:
        """Return the note on a sample, empty where there is none."""
        exact = self.by_sample.get((sample.problem_id, iteration, sample.sample), "")
        return exact or self.by_solution.get((sample.problem_id, solution_digest(sample.solution)), "")


def solution_digest(solution: str) -> str:
    """Return the SHA-256 by which notes name a solution."""
    return hashlib.sha256(solution.encode("utf-8", "surrogatepass")).hexdigest()


def read_notes(uri: str) -> Notes:
    """Return the notes of a file or of an object `s3://BUCKET/KEY`; one that does not exist yet holds none.

    `UsageError` names the address, the line and the column at fault.
    """
    data = _fetch(uri)
    lines = [_parse(uri, number, line) for number, line in enumerate(data.splitlines(), 1) if line.strip()]
    return Notes(
        hashlib.sha256(data).hexdigest(),
        {(each.problem_id, each.solution_sha256): each.text for each in lines if each.solution_sha256 and each.text},
        {
            (each.problem_id, each.iteration, each.sample): each.text
            for each in lines
            if each.iteration is not None and each.sample is not None and each.text
        },
    )


def requests(
    judged: Iterable[tuple[Sample, Execution]], prompts: Mapping[str, str], iteration: int, *, successes: bool = False
) -> Iterator[Request]:
    """Yield a request for each distinct solution of a problem that failed, or also that passed, by its first sample."""
    found: dict[tuple[str, str], list[tuple[Sample, Execution]]] = {}
    for sample, execution in judged:
        if execution.outcome != "infra_error" and (successes or execution.outcome != "passed"):
            key = (sample.problem_id, solution_digest(sample.solution))
            found.setdefault(key, []).append((sample, execution))
    for (problem_id, digest), same in found.items():
        sample, execution = same[0]
        yield Request(
            problem_id=problem_id,
            solution_sha256=digest,
            iteration=iteration,
            samples=tuple(each.sample for each, _ in same),
            prompt=prompts[problem_id],
            solution=sample.solution,
            outcome=execution.outcome,
            error_type=execution.error_type,
            feedback=execution.feedback,
        )


def waiting_key(iteration: int, split: str, part: Part) -> str:
    """Return where the failures of a part lie that wait for notes, relative to the run."""
    return f"{Ref('notes', iteration, split).prefix}/{WAITING}/{part.stem}.jsonl"


def _parse(uri: str, number: int, line: bytes) -> Line:
    try:
        return Line.model_validate_json(line)
    except ValidationError as error:
        raise UsageError(f"feedback.notes: {uri}, line {number}: {first_fault(error)}; correct the line") from error


def _fetch(uri: str) -> bytes:
    try:
        if uri.startswith("s3://"):
            base, options = address.split(uri)
            folder, _, name = base.rpartition("/")
            return open_store(folder + options).get(name)
        return Path(uri).read_bytes()
    except (KeyError, FileNotFoundError):
        return b""
    except OSError as error:
        raise UsageError(f"feedback.notes: cannot read {uri}: {error.strerror}; name a JSONL file") from error
