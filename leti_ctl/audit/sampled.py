"""What a model sampled: its token ids are its text's, and its prompt's length the prompt's, by its own tokenizer."""

from __future__ import annotations

from collections.abc import Iterator

from tokenizers import Tokenizer

from leti_ctl.audit.objects import Reader
from leti_ctl.audit.progress import Progress, unheard
from leti_ctl.inventory.catalog import Catalog
from leti_ctl.inventory.finding import Finding
from leti_ctl.inventory.spelling import tokenizer_file
from stages.contract.artifacts import Part, Ref
from stages.contract.records import Problem, Sample
from stages.contract.spec import Pass, RunSpec

MOST = 20
"""Findings of one artifact: another tokenizer would make one of every row."""


def check(catalog: Catalog, spec: RunSpec, progress: Progress = unheard) -> Iterator[list[Finding]]:
    """Yield, artifact by artifact, the samples whose columns contradict each other."""
    for done, iteration in enumerate(catalog.iterations):
        progress(done, len(catalog.iterations), f"spelling out what iteration {iteration} sampled")
        tokenizer = _tokenizer(catalog, Ref("checkpoint", iteration))
        if tokenizer is None:
            continue
        for one in spec.passes():
            found = _pass(Reader(catalog), spec, iteration, one, tokenizer)
            yield [finding for finding, _ in zip(found, range(MOST), strict=False)]


def _pass(reader: Reader, spec: RunSpec, iteration: int, one: Pass, tokenizer: Tokenizer) -> Iterator[Finding]:
    problems = {row.problem_id: row for row in reader.read(Ref("problems", split=one.split), Problem)}
    ref = Ref("samples", iteration, one.name)
    names = spec.model.tokens.as_tuple()
    prompts: dict[str, list[int]] = {}
    for row in reader.read(ref, Sample):
        problem = problems.get(row.problem_id)
        if problem is None:
            continue  # which reading it has told
        if row.problem_id not in prompts:
            prompts[row.problem_id] = _encode(tokenizer, problem.prompt, names.reward(row.reward_token))
        prompt, key = prompts[row.problem_id], f"{ref.prefix} {row.problem_id} sample {row.sample}"
        if len(prompt) != row.num_prompt_tokens:
            yield Finding("tokens", key, f"a prompt of {len(prompt)} tokens", str(row.num_prompt_tokens))
        if not _is_text_of(tokenizer, row, prompt):
            yield Finding("tokens", key, "the token ids of the solution", "those of another text")


def _encode(tokenizer: Tokenizer, text: str, token: str = "") -> list[int]:
    """Return the ids of a special token, if one is named, and of the text, whatever that spells."""
    first = tokenizer.token_to_id(token) if token else None
    return [*([] if first is None else [first]), *tokenizer.encode(text, add_special_tokens=False).ids]


def _is_text_of(tokenizer: Tokenizer, row: Sample, prompt: list[int]) -> bool:
    """Whether the ids spell the solution behind the prompt, as sampled ones do, or are the solution's, as given ones.

    Decoders of SentencePiece kind drop a leading blank; with the id before them they do not.
    """
    before = tokenizer.decode(prompt[-1:], skip_special_tokens=False)
    text = tokenizer.decode([*prompt[-1:], *row.token_ids], skip_special_tokens=False).removeprefix(before)
    return text == row.solution or _encode(tokenizer, row.solution) == list(row.token_ids)


def _tokenizer(catalog: Catalog, ref: Ref) -> Tokenizer | None:
    """Return the checkpoint's, or None where it has none that can be read: its training rows told why."""
    record = catalog.part(ref, Part())
    item = tokenizer_file(record.objects) if record else None
    if item is None:
        return None
    with Reader(catalog).spooled(item) as file:
        data = file.read()
    try:
        tokenizer = Tokenizer.from_str(data.decode())
    except Exception:  # the library raises nothing narrower
        return None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    return tokenizer
