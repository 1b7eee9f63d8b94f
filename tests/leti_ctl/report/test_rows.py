"""The browser's rows: every sample counted, every kind shown first, never more text than the budget."""

from __future__ import annotations

import base64
import gzip
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leti_ctl.report.rows import MOST_KINDS, MOST_VARIANTS, Rows, collect_rows
from stages.contract.artifacts import Ref
from stages.contract.records import Execution, Problem, Sample
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import LocalStore
from stages.entrypoint import Job
from tests.leti_ctl.report import hostile


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return hostile.make(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def rows(run: Run) -> Rows:
    return collect_rows([run])


def problems_of(rows: Rows) -> list[dict[str, Any]]:
    return [row for run in rows.catalog["runs"] for one in run["passes"] for row in one["problems"]]


def texts_of(rows: Rows, row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(rows.chunks[row["chunk"]])))[row["id"]]
    return found


def test_every_sample_is_counted(rows: Rows) -> None:
    for row in problems_of(rows):
        assert [sum(counts[1::2]) for counts in row["counts"]] == [hostile.SAMPLES] * (hostile.ITERATIONS + 1)


def test_shown_and_left_out_make_all_samples(run: Run) -> None:
    for budget in (1_000_000, 4000):
        rows = collect_rows([run], budget=budget)
        for row in problems_of(rows):
            if row["chunk"] is None:
                continue
            told = texts_of(rows, row)
            for variants, left in zip(told["variants"], told["left_out"], strict=True):
                assert sum(variant["samples"] for variant in variants) + left == hostile.SAMPLES


def test_counts_are_those_of_the_verdicts(rows: Rows) -> None:
    kinds = [(kind["outcome"], kind["error_type"]) for kind in rows.catalog["kinds"]]
    for place, row in enumerate(problems_of(rows)):
        for iteration in range(hostile.ITERATIONS):
            counts = row["counts"][iteration]
            told = {kinds[kind]: count for kind, count in zip(counts[::2], counts[1::2], strict=True)}
            ended = [hostile.outcome(iteration, place, number) for number in range(hostile.SAMPLES)]
            assert told == {kind: ended.count(kind) for kind in ended}


def test_samples_without_a_verdict_have_none(rows: Rows) -> None:
    kinds = rows.catalog["kinds"]
    last = [row["counts"][-1] for row in problems_of(rows)]
    assert all(kinds[counts[0]] == {"outcome": None, "error_type": None} and len(counts) == 2 for counts in last)


def test_equal_solutions_with_equal_verdicts_are_one_variant(rows: Rows) -> None:
    for row in problems_of(rows):
        for variants in texts_of(rows, row)["variants"]:
            keys = [(variant["solution"], variant["kind"]) for variant in variants]
            assert len(keys) == len(set(keys))


def test_the_first_variants_show_every_kind(rows: Rows) -> None:
    for row in problems_of(rows):
        for counts, variants in zip(row["counts"], texts_of(rows, row)["variants"], strict=True):
            several = len(counts) // 2
            assert {variant["kind"] for variant in variants[:several]} == set(counts[::2])


def test_texts_arrive_as_they_were_written(rows: Rows) -> None:
    told = json.dumps([texts_of(rows, row) for row in problems_of(rows)])
    assert all(json.dumps(attack)[1:-1] in told for attack in hostile.ATTACKS)


def test_titles_tell_problems_apart(rows: Rows) -> None:
    titles = [row["title"] for row in problems_of(rows)]
    assert [title[:6] for title in titles] == ["Task 0", "Task 1", "Task 2", "Task 3"]


@pytest.mark.parametrize("budget", [100, 3000, 6000, 1_000_000])
def test_texts_stay_within_the_budget(run: Run, budget: int) -> None:
    rows = collect_rows([run], budget=budget)
    assert sum(map(len, rows.chunks)) <= budget
    left = [row for row in problems_of(rows) if row["chunk"] is None]
    assert rows.catalog["texts_left_out"] == len(left)
    assert (len(left) == 0) or rows.catalog["variants_per_pair"] == 1


def test_the_same_run_gives_the_same_bytes(run: Run, rows: Rows) -> None:
    assert collect_rows([run]) == rows


def test_runs_share_the_page(run: Run, tmp_path: Path) -> None:
    other = hostile.make(tmp_path, "other")
    rows = collect_rows([run, other])
    assert [each["run"] for each in rows.catalog["runs"]] == ["hostile", "other"]
    assert all(texts_of(rows, row)["prompt"].startswith('"""') for row in problems_of(rows))


def test_texts_that_no_page_can_show_are_counted_and_not_kept(tmp_path: Path) -> None:
    samples, iterations, characters = 100, 24, 6000
    run = Run(LocalStore(tmp_path / "store"), "long")
    spec = {"iterations": iterations, "evaluate": {"splits": ["test"], "select_on": "test", "k": [1]}}
    run.create(RunSpec.model_validate_json(json.dumps(spec)))
    for number in range(iterations):
        job = Job(run, "generate", number, "test", scratch=tmp_path)
        if not number:
            problem = Problem(problem_id="p", prompt="x", tests=("assert x",))
            job.commit_rows(Ref("problems", split="test"), [problem], inputs=hostile.WORLD)
        job.commit_rows(Ref("samples", number, "test"), _long(samples, characters), inputs=hostile.WORLD)
    tracemalloc.start()
    try:
        rows = collect_rows([run])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    (row,) = problems_of(rows)
    assert [sum(counts[1::2]) for counts in row["counts"]] == [samples] * iterations
    assert texts_of(rows, row)["left_out"] == [samples - MOST_VARIANTS] * iterations
    # A few copies of one iteration's texts are about at a time, never the texts of all iterations.
    assert peak < iterations * samples * characters


def test_made_up_errors_are_one_kind_once_there_are_many(tmp_path: Path) -> None:
    many = MOST_KINDS + 50
    run = Run(LocalStore(tmp_path / "store"), "many")
    spec = {"iterations": 1, "evaluate": {"splits": ["test"], "select_on": "test", "k": [1]}}
    run.create(RunSpec.model_validate_json(json.dumps(spec)))
    job = Job(run, "generate", 0, "test", scratch=tmp_path)
    problem = Problem(problem_id="p", prompt="x", tests=("assert x",))
    job.commit_rows(Ref("problems", split="test"), [problem], inputs=hostile.WORLD)
    job.commit_rows(Ref("samples", 0, "test"), _long(many, 1), inputs=hostile.WORLD)
    verdicts = [
        Execution(
            problem_id="p", sample=number, program_sha256="0" * 64, outcome="failed", error_type=f"Error{number}",
            feedback="", isolation="split",
        )
        for number in range(many)
    ]  # fmt: skip
    job.commit_rows(Ref("executions", 0, "test"), verdicts, inputs=hostile.WORLD)
    rows = collect_rows([run])
    (row,) = problems_of(rows)
    assert len(rows.catalog["kinds"]) == MOST_KINDS + 1
    assert rows.catalog["kinds"][-1] == {"outcome": "failed", "error_type": "(other)"}
    assert sum(row["counts"][0][1::2]) == many and row["counts"][0][:2] == [MOST_KINDS, 50]


def _long(samples: int, characters: int) -> Iterator[Sample]:
    for number in range(samples):
        yield Sample(
            problem_id="p", sample=number, reward_token="good", solution=f"{number}" + "x" * characters, token_ids=(),
            finish_reason="eos", num_prompt_tokens=1, seed=number,
        )  # fmt: skip
