"""From samples and executions to one row of metrics."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.contract.artifacts import Part, Ref
from stages.contract.errors import ArtifactError
from stages.contract.records import Execution, Metrics, Problem, Record, Sample
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import open_store
from stages.entrypoint import Job
from stages.evaluate.stage import evaluate
from tests.conftest import StartStage

OUTCOMES = ["passed", "failed", "timed_out", "out_of_memory", "output_limit", "infra_error"]
Pair = tuple[Sample, Execution]


def pair(problem: str, number: int, outcome: str = "passed", error_type: str | None = None, **sample: Any) -> Pair:
    """Return a sample and what happened to it."""
    columns = {"token_ids": (1, 2, 3), "finish_reason": "eos", "reward_token": "good", **sample}
    return (
        Sample(problem_id=problem, sample=number, solution="x", num_prompt_tokens=9, seed=number, **columns),
        Execution(
            problem_id=problem,
            sample=number,
            program_sha256="0" * 64,
            outcome=outcome,  # type: ignore[arg-type]
            error_type=error_type,
            feedback="" if outcome == "passed" else "Traceback ...",
            isolation="test",
        ),
    )


def score(run: Run, scratch: Path, pairs: Sequence[Pair], *, split: str = "test", iteration: int = 2) -> Metrics:
    """Commit samples and executions in one part each, run the stage, read what it committed."""
    commit(run, scratch, "samples", [sample for sample, _ in pairs], split, iteration)
    commit(run, scratch, "executions", [execution for _, execution in pairs], split, iteration)
    evaluate(Job(run, "evaluate", iteration, split, scratch=scratch))
    (metrics,) = run.read(Ref("metrics", iteration, split), Metrics)
    return metrics


def commit(run: Run, scratch: Path, name: str, rows: Iterable[Record], split: str = "test", iteration: int = 2) -> None:
    scratch.mkdir(parents=True, exist_ok=True)
    # Metrics name the problems among what they were made from; only a task with figures of its own reads them.
    problems = [Problem(problem_id="a", prompt="x")]
    Job(run, "prepare", scratch=scratch).commit_rows(Ref("problems", split=split), problems, inputs=())
    stage = "generate" if name == "samples" else "execute"
    Job(run, stage, iteration, split, scratch=scratch).commit_rows(Ref(name, iteration, split), rows, inputs=())


def fresh(uri: str) -> Run:
    run = Run(open_store(uri), "r1")
    run.create(RunSpec())
    return run


def sixteen(problem: str, passed: int) -> list[Pair]:
    """16 samples of a problem, the first `passed` of which pass."""
    return [pair(problem, n) if n < passed else pair(problem, n, "failed", "NameError") for n in range(16)]


def test_a_hand_made_pass(run: Run, tmp_path: Path) -> None:
    pairs = [*sixteen("a", 4), *sixteen("b", 0), *sixteen("c", 16)]
    pairs[20] = pair("b", 4, "failed", "AssertionError", token_ids=(1,) * 51, finish_reason="length")
    pairs[21] = pair("b", 5, "timed_out")
    pairs[22] = pair("b", 6, "infra_error")
    found = score(run, tmp_path, pairs)
    assert (found.iteration, found.split, found.temperature, found.reward_token) == (2, "test", 0.1, "good")
    assert (found.num_problems, found.num_excluded_problems, found.num_samples, found.num_infra_errors) == (3, 0, 48, 1)
    assert list(found.pass_at_k) == ["1", "10"]
    assert found.pass_at_k["1"].value == pytest.approx((0.25 + 0 + 1) / 3)
    assert found.pass_at_k["10"].value == pytest.approx((1 - 66 / 8008 + 0 + 1) / 3)
    assert found.solve_rate.value == pytest.approx(2 / 3)
    assert found.executable_rate.value == pytest.approx(21 / 47)
    assert list(found.error_types.items()) == [("NameError", 25), ("AssertionError", 1), ("timed_out", 1)]
    assert list(found.outcomes.items()) == [("failed", 26), ("passed", 20), ("timed_out", 1)]
    assert found.mean_solution_tokens == pytest.approx((46 * 3 + 51) / 47)
    assert found.mean_feedback_characters == len("Traceback ...")
    assert found.eos_rate == pytest.approx(46 / 47)


def test_a_training_pass_is_scored_at_its_own_temperature(run: Run, tmp_path: Path) -> None:
    found = score(run, tmp_path, [pair("a", n, reward_token="none") for n in range(12)], split="train", iteration=0)
    assert (found.split, found.temperature, found.reward_token) == ("train", 1.0, "none")
    assert found.pass_at_k["10"].value == 1


def test_k_needs_that_many_samples_of_every_problem(run: Run, tmp_path: Path) -> None:
    short = [*sixteen("a", 8), *[pair("b", n, "infra_error" if n < 7 else "passed") for n in range(16)]]
    found = score(run, tmp_path, short)
    assert list(found.pass_at_k) == ["1"]
    assert found.pass_at_k["1"].value == pytest.approx(0.75)


def test_a_problem_the_platform_failed_on_altogether_is_left_out_and_counted(run: Run, tmp_path: Path) -> None:
    found = score(run, tmp_path, [*sixteen("a", 4), *[pair("b", n, "infra_error") for n in range(16)]])
    assert (found.num_problems, found.num_excluded_problems, found.num_infra_errors) == (1, 1, 16)
    assert found.pass_at_k["1"].value == pytest.approx(0.25)
    assert found.solve_rate.value == 1
    assert "infra_error" not in found.outcomes | found.error_types


def test_equal_counts_stand_in_the_order_of_names(run: Run, tmp_path: Path) -> None:
    kinds = ["ValueError", "TypeError", "IndexError", "TypeError", "ValueError", "KeyError"]
    found = score(run, tmp_path, [pair("a", n, "failed", kind) for n, kind in enumerate(kinds)])
    assert list(found.error_types) == ["TypeError", "ValueError", "IndexError", "KeyError"]


def test_the_order_of_rows_changes_no_byte(tmp_path: Path) -> None:
    pairs = [one for name in "abcde" for one in sixteen(name, ord(name) % 7)]
    written = set()
    for shuffle in range(3):
        run = fresh(f"{tmp_path}/{shuffle}")
        random.Random(shuffle).shuffle(pairs)
        commit(run, tmp_path, "samples", [sample for sample, _ in pairs])
        random.Random(-shuffle).shuffle(pairs)
        commit(run, tmp_path, "executions", [execution for _, execution in pairs])
        evaluate(Job(run, "evaluate", 2, "test", scratch=tmp_path))
        (item,) = run.get_index(Ref("metrics", 2, "test")).objects
        written.add(run.store.get(run.key(item.key)))
    assert len(written) == 1


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(OUTCOMES)), min_size=1, max_size=30))
def test_counts_are_conserved(tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[str, str]]) -> None:
    scratch = tmp_path_factory.mktemp("counts")
    pairs = [pair(name, n, outcome, "E" if outcome == "failed" else None) for n, (name, outcome) in enumerate(drawn)]
    if all(outcome == "infra_error" for _, outcome in drawn):
        with pytest.raises(ArtifactError, match=f"none of {len(drawn)} samples has a verdict"):
            score(fresh(f"{scratch}/store"), scratch, pairs)
        return
    found = score(fresh(f"{scratch}/store"), scratch, pairs)
    assert sum(found.outcomes.values()) + found.num_infra_errors == found.num_samples == len(drawn)
    assert sum(found.error_types.values()) + found.outcomes.get("passed", 0) == sum(found.outcomes.values())
    assert found.num_problems + found.num_excluded_problems == len({name for name, _ in drawn})
    for one in (*found.pass_at_k.values(), found.solve_rate, found.executable_rate):
        assert 0 <= one.low <= one.value <= one.high <= 1
    assert found.solve_rate.value >= found.pass_at_k["1"].value - 1e-12


@pytest.mark.parametrize(
    ("samples", "executions", "message"),
    [
        ([0, 1], [0], "problem 'a' sample 1 has no execution"),
        ([0], [0, 1], "problem 'a' sample 1 was executed but is not among the samples"),
        ([0, 1, 0], [0, 1], "problem 'a' sample 0 stands twice among the samples"),
        ([0, 1], [0, 1, 1], "problem 'a' sample 1 was executed twice"),
    ],
)
def test_a_pair_without_its_partner_is_named(
    samples: list[int], executions: list[int], message: str, run: Run, tmp_path: Path
) -> None:
    commit(run, tmp_path, "samples", [pair("a", number)[0] for number in samples])
    commit(run, tmp_path, "executions", [pair("a", number)[1] for number in executions])
    with pytest.raises(ArtifactError, match=message):
        evaluate(Job(run, "evaluate", 2, "test", scratch=tmp_path))
    assert run.find_index(Ref("metrics", 2, "test")) is None


def test_samples_of_one_pass_share_their_reward_token(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"different reward tokens \(bad, good\)"):
        score(run, tmp_path, [pair("a", 0), pair("a", 1, reward_token="bad")])


def test_the_metrics_name_what_they_were_made_from(run: Run, tmp_path: Path) -> None:
    score(run, tmp_path, sixteen("a", 3))
    record = run.find_part(Ref("metrics", 2, "test"), Part())
    assert record is not None
    chain = ["iterations/0002/samples/test", "iterations/0002/executions/test"]
    assert [item.ref for item in record.inputs] == ["problems/test", *chain]
    assert record.inputs[1] == run.input(Ref("samples", 2, "test"))


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_the_stage_runs_as_a_container_runs_it(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, start_stage: StartStage
) -> None:
    run = fresh(str(tmp_path / "store") if kind == "folder" else request.getfixturevalue("s3_uri"))
    commit(run, tmp_path, "samples", [sample for sample, _ in sixteen("a", 3)], "train", 0)
    commit(run, tmp_path, "executions", [execution for _, execution in sixteen("a", 3)], "train", 0)
    done = start_stage("evaluate", run, "--iteration", "0", "--split", "train")
    assert (done.returncode, done.stdout) == (0, "")
    (metrics,) = run.read(Ref("metrics", 0, "train"), Metrics)
    assert metrics.pass_at_k["1"].value == pytest.approx(3 / 16)
