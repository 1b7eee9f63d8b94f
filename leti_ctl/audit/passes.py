"""One sampling pass, row by row: problems times samples, each once, with a verdict, and the scores that follow."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from leti_ctl.audit.objects import Reader
from stages.contract.artifacts import Ref
from stages.contract.cuts import cut
from stages.contract.records import Execution, Metrics, Problem, Sample
from stages.contract.seeds import derive_seed
from stages.contract.spec import Pass, RunSpec

Pair = tuple[str, int]
TOLERANCE = 1e-9
"""Scores are means of exact fractions; more than this is not rounding."""


class Drawn(NamedTuple):
    """What scores need of one sample."""

    tokens: int
    ended: bool
    program: str
    """SHA-256 of the program that the sample and its problem make; empty without a problem."""


class Verdict(NamedTuple):
    """What scores and examples need of one execution."""

    outcome: str
    error_type: str | None
    feedback: int
    """Characters."""


def check(reader: Reader, spec: RunSpec, iteration: int, one: Pass) -> dict[Pair, Verdict]:
    """Check a pass and return its verdicts; an artifact that is not complete is left out."""
    problems = {row.problem_id: row for row in Reader(reader.catalog).read(Ref("problems", split=one.split), Problem)}
    drawn = dict(_samples(reader, spec, iteration, one, problems))
    verdicts = dict(_executions(reader, iteration, one, drawn))
    samples, executions, metrics = (Ref(name, iteration, one.name) for name in ("samples", "executions", "metrics"))
    if reader.catalog.is_complete(samples):
        wanted = dict.fromkeys(
            (name, number) for name in problems for number in range(one.sampling.samples_per_problem)
        )
        _same(reader, samples.prefix, wanted, drawn)
        if reader.catalog.is_complete(executions):
            _same(reader, executions.prefix, drawn, verdicts)
    if reader.catalog.is_complete(metrics):
        _metrics(reader, metrics, Scores(drawn, verdicts, spec.evaluate.k), _asked(spec, iteration, one))
    return verdicts


def _asked(spec: RunSpec, iteration: int, one: Pass) -> dict[str, object]:
    """Return the fields of a pass's metrics that say what it was."""
    token, temperature = spec.reward_token(iteration, one.sampling), one.sampling.temperature
    return {"iteration": iteration, "split": one.name, "reward_token": token, "temperature": temperature}


def _samples(
    reader: Reader, spec: RunSpec, iteration: int, one: Pass, problems: Mapping[str, Problem]
) -> Iterator[tuple[Pair, Drawn]]:
    ref = Ref("samples", iteration, one.name)
    token = spec.reward_token(iteration, one.sampling)
    seen: Counter[Pair] = Counter()
    for row in reader.read(ref, Sample):
        pair = (row.problem_id, row.sample)
        seen[pair] += 1
        if row.reward_token != token:
            reader.note("pairs", f"{ref.prefix} {_spell(pair)}", f"reward token {token}", row.reward_token)
        seed = derive_seed(spec.seed, "generate", iteration, one.name, "sample", *pair)
        if row.seed != seed:
            reader.note("seed", f"{ref.prefix} {_spell(pair)}", str(seed), str(row.seed))
        problem = problems.get(row.problem_id)
        program = program_sha256(spec, problem, row) if problem else ""
        yield pair, Drawn(len(row.token_ids), row.finish_reason == "eos", program)
    _once(reader, ref, seen)


def program_sha256(spec: RunSpec, problem: Problem, sample: Sample) -> str:
    """Return the SHA-256 of the text that is executed: prompt and solution, the problem's setup, its tests."""
    prompt = problem.prompt if problem.program_prompt is None else problem.program_prompt
    token = spec.model.tokens.as_tuple().reward(sample.reward_token)
    if token and spec.execute.reward_token_removal == "character_set":
        prompt = (token + prompt).lstrip(token)
    solution = cut(spec.task.rule(), sample.solution)
    text = "\n".join((prompt + solution, problem.setup, *problem.tests))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _executions(
    reader: Reader, iteration: int, one: Pass, drawn: Mapping[Pair, Drawn]
) -> Iterator[tuple[Pair, Verdict]]:
    ref = Ref("executions", iteration, one.name)
    seen: Counter[Pair] = Counter()
    silent = not reader.catalog.run.spec.feedback.successes
    outcomes: Counter[str] = Counter()
    for row in reader.read(ref, Execution):
        pair = (row.problem_id, row.sample)
        seen[pair] += 1
        if row.outcome == "passed" and ((row.feedback and silent) or row.error_type):
            reader.note("verdict", f"{ref.prefix} {_spell(pair)}", "no feedback for a pass", row.error_type or "some")
        if row.outcome == "failed" and not (row.feedback and row.error_type):
            reader.note("verdict", f"{ref.prefix} {_spell(pair)}", "an error type and feedback", "none")
        if pair in drawn and (wanted := drawn[pair].program) and row.program_sha256 != wanted:
            reader.note("programs", f"{ref.prefix} {_spell(pair)}", f"program {wanted[:16]}", row.program_sha256[:16])
        outcomes[row.outcome] += 1
        yield pair, Verdict(row.outcome, row.error_type, len(row.feedback))
    _once(reader, ref, seen)
    told = reader.catalog.facts(ref, "num_")
    if told != outcomes:
        reader.note("facts", ref.prefix, f"outcomes {dict(outcomes)}", str(told))


def _once(reader: Reader, ref: Ref, seen: Counter[Pair]) -> None:
    for pair, count in seen.items():
        if count > 1:
            reader.note("pairs", ref.prefix, f"{_spell(pair)} once", f"{count} times")


def _same(reader: Reader, key: str, wanted: Mapping[Pair, object], found: Mapping[Pair, object]) -> None:
    missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing:
        reader.note("pairs", key, f"{len(wanted)} (problem, sample) pairs", _list(missing, "missing"))
    if extra:
        reader.note("pairs", key, f"{len(wanted)} (problem, sample) pairs", _list(extra, "that should not be there"))
    if not (missing or extra):
        swapped = next(((should, is_) for should, is_ in zip(wanted, found, strict=True) if should != is_), None)
        if swapped:
            reader.note("pairs", key, f"{_spell(swapped[0])} where its sources have it", _spell(swapped[1]))


def _list(pairs: list[Pair], what: str) -> str:
    shown = ", ".join(map(_spell, pairs[:3]))
    return f"{len(pairs)} {what}: {shown}{' ...' if len(pairs) > 3 else ''}"


def _spell(pair: Pair) -> str:
    return f"{pair[0]} sample {pair[1]}"


class Scores:
    """The point values of a pass's metrics, from the rows alone, with integers and fractions."""

    def __init__(self, drawn: Mapping[Pair, Drawn], verdicts: Mapping[Pair, Verdict], k: tuple[int, ...]) -> None:
        self.judged = {pair: one for pair, one in verdicts.items() if one.outcome != "infra_error"}
        self.drawn, self.verdicts, self.k = drawn, verdicts, k
        self.tries = Counter(problem for problem, _ in self.judged)
        self.passes = Counter(problem for (problem, _), one in self.judged.items() if one.outcome == "passed")

    def expected(self) -> dict[str, float | int | dict[str, int]]:
        """Return the fields of `Metrics` that follow from the rows, dotted where nested."""
        failures = [one for one in self.judged.values() if one.outcome != "passed"]
        executable = sum(one.outcome == "passed" or one.error_type == "AssertionError" for one in self.judged.values())
        samples = [self.drawn[pair] for pair in self.judged if pair in self.drawn]
        count = max(1, len(self.judged))
        all_problems = {problem for problem, _ in self.verdicts}
        return {
            "num_problems": len(self.tries),
            "num_excluded_problems": len(all_problems) - len(self.tries),
            "num_samples": len(self.verdicts),
            "num_infra_errors": len(self.verdicts) - len(self.judged),
            "solve_rate.value": len(self.passes) / max(1, len(self.tries)),
            "executable_rate.value": executable / count,
            "error_types": dict(Counter(one.error_type or one.outcome for one in failures)),
            "outcomes": dict(Counter(one.outcome for one in self.judged.values())),
            "mean_solution_tokens": sum(one.tokens for one in samples) / count,
            "mean_feedback_characters": sum(one.feedback for one in failures) / max(1, len(failures)),
            "eos_rate": sum(one.ended for one in samples) / count,
            **{f"pass_at_k.{k}.value": value for k, value in self._pass_at_k()},
        }

    def _pass_at_k(self) -> Iterator[tuple[int, float]]:
        fewest = min(self.tries.values(), default=0)
        for k in sorted({k for k in self.k if k <= fewest}):
            chances = (
                1 - Fraction(math.comb(n - self.passes[name], k), math.comb(n, k)) for name, n in self.tries.items()
            )
            yield k, float(sum(chances) / len(self.tries))


def _metrics(reader: Reader, ref: Ref, scores: Scores, asked: Mapping[str, object]) -> None:
    for row in reader.read(ref, Metrics):
        found = row.model_dump()
        expected: dict[str, Any] = {**asked, **scores.expected()}
        for name, value in expected.items():
            actual = _field(found, name)
            if not _equal(actual, value):
                reader.note("scores", f"{ref.prefix} {name}", str(value), str(actual))
        reported = {f"pass_at_k.{k}.value" for k in found["pass_at_k"]}
        if extra := sorted(reported - set(expected)):
            reader.note("scores", ref.prefix, "pass@k for the spec's k that all problems have samples for", extra[0])
        for name, each in (("solve_rate", row.solve_rate), *row.pass_at_k.items()):
            if not each.low - TOLERANCE <= each.value <= each.high + TOLERANCE:
                reader.note(
                    "scores", f"{ref.prefix} {name}", "an interval around the value", f"{each.low} to {each.high}"
                )


def _field(row: Mapping[str, object], path: str) -> object:
    value: object = row
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _equal(found: object, value: object) -> bool:
    if isinstance(value, float) and isinstance(found, float | int):
        return math.isclose(found, value, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return found == value
