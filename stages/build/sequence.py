"""Training sequences as token ids: FCFT's (paper section 2.3), or the supervised baseline's (its appendix B.3).

    <|good|> prompt solution
    <|bad|> <|text_feedback|> feedback <|/text_feedback|> prompt solution
    <first token> prompt solution <end of sequence>

Special ids come from their names, never from text: everything a person or a model wrote is tokenised with special
tokens switched off, and special ids that a model sampled are left out of its solution, as they are of its text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from stages.build.hint import appended, hint
from stages.contract.cuts import cut
from stages.contract.errors import ArtifactError, ModelError
from stages.contract.prompts import cap, sanitize
from stages.contract.records import Execution, Sample
from stages.contract.spec import RunSpec

T = TypeVar("T")
FILES = frozenset({"tokenizer.json", "tokenizer_config.json"})
"""What of a checkpoint an `Encoder` reads; the weights beside them are gigabytes."""
CHUNK = 1024
"""Samples tokenised together."""


class Example(NamedTuple):
    """One training sequence."""

    problem_id: str
    sample: int
    passed: bool
    ids: NDArray[np.int32]
    first_target: int
    """Every token from here on is a training target, at least 1: nothing stands before the first token that could
    predict it."""
    truncated: bool = False
    dropped_special_ids: int = 0
    """Special ids that the model sampled and that are left out."""


class Segments(NamedTuple):
    """The parts of a sequence as ids, before they are joined."""

    first: int
    """The reward token, or the tokenizer's first token."""
    feedback: list[int]
    """Without its delimiters; empty when there is no block."""
    prompt: list[int]
    solution: list[int]


class Encoder:
    """Turns judged samples into sequences."""

    def __init__(self, folder: Path, spec: RunSpec) -> None:
        self.spec, self.build = spec, spec.build
        self.tokenizer = _load_tokenizer(folder)
        # From here on a special token's name in a text is ordinary characters.
        self.tokenizer.encode_special_tokens = True
        tokens = spec.model.tokens
        self.good, self.bad = self._id(tokens.good), self._id(tokens.bad)
        self.open, self.close = self._id(tokens.feedback_open), self._id(tokens.feedback_close)
        self.supervised = spec.build.form == "supervised"
        ends = self.supervised or spec.task.hint or spec.build.append_eos != "never"
        self.eos = _declared_id(folder, self.tokenizer, "eos_token") if ends else None
        self.bos = _bos_id(folder, self.tokenizer) if self.supervised else None
        added = self.tokenizer.get_added_tokens_decoder()
        self.special = frozenset(number for number, token in added.items() if token.special)

    def encode(self, judged: Iterable[tuple[Sample, Execution]], prompts: dict[str, str]) -> Iterator[Example]:
        """Yield one example per judged sample, in order; `prompts` by problem id."""
        for chunk in _chunks(judged, CHUNK):
            feedback = self._blocks(chunk)
            texts = self._texts([sample for sample, _ in chunk], prompts)
            for (sample, execution), block, (prompt, solution) in zip(chunk, feedback, texts, strict=True):
                passed = execution.outcome == "passed"
                first = self.bos if self.bos is not None else self.good if passed else self.bad
                yield self._example(sample, passed, Segments(first, block, prompt, solution))

    def _blocks(self, chunk: Sequence[tuple[Sample, Execution]]) -> list[list[int]]:
        """Return the ids of each sample's feedback: the execution's, then the hint if the spec has them."""
        told = [(self._feedback(execution), self._hint(sample)) for sample, execution in chunk]
        longest = self.spec.execute.feedback_chars
        blocks = self._tokenize([cap(sanitize(appended(*each)), longest) for each in told])
        return [
            ids + ([self.eos] if text and self.eos is not None else [])
            for ids, (_, text) in zip(blocks, told, strict=True)
        ]

    def _hint(self, sample: Sample) -> str:
        task = self.spec.task
        return hint(sample.solution, cut(task.postprocess, sample.solution)) if task.hint else ""

    def _feedback(self, execution: Execution) -> str:
        if execution.outcome == "passed" and execution.feedback and not self.spec.feedback.successes:
            raise ArtifactError(
                f"{execution.problem_id}, sample {execution.sample}: passed and yet has feedback; execute it again"
            )
        return execution.feedback if self.build.textual_feedback and not self.supervised else ""

    def _texts(self, samples: Sequence[Sample], prompts: dict[str, str]) -> Iterator[tuple[list[int], list[int]]]:
        """Yield the ids of prompt and solution of each sample."""
        if self.build.solution_ids == "generated":
            named = sorted({sample.problem_id for sample in samples})
            encoded = dict(zip(named, self._tokenize([prompts[name] for name in named]), strict=True))
            for sample in samples:
                yield encoded[sample.problem_id], self._sampled_ids(sample)
        else:
            yield from self._retokenized(samples, prompts)

    def _sampled_ids(self, sample: Sample) -> list[int]:
        ids = [number for number in sample.token_ids if number not in self.special]
        return ids + self._end(sample, sample.solution)

    def _retokenized(self, samples: Sequence[Sample], prompts: dict[str, str]) -> Iterator[tuple[list[int], list[int]]]:
        """Tokenise prompt and solution as one text; a token across the border counts as the solution's."""
        solutions = [cut(self.spec.task.rule(), sample.solution) for sample in samples]
        texts = [prompts[sample.problem_id] + solution for sample, solution in zip(samples, solutions, strict=True)]
        for sample, solution, encoding in zip(samples, solutions, self._encode(texts), strict=True):
            border = len(prompts[sample.problem_id])
            in_prompt = sum(end <= border for _, end in encoding.offsets)
            yield encoding.ids[:in_prompt], encoding.ids[in_prompt:] + self._end(sample, solution)

    def _end(self, sample: Sample, solution: str) -> list[int]:
        """The end-of-sequence id where the model ended what is trained on, or at a cut if the spec counts those.

        Every supervised row ends with it.
        """
        cut = solution.rstrip() != sample.solution.rstrip()
        ended = self.build.append_eos == "ended_or_cut" if cut else sample.finish_reason == "eos"
        ended = self.supervised or (ended and self.build.append_eos != "never")
        return [self.eos] if self.eos is not None and ended else []

    def _example(self, sample: Sample, passed: bool, segments: Segments) -> Example:
        kept = shorten(segments, self.build.max_length, self.build.truncate)
        block = [self.open, *kept.feedback, self.close] if kept.feedback else []
        head = [kept.first, *block]
        ids = np.array([*head, *kept.prompt, *kept.solution][: self.build.max_length], dtype=np.int32)
        before_solution = len(head) + len(kept.prompt)
        first_target = {"all": 1, "without_feedback": len(head), "solution": before_solution}[self.build.loss_on]
        truncated = len(ids) < length(segments)
        dropped = 0
        if self.build.solution_ids == "generated":
            dropped = sum(number in self.special for number in sample.token_ids)
        return Example(sample.problem_id, sample.sample, passed, ids, first_target, truncated, dropped)

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._encode(texts)]

    def _encode(self, texts: Sequence[str]) -> list:  # type: ignore[type-arg]  # of tokenizers.Encoding
        encodings = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        for text, encoding in zip(texts, encodings, strict=True):
            if not self.special.isdisjoint(encoding.ids):
                raise ArtifactError(f"a special token came out of the text {text[:60]!r}; mend the model's tokenizer")
        return encodings

    def _id(self, name: str) -> int:
        number = self.tokenizer.token_to_id(name)
        if number is None:
            raise ModelError(f"the checkpoint's tokenizer has no {name!r}; prepare the run again")
        return int(number)


def length(segments: Segments) -> int:
    """Return the tokens of a sequence, delimiters included."""
    delimiters = 2 if segments.feedback else 0
    return 1 + delimiters + len(segments.feedback) + len(segments.prompt) + len(segments.solution)


def shorten(segments: Segments, longest: int, how: str) -> Segments:
    """Return the segments with feedback cut from its start so that the sequence fits, as far as that goes.

    `how` "right" changes nothing: whoever joins the segments cuts the end, which also takes what remains too long here.
    """
    excess = length(segments) - longest
    if how == "right" or excess <= 0:
        return segments
    return segments._replace(feedback=segments.feedback[excess:])


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _load_tokenizer(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not path.is_file():
        found = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise ModelError(f"the checkpoint has no tokenizer.json, only {found}; use a model with a fast tokenizer")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _bos_id(folder: Path, tokenizer: Tokenizer) -> int:
    """The token a supervised row begins with: the tokenizer's own, or where it has none the one that ends texts."""
    declared = _declared(folder, "bos_token")
    return _declared_id(folder, tokenizer, "bos_token" if declared else "eos_token")


def _declared_id(folder: Path, tokenizer: Tokenizer, role: str) -> int:
    name = _declared(folder, role)
    number = tokenizer.token_to_id(name) if name else None
    if number is None:
        raise ModelError(
            f"the tokenizer's {role} is {name!r}, which has no id, and build.append_eos, build.form supervised and "
            "task.hint need one; set them to never, conditioned and false"
        )
    return int(number)


def _declared(folder: Path, role: str) -> str | None:
    path = folder / "tokenizer_config.json"
    declared = json.loads(path.read_text()).get(role) if path.is_file() else None
    return declared["content"] if isinstance(declared, dict) else declared
