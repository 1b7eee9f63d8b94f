"""A task's own scores, from problems' shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from stages.contract.records import Execution, Problem
from stages.evaluate.shares import Shares
from stages.tasks.task import Ratio


def problem(name: str) -> Problem:
    return Problem(problem_id=name, prompt="p", facts={"gold": len(name)})


def execution(name: str, number: int, outcome: str = "passed", **measures: float) -> Execution:
    return Execution(
        problem_id=name, sample=number, program_sha256="0" * 64, outcome=outcome, error_type=None,  # type: ignore[arg-type]
        feedback="long", isolation="none", measures=measures,
    )  # fmt: skip


def recall(one: Problem, rows: Sequence[Execution]) -> Mapping[str, Ratio]:
    gold = one.facts["gold"]
    assert isinstance(gold, int) and all(row.feedback == "" for row in rows)
    shares = {"recall": Ratio(rows[0].measures["found"], gold)}
    return shares if one.problem_id != "ccc" else {**shares, "only_c": Ratio(rows[-1].measures["found"])}


def test_a_score_is_a_ratio_of_sums_over_the_problems_it_is_about() -> None:
    rows = [execution("a", 0, found=1), execution("bb", 0, found=0),
            execution("ccc", 1, found=3), execution("ccc", 0, found=2)]  # fmt: skip
    found = Shares(recall, [problem("a"), problem("bb"), problem("ccc")], rows).figures(200, seed=1)
    assert list(found) == ["recall", "only_c"]
    assert found["recall"].value == pytest.approx((1 + 0 + 2) / 6)
    assert found["only_c"].value == 3
    assert found["recall"].low <= found["recall"].value <= found["recall"].high


def test_what_the_platform_failed_on_was_never_drawn() -> None:
    rows = [execution("a", 0, "infra_error", found=0), execution("a", 1, found=1), execution("bb", 0, "infra_error")]
    found = Shares(recall, [problem("a"), problem("bb")], rows).figures(50, seed=1)
    assert found["recall"].value == 1


def test_nothing_to_divide_by_is_a_score_of_zero() -> None:
    def precision(one: Problem, rows: Sequence[Execution]) -> Mapping[str, Ratio]:
        return {"precision": Ratio(0, 0)}

    found = Shares(precision, [problem("a")], [execution("a", 0)]).figures(50, seed=1)
    assert (found["precision"].value, found["precision"].low, found["precision"].high) == (0, 0, 0)
