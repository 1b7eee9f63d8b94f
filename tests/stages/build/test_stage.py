from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.build.stage import build, schedule, take_share
from stages.contract.artifacts import Part, Ref
from stages.contract.records import Execution, PackedRow, Sample
from stages.contract.run import Run
from stages.contract.spec import RunSpec, TrainSpec
from stages.contract.store import LocalStore
from stages.entrypoint import Job
from tests.loop import commit_checkpoint, commit_judged, commit_problems, judged_samples
from tests.models import make_tokenizer

EXAMPLES = Ref("examples", 0)
StartStage = Callable[..., CompletedProcess[str]]
Pairs = list[tuple[Sample, Execution]]


def make_run(folder: Path, change: Callable[[Pairs], Pairs] = lambda pairs: pairs, **spec: Any) -> Run:
    """A run whose train pass has been judged in two parts: 3 problems, 7 samples each."""
    run = Run(LocalStore(folder / "store"), "r1")
    short = {"build": {"max_length": 256, "pack_length": 256}, "train": {"batch_size": 8}}
    run.create(RunSpec.model_validate({**short, **spec}))
    make_tokenizer(folder / "model")
    commit_checkpoint(run, folder, folder / "model")
    pairs = judged_samples(commit_problems(run, folder), 7)
    commit_judged(run, folder, change(pairs), parts=2)
    return run


def rows_of(run: Run, scratch: Path) -> list[PackedRow]:
    """Read the Parquet back as what it claims to hold."""
    lists: list[dict[str, Any]] = []
    for path in run.paths(EXAMPLES, scratch):
        lists += pq.read_table(path).to_pylist()
    tuples = [{name: tuple(v) if isinstance(v, list) else v for name, v in row.items()} for row in lists]
    return [PackedRow.model_validate(row) for row in tuples]


def placed(rows: list[PackedRow]) -> Iterator[tuple[int, int, str, int]]:
    """(epoch, step, problem, sample) of every example."""
    for row in rows:
        for problem, sample in zip(row.problem_ids, row.samples, strict=True):
            yield row.epoch, row.step, problem, sample


def facts(run: Run) -> dict[str, Any]:
    return dict(run.get_index(EXAMPLES).facts["0"])


def test_steps_hold_exactly_batch_size_examples(tmp_path: Path, start_stage: StartStage) -> None:
    run = make_run(tmp_path)
    assert start_stage("build", run).returncode == 0
    rows = rows_of(run, tmp_path)
    assert set(Counter(step for _, step, _, _ in placed(rows)).values()) == {8}
    assert [row.step for row in rows] == sorted(row.step for row in rows)
    assert all(sum(row.lengths) == len(row.input_ids) == len(row.loss_mask) <= 256 for row in rows)


def test_every_example_once_per_epoch_but_for_the_last_remainder(tmp_path: Path, start_stage: StartStage) -> None:
    run = make_run(tmp_path)
    start_stage("build", run)
    seen = Counter((epoch, problem, sample) for epoch, _, problem, sample in placed(rows_of(run, tmp_path)))
    assert set(seen.values()) == {1}
    per_epoch = Counter(epoch for epoch, _, _ in seen)
    # 3 epochs of 21 are 63: seven steps of 8 and 7 left.
    assert per_epoch == {0: 21, 1: 21, 2: 14}
    assert facts(run)["dropped_at_end"] == 7


def test_building_again_gives_the_same_bytes(tmp_path: Path, start_stage: StartStage) -> None:
    digests = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        run = make_run(tmp_path / name)
        start_stage("build", run)
        digests.append(run.get_index(EXAMPLES).digest())
    assert digests[0] == digests[1]


ADDED_UP = ("examples", "passed", "failed", "truncated", "steps", "dropped_at_end", "tokens", "excluded")


@pytest.mark.parametrize(("parts", "batch_size"), [(2, 8), (3, 5), (5, 4), (9, 40)])
def test_any_number_of_parts_builds_the_rows_that_one_builds(tmp_path: Path, parts: int, batch_size: int) -> None:
    built, told = [], []
    for number in (1, parts):
        folder = tmp_path / str(number)
        folder.mkdir()
        lengths = {"max_length": 96, "pack_length": 256}
        train = {"batch_size": batch_size}
        run = make_run(folder, leave_one_unjudged, build={**lengths, "parts": number}, train=train)
        for part in reversed(range(number)):
            build(Job(run, "build", 0, part=Part(part, number), scratch=folder))
        built.append(rows_of(run, folder))
        told.append(list(run.get_index(EXAMPLES).facts.values()))
    assert built[0] == built[1]
    assert told[0][0]["truncated"] > 0
    for name in ADDED_UP:
        assert told[0][0][name] == sum(one[name] for one in told[1]), name


def test_a_part_that_is_not_of_the_specs_division_is_refused(tmp_path: Path, start_stage: StartStage) -> None:
    done = start_stage("build", make_run(tmp_path), "--part", "0/2")
    assert done.returncode == 2
    assert "build of this run has 1 parts; write K/1" in done.stderr


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 4), st.integers(1, 9))
def test_parts_share_steps_and_examples_without_rest(examples: int, batch_size: int, epochs: int, parts: int) -> None:
    groups = schedule(examples, TrainSpec(batch_size=batch_size, epochs=epochs), 3)
    shares = [take_share(examples, groups, epochs, Part(number, parts)) for number in range(parts)]
    together = [group for share in shares for group in share.groups]
    assert [(group.epoch, group.step) for group in together] == [(group.epoch, group.step) for group in groups]
    assert sum(share.counted.astype(int) for share in shares).tolist() == [1] * examples
    assert all(share.needed[group.examples].all() for share in shares for group in share.groups)


def leave_one_unjudged(pairs: Pairs) -> Pairs:
    """The platform failed on one sample."""
    sample, execution = pairs[4]
    unjudged = execution.model_copy(update={"outcome": "infra_error", "feedback": ""})
    return [*pairs[:4], (sample, unjudged), *pairs[5:]]


def test_infra_errors_are_left_out_and_counted(tmp_path: Path, start_stage: StartStage) -> None:
    run = make_run(tmp_path, leave_one_unjudged)
    assert start_stage("build", run).returncode == 0
    found = facts(run)
    assert (found["examples"], found["excluded"], found["passed"], found["failed"]) == (20, 1, 9, 11)
    assert ("test/0", 4) not in {(problem, sample) for _, _, problem, sample in placed(rows_of(run, tmp_path))}


def test_executions_of_other_samples_are_refused(tmp_path: Path, start_stage: StartStage) -> None:
    def swap(pairs: Pairs) -> Pairs:
        first, second = pairs[0][1], pairs[1][1]
        return [(pairs[0][0], second), (pairs[1][0], first), *pairs[2:]]

    done = start_stage("build", make_run(tmp_path, swap))
    assert done.returncode == 65
    assert "the execution of test/0, sample 1 stands where that of test/0, sample 0 belongs" in done.stderr


def test_all_platform_failures_leave_nothing_to_train_on(tmp_path: Path, start_stage: StartStage) -> None:
    def break_all(pairs: Pairs) -> Pairs:
        broken = {"outcome": "infra_error", "feedback": ""}
        return [(sample, execution.model_copy(update=broken)) for sample, execution in pairs]

    done = start_stage("build", make_run(tmp_path, break_all))
    assert done.returncode == 65
    assert "none of 21 samples has a verdict" in done.stderr


def test_progress_and_facts_reach_the_log_as_json(tmp_path: Path, start_stage: StartStage) -> None:
    done = start_stage("build", make_run(tmp_path), LETI_LOG="json")
    events = {event["event"]: event for event in map(json.loads, done.stderr.splitlines())}
    assert events["built"]["packing_fill"] > 0.5
    assert events["committed"]["rows"] > 0


@pytest.mark.slow
def test_datasets_reads_the_rows(tmp_path: Path, start_stage: StartStage) -> None:
    import datasets

    run = make_run(tmp_path)
    start_stage("build", run)
    files = [str(path) for path in run.paths(EXAMPLES, tmp_path)]
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.column_names == list(PackedRow.model_fields)
    assert len(loaded) == len(rows_of(run, tmp_path))


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 4), st.one_of(st.none(), st.integers(0, 9)))
def test_schedule_counts(examples: int, batch_size: int, epochs: int, seed: int | None) -> None:
    groups = schedule(examples, TrainSpec(batch_size=batch_size, epochs=epochs), seed)
    steps = Counter[int]()
    for group in groups:
        steps[group.step] += len(group.examples)
    assert set(steps.values()) == {min(batch_size, examples)}
    assert sum(steps.values()) > examples * epochs - min(batch_size, examples)
    for epoch in range(epochs):
        numbers = np.concatenate([g.examples for g in groups if g.epoch == epoch] or [np.array([], int)])
        assert len(set(numbers.tolist())) == len(numbers)


def test_generation_order_is_kept_and_shuffling_differs_by_epoch() -> None:
    kept = schedule(8, TrainSpec(batch_size=8, epochs=2), None)
    assert [group.examples.tolist() for group in kept] == [list(range(8))] * 2
    first, second = schedule(8, TrainSpec(batch_size=8, epochs=2), 5)
    assert first.examples.tolist() != second.examples.tolist()
