"""The rows of the report's browser: problems x iterations, and of each pair a few solutions with verdict and feedback.

Every sample counts in the tables; texts are kept only as far as they fit a budget, because a run of 12 iterations, 374
problems and 128 samples wrote a gigabyte. Equal solutions of one pair are one *variant* with a count. Variants are
ranked so that the first few show every kind of outcome that occurred, and the page says how many it left out.

The shape, as JSON (`Rows.catalog`, then what `Rows.chunks` hold):

    catalog  {"runs": [RUN], "kinds": [KIND], "variants_per_pair": int, "texts_left_out": int}
    KIND     {"outcome", "error_type"}; outcome null stands for a sample that is not executed yet
    RUN      {"run", "task", "is_code", "passes": [PASS]}
    PASS     {"name", "split", "iterations": [int], "problems": [PROBLEM]}
    PROBLEM  {"id", "title", "chunk": int | null, "counts": [[kind, samples, kind, samples, ...] per iteration]}
    chunk    {problem id: {"prompt", "program_prompt", "tests", "setup", "reference", "facts",
              "variants": [[VARIANT] per iteration], "left_out": [int per iteration]}}
    VARIANT  {"sample", "samples", "kind", "solution", "ran": characters that were executed, "feedback", "reward_token",
              "finish_reason", "tokens", "answer"}
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile, zip_longest
from typing import Any, NamedTuple

from leti_ctl import control
from stages.contract.artifacts import Ref
from stages.contract.cuts import cut
from stages.contract.records import Execution, Problem, Sample
from stages.contract.run import Run
from stages.contract.spec import Pass, RunSpec

MOST_VARIANTS = 8
"""Texts of one (problem, iteration) pair, before the budget asks for fewer."""
MOST_CHARACTERS = 6000
"""Of one solution or feedback; the longest that a model of 512 new tokens writes is about 2000."""
CHUNK_CHARACTERS = 400_000
"""Problems are compressed together up to so much JSON; the page unpacks a chunk when one of its problems is opened."""
BUDGET = 10_000_000
"""Characters of compressed text in a page, for all its runs together."""
MOST_KINDS = 200
"""Kinds that the page tells apart, in order of appearance: solutions make up classes. The others are their outcome's
`(other)`.
"""
OTHER = "(other)"
_OPENING = re.compile(
    r"(?:write|create|implement) (?:an? |the )?(?:python )?(?:function|program|code) (?:to |that |which )", re.I
)
"""How half of all programming problems begin, which tells nobody which one it is."""
TEXT_TASKS = frozenset({"bbh"})
"""Tasks whose solutions are prose, which is not coloured as Python."""

Kind = tuple[str | None, str | None]


class Rows(NamedTuple):
    """What a page carries: the catalog as JSON data, and gzipped JSON in base64."""

    catalog: dict[str, Any]
    chunks: list[str]


class _Cell(NamedTuple):
    """One (problem, iteration) pair. What no page can show is let go at once: a run's texts are more than memory."""

    counts: list[int]
    variants: list[dict[str, Any]]
    """Ranked; at most `MOST_VARIANTS`."""
    rest: int
    """Samples of the others."""


class _Told(NamedTuple):
    """One problem of one pass."""

    problem: Problem
    cells: list[_Cell]


def collect_rows(runs: Sequence[Run], *, budget: int = BUDGET) -> Rows:
    """Return the browser's rows of some runs; the texts take at most `budget` characters."""
    kinds: dict[Kind, int] = {}
    catalogs, told = [], []
    for run in runs:
        catalog, problems = _run(run, kinds)
        catalogs.append(catalog)
        told.append(problems)
    chunks, kept = _fit(told, budget)
    places = iter(chunks.places)
    for catalog in catalogs:
        for one in catalog["passes"]:
            for problem in one["problems"]:
                problem["chunk"] = next(places)
    return Rows(
        {
            "runs": catalogs,
            "kinds": [{"outcome": outcome, "error_type": error} for outcome, error in kinds],
            "variants_per_pair": kept,
            "texts_left_out": sum(place is None for place in chunks.places),
        },
        chunks.texts,
    )


def _run(run: Run, kinds: dict[Kind, int]) -> tuple[dict[str, Any], list[_Told]]:
    spec = control.current_spec(run)
    passes, told = [], []
    for one in spec.passes():
        found = [(number, cells) for number, cells in _iterations(run, spec, one, kinds)]
        if not found:
            continue
        problems = list(run.read(Ref("problems", split=one.split), Problem))
        titles = dict(zip([problem.problem_id for problem in problems], _titles(problems), strict=True))
        rows = []
        for problem in problems:
            cells = [pairs.get(problem.problem_id, _NOTHING) for _, pairs in found]
            rows.append(
                {"id": problem.problem_id, "title": titles[problem.problem_id], "counts": [c.counts for c in cells]}
            )
            told.append(_Told(problem, cells))
        passes.append(
            {"name": one.name, "split": one.split, "iterations": [number for number, _ in found], "problems": rows}
        )
    return {
        "run": run.name,
        "task": spec.task.name,
        "is_code": spec.task.name not in TEXT_TASKS,
        "passes": passes,
    }, told


def _iterations(run: Run, spec: RunSpec, one: Pass, kinds: dict[Kind, int]) -> Iterator[tuple[int, dict[str, _Cell]]]:
    """Yield each iteration of a pass that has samples, with what is told of every problem."""
    for number in range(spec.iterations + 1):
        ref = Ref("samples", number, one.name)
        if run.find_index(ref) is None:
            continue
        verdicts = _verdicts(run, number, one.name)
        cells: defaultdict[str, dict[tuple[str, int], dict[str, Any]]] = defaultdict(dict)
        for sample in run.read(ref, Sample):
            verdict = verdicts.get((sample.problem_id, sample.sample))
            place = _place(kinds, (verdict.outcome, verdict.error_type) if verdict else (None, None))
            same = cells[sample.problem_id]
            if variant := same.get((sample.solution, place)):
                variant["samples"] += 1
            else:
                same[sample.solution, place] = _variant(sample, verdict, place, spec.task.rule())
        yield number, {name: _cell(list(same.values())) for name, same in cells.items()}


def _place(kinds: dict[Kind, int], kind: Kind) -> int:
    if kind not in kinds and len(kinds) >= MOST_KINDS and kind[1] is not None:
        kind = (kind[0], OTHER)
    return kinds.setdefault(kind, len(kinds))


def _cell(variants: Sequence[dict[str, Any]]) -> _Cell:
    """Return what is kept of variants that come in order of their first sample."""
    ranked = _ranked(variants)
    return _Cell(_counts(variants), ranked[:MOST_VARIANTS], _samples(ranked[MOST_VARIANTS:]))


def _samples(variants: Iterable[Mapping[str, Any]]) -> int:
    return sum(variant["samples"] for variant in variants)


_NOTHING = _Cell([], [], 0)


def _verdicts(run: Run, iteration: int, name: str) -> dict[tuple[str, int], Execution]:
    ref = Ref("executions", iteration, name)
    rows = run.read(ref, Execution) if run.find_index(ref) else ()
    return {(row.problem_id, row.sample): row for row in rows}


def _variant(sample: Sample, verdict: Execution | None, kind: int, postprocess: str) -> dict[str, Any]:
    return {
        "sample": sample.sample,
        "samples": 1,
        "kind": kind,
        "solution": _clip(sample.solution),
        "ran": len(cut(postprocess, sample.solution)),
        "feedback": _clip(verdict.feedback) if verdict else "",
        "reward_token": sample.reward_token,
        "finish_reason": sample.finish_reason,
        "tokens": len(sample.token_ids),
        "answer": verdict.answer if verdict else None,
    }


def _clip(text: str) -> str:
    left = len(text) - MOST_CHARACTERS
    return text if left <= 0 else f"{text[:MOST_CHARACTERS]}\n[... {left} more characters]"


def _counts(variants: Iterable[Mapping[str, Any]]) -> list[int]:
    """Return kind, samples, kind, samples, ...: the most frequent kind first."""
    counts: defaultdict[int, int] = defaultdict(int)
    for variant in variants:
        counts[variant["kind"]] += variant["samples"]
    return [number for pair in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])) for number in pair]


def _ranked(variants: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return variants so that any first few show as many kinds as they can, the frequent before the rare."""
    by_kind: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for variant in sorted(variants, key=lambda variant: (-variant["samples"], variant["sample"])):
        by_kind[variant["kind"]].append(variant)
    order = sorted(by_kind.values(), key=lambda group: (-_samples(group), group[0]["kind"]))
    return [variant for rank in zip_longest(*order) for variant in rank if variant is not None]


class _Chunks(NamedTuple):
    """Compressed texts, and for every problem the chunk it is in; None where the budget had no room for it."""

    texts: list[str]
    places: list[int | None]


def _fit(runs: Sequence[Sequence[_Told]], budget: int) -> tuple[_Chunks, int]:
    """Return the chunks with as many variants per pair as fit, at least one; whole problems are left out after that."""
    most = MOST_VARIANTS
    while True:
        chunks = _compress([told for run in runs for told in run], most, None if most > 1 else budget)
        size = sum(map(len, chunks.texts))
        if size <= budget or most == 1:
            return chunks, most
        most = max(1, min(most - 1, most * budget // size))


def _compress(problems: Sequence[_Told], most: int, budget: int | None) -> _Chunks:
    texts: list[str] = []
    places: list[int | None] = []
    pending: dict[str, str] = {}
    spent = 0

    def close() -> None:
        nonlocal pending, spent
        if not pending:
            return
        members = ",".join(f"{json.dumps(name)}:{text}" for name, text in pending.items())
        text = base64.b64encode(gzip.compress(f"{{{members}}}".encode(), mtime=0)).decode()
        fits = budget is None or spent + len(text) <= budget
        places.extend([len(texts) if fits else None] * len(pending))
        if fits:
            texts.append(text)
            spent += len(text)
        pending = {}

    for told in problems:
        # A problem of another pass has the same name and other variants.
        if told.problem.problem_id in pending or sum(map(len, pending.values())) > CHUNK_CHARACTERS:
            close()
        pending[told.problem.problem_id] = json.dumps(_problem(told, most), separators=(",", ":"))
    close()
    return _Chunks(texts, places)


def _problem(told: _Told, most: int) -> dict[str, Any]:
    texts = told.problem.model_dump(mode="json", exclude={"problem_id"})
    return {
        **texts,
        "variants": [cell.variants[:most] for cell in told.cells],
        "left_out": [cell.rest + _samples(cell.variants[most:]) for cell in told.cells],
    }


def _titles(problems: Sequence[Problem]) -> list[str]:
    """Return what tells each prompt from the others: its first telling line after the exemplars that all share."""
    lines = [problem.prompt.splitlines() for problem in problems]
    shared = sum(1 for _ in takewhile(lambda same: len(set(same)) == 1, zip(*lines, strict=False)))
    return [_title(each[shared:] or each) for each in lines]


def _title(lines: Sequence[str]) -> str:
    for line in lines:
        words = line.strip(" \t\"'#")
        if any(character.isalpha() for character in words) and not words.startswith(("import ", "from ")):
            told = _OPENING.sub("", words, count=1) if _OPENING.match(words) else words
            told = told[:1].upper() + told[1:]
            return told if len(told) <= 120 else told[:119] + "…"
    return ""
