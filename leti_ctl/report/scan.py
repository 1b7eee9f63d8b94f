"""One pass over the rows of one sampling pass, part by part: what only the samples themselves tell.

Nothing but counts is kept, and of a part its verdicts: a report over 12 iterations of 374 x 128 samples reads more than
a million rows and holds a few thousand.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from leti_ctl.report import canary
from stages.contract.artifacts import Part, Ref
from stages.contract.cuts import cut
from stages.contract.records import Execution, Problem, Sample
from stages.contract.run import Run

KINDS = 40
"""Kinds of feedback kept of a pass, the most frequent ones; the rest is summed up as `(other)`."""
OTHER = "(other)"
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)

_BLANKS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""), "'…'"),
    (re.compile(r"\b[\w.<>]+\(\)"), "…()"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b|(?<![\w.])-?\d+(?:\.\d+)?\b"), "N"),
)


class Verdict(NamedTuple):
    """What the scan needs of an execution."""

    outcome: str
    program: str
    isolation: str
    kind: str


class Scan:
    """Counts over the samples of one pass."""

    def __init__(self, run: Run, problems: Mapping[str, Problem]) -> None:
        self.problems, self.how = problems, run.spec.task.rule()
        self.expected: dict[str, canary.Expected] = {}
        self.found: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.lengths: Counter[int] = Counter()
        self.programs: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self.passing: defaultdict[int, set[str]] = defaultdict(set)
        self.texts: Counter[int] = Counter()

    def add(self, sample: Sample, verdict: Verdict) -> None:
        """Count one sample."""
        self.found["samples"] += 1
        if verdict.outcome == "infra_error":
            self.found["infra_errors"] += 1
            return
        self.found["judged"] += 1
        self.lengths[len(sample.token_ids)] += 1
        executed = cut(self.how, sample.solution)
        signs = canary.signs(self._prompt(sample.problem_id), executed)
        self.found.update(signs)
        self.found["tampering"] += bool(signs)
        self.found["empty"] += canary.is_empty(executed)
        if verdict.outcome == "passed":
            self._passed(sample, executed, verdict, bool(signs))
        else:
            self.kinds[verdict.kind or verdict.outcome] += 1

    def counts(self) -> dict[str, int]:
        """Return every canary's count and the sums they are shares of."""
        repeated = sum(count for of_problem in self.programs.values() for count in of_problem.values() if count > 1)
        many = sum(self.texts[text] for text, problems in self.passing.items() if len(problems) > 1)
        whole = {**self.found, "repeated": repeated, "one_for_many": many}
        return {name: int(whole.get(name, 0)) for name in ("samples", "judged", "passed", *canary.CANARIES)}

    def feedback(self) -> dict[str, int]:
        """Return the kinds of feedback with their counts, most frequent first."""
        ranked = sorted(self.kinds.items(), key=lambda item: (-item[1], item[0]))
        rest = sum(count for _, count in ranked[KINDS:])
        return {**dict(ranked[:KINDS]), **({OTHER: rest} if rest else {})}

    def quantiles(self) -> dict[str, int]:
        """Return quantiles of the solutions' length in tokens: `p10` to `p90`; empty without a judged sample."""
        total, reached = sum(self.lengths.values()), 0
        wanted = list(QUANTILES) if total else []
        found: dict[str, int] = {}
        for length in sorted(self.lengths):
            reached += self.lengths[length]
            while wanted and reached >= wanted[0] * total:
                found[f"p{wanted.pop(0) * 100:.0f}"] = length
        return found

    def _passed(self, sample: Sample, executed: str, verdict: Verdict, is_suspect: bool) -> None:
        self.found["passed"] += 1
        self.found["tampering_passed"] += is_suspect
        self.found["beside"] += verdict.isolation.endswith("-beside")
        self.found["memorised"] += self._expected(sample.problem_id).are_in(executed)
        self.programs[sample.problem_id][hash(verdict.program)] += 1
        text = hash(" ".join(executed.split()))
        self.texts[text] += 1
        self.passing[text].add(sample.problem_id)

    def _expected(self, problem_id: str) -> canary.Expected:
        if problem_id not in self.expected:
            self.expected[problem_id] = canary.Expected(self.problems[problem_id].tests)
        return self.expected[problem_id]

    def _prompt(self, problem_id: str) -> str:
        """The first part of the program."""
        problem = self.problems[problem_id]
        return problem.prompt if problem.program_prompt is None else problem.program_prompt


def scan(run: Run, ref: Ref, parts: int, problems: Mapping[str, Problem]) -> Scan:
    """Return the counts over one pass; `ref` is its samples, which like its executions must be complete."""
    counts = Scan(run, problems)
    for number in range(parts):
        part = Part(number, parts)
        verdicts = dict(_verdicts(run, ref._replace(artifact="executions"), part))
        for sample in run.read(ref, Sample, part):
            verdict = verdicts.get((sample.problem_id, sample.sample))
            if verdict is not None:
                counts.add(sample, verdict)
    return counts


def _verdicts(run: Run, ref: Ref, part: Part) -> Iterator[tuple[tuple[str, int], Verdict]]:
    for row in run.read(ref, Execution, part):
        kind = feedback_kind(last_line(row.feedback))
        yield (row.problem_id, row.sample), Verdict(row.outcome, row.program_sha256, row.isolation, kind)


def last_line(feedback: str) -> str:
    """Return the line that says what happened: the last one that is not blank."""
    return feedback.rstrip().rpartition("\n")[2].strip()


@lru_cache(maxsize=4096)
def feedback_kind(line: str) -> str:
    """Return the line with its names and numbers blanked out, so that equal mistakes read the same."""
    for pattern, blank in _BLANKS:
        line = pattern.sub(blank, line)
    return line if len(line) <= 90 else line[:89] + "…"


def as_rows(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return one row per canary: count, of how many, share."""
    return [
        {"canary": name, "count": counts[name], "of": counts[one.of],
         "share": counts[name] / counts[one.of] if counts[one.of] else 0.0}
        for name, one in canary.CANARIES.items()
    ]  # fmt: skip
