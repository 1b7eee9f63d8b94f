"""What the contract says of a benchmark is what its module does."""

from __future__ import annotations

from typing import Any

import pytest

from stages.contract.benchmarks import BENCHMARKS, benchmark_of
from stages.contract.spec import TaskSpec, task_names
from stages.tasks import load_problems, load_task


@pytest.mark.parametrize("name", task_names())
def test_whether_solutions_are_programs_is_said_twice_alike(name: Any) -> None:
    assert benchmark_of(name).is_program == load_task(name).is_program


def test_only_known_tasks_are_described_and_only_where_they_differ() -> None:
    assert set(BENCHMARKS) <= set(task_names())
    assert all(found != benchmark_of("mbpp") for found in BENCHMARKS.values())


@pytest.mark.parametrize("name", ["basics", "eae"])
def test_a_task_that_comes_with_leti_has_the_splits_it_says(name: Any) -> None:
    for split in benchmark_of(name).splits:
        assert load_problems(TaskSpec(name=name), split)
