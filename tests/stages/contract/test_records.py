"""Rows as JSON lines: exact inverses, and one clear line for whatever does not fit."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stages.contract.artifacts import ARTIFACTS
from stages.contract.errors import ArtifactError
from stages.contract.records import (
    Execution,
    Interval,
    Metrics,
    Problem,
    Record,
    Sample,
    StepLog,
    read_rows,
    write_rows,
)

text = st.text(max_size=20)
counts = st.integers(0, 2**63 - 1)
numbers = st.floats(allow_nan=False)
names = st.dictionaries(text, counts, max_size=3)
intervals = st.builds(Interval, value=numbers, low=numbers, high=numbers)
samples = st.builds(
    Sample,
    problem_id=text,
    sample=counts,
    reward_token=st.sampled_from(["none", "good", "bad"]),
    solution=text,
    token_ids=st.lists(counts, max_size=5).map(tuple),
    finish_reason=st.sampled_from(["eos", "length"]),
    num_prompt_tokens=counts,
    seed=counts,
)
executions = st.builds(
    Execution,
    problem_id=text,
    sample=counts,
    program_sha256=text,
    outcome=st.sampled_from(["passed", "failed", "timed_out", "out_of_memory", "output_limit", "infra_error"]),
    error_type=st.none() | text,
    feedback=text,
    isolation=text,
)
problems = st.builds(
    Problem, problem_id=text, prompt=text, tests=st.lists(text, max_size=3).map(tuple), setup=text, reference=text
)
steps = st.builds(
    StepLog,
    step=counts,
    stream=st.sampled_from(["fcft", "pretraining", "joint"]),
    loss=numbers,
    num_targets=counts,
    learning_rate=numbers,
)
metrics = st.builds(
    Metrics,
    iteration=counts,
    split=text,
    temperature=numbers,
    reward_token=st.sampled_from(["none", "good", "bad"]),
    num_problems=counts,
    num_excluded_problems=counts,
    num_samples=counts,
    num_infra_errors=counts,
    pass_at_k=st.dictionaries(text, intervals, max_size=2),
    solve_rate=intervals,
    executable_rate=intervals,
    error_types=names,
    outcomes=names,
    mean_solution_tokens=numbers,
    mean_feedback_characters=numbers,
    eos_rate=st.floats(0, 1),
)
SAMPLE: dict[str, Any] = {
    "problem_id": "basics/1",
    "sample": 0,
    "reward_token": "good",
    "solution": "x",
    "token_ids": [1, 2],
    "finish_reason": "eos",
    "num_prompt_tokens": 3,
    "seed": 4,
}


def read_one(row: dict[str, Any]) -> Sample:
    (found,) = read_rows([json.dumps(row).encode()], Sample, source="samples.jsonl")
    return found


@given(st.lists(samples | executions | problems | steps | metrics, min_size=1, max_size=3))
def test_reading_inverts_writing(rows: list[Record]) -> None:
    for row in rows:
        (line,) = write_rows([row])
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        assert list(read_rows([line], type(row), source="x")) == [row]


@given(metrics)
def test_the_order_of_a_histogram_survives(row: Metrics) -> None:
    (line,) = write_rows([row])
    (found,) = read_rows([line], Metrics, source="x")
    assert list(found.error_types) == list(row.error_types)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shard": 1}, "samples.jsonl, line 1: shard: Extra inputs are not permitted, got 1"),
        ({"sample": "0"}, "samples.jsonl, line 1: sample: Input should be a valid integer, got '0'"),
        ({"sample": True}, "samples.jsonl, line 1: sample: Input should be a valid integer, got True"),
        ({"sample": -1}, "samples.jsonl, line 1: sample: Input should be greater than or equal to 0, got -1"),
        ({"token_ids": [1, 2.5]}, "samples.jsonl, line 1: token_ids.1: Input should be a valid integer, got 2.5"),
        ({"solution": None}, "samples.jsonl, line 1: solution: Input should be a valid string, got None"),
        (
            {"finish_reason": "tired"},
            "samples.jsonl, line 1: finish_reason: Input should be 'eos' or 'length', got 'tired'",
        ),
    ],
)
def test_a_column_that_does_not_fit_is_named_with_its_value(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        read_one({**SAMPLE, **change})
    assert str(caught.value) == message


@pytest.mark.parametrize("column", SAMPLE)
def test_a_missing_column_is_named(column: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        read_one({name: value for name, value in SAMPLE.items() if name != column})
    assert str(caught.value) == f"samples.jsonl, line 1: {column}: Field required"


@pytest.mark.parametrize(
    "line", [b"", b"{", b"null", b"[]", b"\xff\xfe", b'{"solution": "\\ud800"}', json.dumps(SAMPLE).encode()[:-9]]
)
def test_a_line_that_is_no_row_is_one_clear_line(line: bytes) -> None:
    good = json.dumps(SAMPLE).encode()
    with pytest.raises(ArtifactError, match=r"^samples.jsonl, line 2: ") as caught:
        list(read_rows([good, line, good], Sample, source="samples.jsonl"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_a_long_value_is_shown_shortened() -> None:
    with pytest.raises(ArtifactError) as caught:
        read_one({**SAMPLE, "sample": "9" * 10_000})
    assert str(caught.value).endswith("999...")
    assert len(str(caught.value)) < 200


def test_a_row_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        read_one(SAMPLE).solution = "y"  # type: ignore[misc]


def test_every_row_artifact_has_a_record_and_every_folder_none() -> None:
    for artifact in ARTIFACTS.values():
        assert (artifact.record is None) == (artifact.format == "folder")
