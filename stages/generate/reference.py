"""An engine that answers with the data set's own solutions: the training data of the supervised baseline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from stages.contract.errors import SpecError
from stages.contract.records import Problem
from stages.contract.spec import Sampling
from stages.generate.codec import Codec
from stages.generate.engine import Completed, Completion, Progress, Request

FILES = frozenset({"tokenizer.json", "tokenizer_config.json", "config.json", "generation_config.json"})
"""What it reads of a checkpoint."""


class ReferenceEngine:
    """Answers a problem with its reference, from a line of its own, exactly as the data set has it."""

    def __init__(self, problems: Iterable[Problem], checkpoint: Path) -> None:
        self.references = {problem.problem_id: problem.reference for problem in problems}
        self.codec = Codec(checkpoint)
        self.counters: dict[str, float] = {}

    def generate(self, requests: Sequence[Request], sampling: Sampling, progress: Progress) -> Iterator[Completed]:
        """Yield one answer per request, in order; `SpecError` for a problem whose data set has no solution."""
        tokens = 0
        for done, request in enumerate(requests, 1):
            reference = self.references[request.problem_id]
            if not reference.strip():
                raise SpecError(
                    f"generate.solutions: 'reference', but {request.problem_id} comes without a solution; set sampled"
                )
            text = reference if request.prompt.endswith("\n") else f"\n{reference}"
            answer = Completion(text, tuple(self.codec.encode(text)), "eos")
            tokens += len(answer.token_ids)
            progress(done, tokens)
            yield Completed(len(self.codec.encode(request.prompt, request.reward_token)), [answer] * len(request.seeds))
