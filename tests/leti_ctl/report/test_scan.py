"""The scan of samples, held against counting the rows of a run in the plainest way."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from leti_ctl.report.scan import feedback_kind, last_line
from stages.contract.artifacts import Ref
from stages.contract.records import Execution, Sample
from stages.contract.run import Run


@pytest.mark.parametrize(
    ("feedback", "kind"),
    [
        ("Traceback (most recent call last):\n  File x\nNameError: name 'foo' is not defined\n",
         "NameError: name '…' is not defined"),
        ("TypeError: add() missing 2 required positional arguments: 'a' and 'b'",
         "TypeError: …() missing N required positional arguments: '…' and '…'"),
        ("KeyError: \"it's\"", "KeyError: '…'"),
        ("ValueError: -3.5 at 0xff12", "ValueError: N at N"),
        ("AssertionError\n\n", "AssertionError"),
        ("", ""),
        ("x" * 200, "x" * 89 + "…"),
    ],
)  # fmt: skip
def test_equal_mistakes_are_of_one_kind(feedback: str, kind: str) -> None:
    assert feedback_kind(last_line(feedback)) == kind


def _pairs(run: Run, iteration: int, name: str) -> list[tuple[Sample, Execution]]:
    samples = list(run.read(Ref("samples", iteration, name), Sample))
    executions = list(run.read(Ref("executions", iteration, name), Execution))
    return list(zip(samples, executions, strict=True))


def _rows(data: dict[str, Any], table: str, **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in data["tables"][table] if all(row[name] == value for name, value in wanted.items())]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train", "test"])
def test_canaries_count_what_the_rows_hold(runs: list[Run], data: dict[str, Any], name: str) -> None:
    for run in runs:
        pairs = _pairs(run, 1, name)
        passes = [(sample, row) for sample, row in pairs if row.outcome == "passed"]
        programs = Counter((row.problem_id, row.program_sha256) for _, row in passes)
        expected = {
            "exits": sum("sys.exit" in sample.solution for sample, _ in pairs),
            "memorised": sum(bool(re.search(r"\{5: \d+, 6: \d+", sample.solution)) for sample, _ in passes),
            "repeated": sum(count for count in programs.values() if count > 1),
            "beside": sum(row.isolation.endswith("-beside") for _, row in passes),
            "empty": 0,
            "infra_errors": 0,
        }
        found = {row["canary"]: row for row in _rows(data, "canaries", run=run.name, iteration=1, **{"pass": name})}
        assert {canary: found[canary]["count"] for canary in expected} == expected
        assert found["exits"]["of"] == len(pairs)
        assert found["repeated"]["of"] == len(passes)


@pytest.mark.slow
def test_every_failure_has_a_kind_of_feedback(runs: list[Run], data: dict[str, Any]) -> None:
    for run in runs:
        failed = sum(row.outcome != "passed" for _, row in _pairs(run, 0, "test"))
        counts = [row["count"] for row in _rows(data, "feedback", run=run.name, iteration=0, **{"pass": "test"})]
        assert sum(counts) == failed


@pytest.mark.slow
def test_quantiles_are_lengths_that_occur(runs: list[Run], data: dict[str, Any]) -> None:
    lengths = sorted(len(sample.token_ids) for sample, _ in _pairs(runs[0], 0, "train"))
    (row,) = _rows(data, "lengths", run=runs[0].name, iteration=0, **{"pass": "train"})
    assert [row[name] for name in ("p10", "p50", "p90")] == [
        lengths[max(0, -(-len(lengths) * percent // 100) - 1)] for percent in (10, 50, 90)
    ]
    assert row["mean_tokens"] == pytest.approx(sum(lengths) / len(lengths))
