"""An engine that replays solutions from a file, for tests and for looking at a run without a model's chance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import Field, ValidationError

from stages.contract.errors import UsageError
from stages.contract.records import Record, first_fault
from stages.contract.spec import Sampling
from stages.generate.codec import Codec
from stages.generate.engine import Completed, Completion, Progress, Request


class Script(Record):
    """A line of the script."""

    problem_id: str
    solutions: tuple[str, ...] = Field(min_length=1)


class ScriptedEngine:
    """Answers a problem with its scripted solutions, over again where more are wanted than there are."""

    def __init__(self, script: Path, checkpoint: Path) -> None:
        self.script, self.codec = script, Codec(checkpoint)
        self.solutions = read_script(script)
        self.counters: dict[str, float] = {}

    def generate(self, requests: Sequence[Request], sampling: Sampling, progress: Progress) -> Iterator[Completed]:
        """Yield one answer per request, in order. The sampling is not looked at; every solution ends itself."""
        done = tokens = 0
        for request in requests:
            if request.problem_id not in self.solutions:
                raise UsageError(f"generate.script: {self.script} has no line for {request.problem_id}; add one")
            known = [self._complete(text) for text in self.solutions[request.problem_id]]
            completions = [known[number % len(known)] for number in range(len(request.seeds))]
            done += len(completions)
            tokens += sum(len(one.token_ids) for one in completions)
            progress(done, tokens)
            yield Completed(len(self.codec.encode(request.prompt, request.reward_token)), completions)
        self.counters["tokens"] = tokens

    def _complete(self, text: str) -> Completion:
        return Completion(text, tuple(self.codec.encode(text)), "eos")


def read_script(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the solutions by problem; `UsageError` names the file, the line and the field at fault."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UsageError(f"generate.script: cannot read {path}: {error.strerror}; name a JSONL file") from error
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, 1):
        try:
            row = Script.model_validate_json(line)
        except ValidationError as error:
            raise UsageError(
                f"generate.script: {path}, line {number}: {first_fault(error)}; correct the line"
            ) from error
        found[row.problem_id] = row.solutions
    return found
