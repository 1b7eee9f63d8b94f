"""The stage as a container runs it, against plain torch. Every test here starts real processes, most of them forked
from one that has imported torch and transformers before, which takes longer than these tests.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch

from stages.contract.artifacts import Part, Ref
from stages.contract.run import Run
from stages.entrypoint import Job
from tests.forks import Forks
from tests.loop import SOURCE, commit_checkpoint
from tests.models import codegen, llama, make_model
from tests.stages.train.runs import Reference, add_iteration, events, make_run, steps_of, weights_of

pytestmark = pytest.mark.slow
StartStage = Callable[..., CompletedProcess[str]]
Train = Callable[[Run], CompletedProcess[str]]


IMPORTED = (
    "transformers.models.llama.modeling_llama",
    "transformers.models.codegen.modeling_codegen",
    "transformers.models.auto.modeling_auto",
    "stages.train.plain",
    "stages.train.stage",
    "deepspeed",
    "pyarrow.parquet",
)


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with Forks("stages.train", tmp_path_factory.mktemp("forks"), imported=IMPORTED) as made:
        yield made


@pytest.fixture
def train(forks: Forks) -> Train:
    """Run the stage of iteration 0 in one process."""
    return lambda run: forks.run(["--run", run.uri], os.environ)


def assert_like_reference(run: Any, scratch: Path, reference: Reference, iteration: int = 0) -> None:
    """The loss of every step and the weights at the end are those of plain torch."""
    losses = list(reference.train(iteration))
    found = [step.loss for step in steps_of(run, iteration)]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(losses), rtol=2e-5, atol=2e-5)
    weights = weights_of(run, iteration + 1, scratch)
    expected = {name: value for name, value in reference.model.state_dict().items() if name in weights}
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize(
    ("architecture", "objective"),
    [(llama, "alternate"), (codegen, "alternate"), (llama, "sum"), (llama, "fcft"), (llama, "pretraining")],
)
def test_one_process_trains_like_plain_torch(architecture: Any, objective: str, tmp_path: Path, train: Train) -> None:
    run = make_run(tmp_path, architecture, objective=objective, weight_decay=0.3)
    done = train(run)
    assert done.returncode == 0, done.stderr
    assert_like_reference(run, tmp_path, Reference(run, tmp_path))


@pytest.mark.parametrize(
    ("zero_stage", "processes", "clip"),
    [
        pytest.param(0, 2, None, marks=pytest.mark.soak),
        pytest.param(1, 2, None, marks=pytest.mark.soak),
        (2, 2, 0.5),
        pytest.param(3, 2, None, marks=pytest.mark.soak),
    ],
)
def test_any_zero_stage_trains_like_plain_torch_over_two_iterations(
    zero_stage: int, processes: int, clip: float | None, tmp_path: Path, start_stage: StartStage
) -> None:
    changes = {"zero_stage": zero_stage, "processes": processes, "gradient_clip": clip, "weight_decay": 0.3}
    run = make_run(tmp_path, llama, checkpoint_steps=5, **changes)
    reference = Reference(run, tmp_path)
    for iteration in (0, 1):
        if iteration:
            add_iteration(run, tmp_path, iteration)
        done = start_stage("train", run, "--iteration", str(iteration))
        assert done.returncode == 0, done.stderr
        assert_like_reference(run, tmp_path, reference, iteration)


@pytest.mark.soak
def test_it_trains_from_and_to_s3(tmp_path: Path, start_stage: StartStage, s3_uri: str) -> None:
    run = make_run(tmp_path, llama, store=s3_uri, checkpoint_steps=9)
    done = start_stage("train", run)
    assert done.returncode == 0, done.stderr
    assert_like_reference(run, tmp_path, Reference(run, tmp_path))
    assert list(run.store.list(run.key("iterations/0000/train/"))) == []


@pytest.mark.soak
def test_without_keep_optimizer_moments_start_from_zero(tmp_path: Path, start_stage: StartStage) -> None:
    run = make_run(tmp_path, llama, keep_optimizer=False)
    reference = Reference(run, tmp_path)
    for iteration in (0, 1):
        if iteration:
            add_iteration(run, tmp_path, iteration)
            reference.optimizer.state.clear()
        assert start_stage("train", run, "--iteration", str(iteration)).returncode == 0
        assert_like_reference(run, tmp_path, reference, iteration)
    assert run.find_index(Ref("optimizer", 1)) is None


def test_the_checkpoint_loads_with_its_tokenizer(tmp_path: Path, train: Train) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = make_run(tmp_path, codegen)
    assert train(run).returncode == 0
    folder = run.fetch(Ref("checkpoint", 1), tmp_path)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    (good,) = tokenizer("<|good|>")["input_ids"]
    assert model.generate(torch.tensor([[good]]), max_new_tokens=3, do_sample=False).shape[1] > 1


def test_bf16_trains_near_fp32(tmp_path: Path, train: Train) -> None:
    run = make_run(tmp_path, llama, precision="bf16", learning_rate=1e-4)
    done = train(run)
    assert done.returncode == 0, done.stderr
    losses = list(Reference(run, tmp_path).train())
    torch.testing.assert_close(torch.tensor([s.loss for s in steps_of(run)]), torch.tensor(losses), rtol=1e-2, atol=0)
    assert all(value.dtype == torch.float32 for value in weights_of(run, 1, tmp_path).values())


def test_bfloat16_parameters_are_rounded_after_every_step(tmp_path: Path, train: Train) -> None:
    run = make_run(tmp_path, llama, parameters="bfloat16")
    assert train(run).returncode == 0
    for value in weights_of(run, 1, tmp_path).values():
        assert torch.equal(value, value.bfloat16().float())


@pytest.mark.soak
def test_bfloat16_checkpoints_keep_fp32_masters_in_the_optimizer(tmp_path: Path, start_stage: StartStage) -> None:
    run = make_run(tmp_path, llama, dtype="bfloat16")
    reference = Reference(run, tmp_path)
    for iteration in (0, 1):
        if iteration:
            add_iteration(run, tmp_path, iteration)
        assert start_stage("train", run, "--iteration", str(iteration)).returncode == 0
        losses = list(reference.train(iteration))
        found = [step.loss for step in steps_of(run, iteration)]
        torch.testing.assert_close(torch.tensor(found), torch.tensor(losses), rtol=2e-5, atol=2e-5)
    assert all(value.dtype == torch.bfloat16 for value in weights_of(run, 2, tmp_path).values())


def test_progress_counters_and_nothing_else_reach_the_log(tmp_path: Path, start_stage: StartStage) -> None:
    run = make_run(tmp_path)
    done = start_stage("train", run, LETI_LOG="json")
    logged = events(done.stderr)
    assert len(logged) == len(done.stderr.splitlines()) and done.stdout == ""
    last = [event for event in logged if event["event"] == "progress"][-1]
    assert (last["done"], last["total"], last["unit"]) == (24, 24, "steps")
    assert last["loss"] > 0 and last["tokens_per_second"] > 0
    record = run.find_part(Ref("checkpoint", 1), Part())
    assert record is not None
    assert {"tokens", "tokens_per_second", "load_seconds"} <= record.made.counters.keys()


def test_a_loss_that_is_not_a_number_names_the_step(tmp_path: Path, train: Train) -> None:
    done = train(make_run(tmp_path, llama, learning_rate=1e30))
    assert done.returncode == 78
    said = r"iteration 0, step \d+ \(\w+\): the loss is (nan|inf); start a run with a lower train.learning_rate \(now"
    assert re.search(said, done.stderr), done.stderr


def test_the_error_of_a_process_is_the_error_of_the_stage(tmp_path: Path, start_stage: StartStage) -> None:
    done = start_stage("train", make_run(tmp_path, llama, learning_rate=1e30, processes=2), LETI_LOG="json")
    assert done.returncode == 78
    assert [event["kind"] for event in events(done.stderr) if event["event"] == "failed"] == ["SpecError"]


@pytest.mark.soak
def test_the_state_of_another_model_is_refused(tmp_path: Path, start_stage: StartStage) -> None:
    run = make_run(tmp_path)
    assert start_stage("train", run).returncode == 0
    other = make_model(tmp_path / "other", llama, hidden_size=16)
    state = run.fetch(Ref("optimizer", 1), tmp_path)
    commit_checkpoint(run, tmp_path, other, iteration=5)
    Job(run, "train", 4, scratch=tmp_path).commit_folder(Ref("optimizer", 5), state, inputs=SOURCE)
    add_iteration(run, tmp_path, 5)
    done = start_stage("train", run, "--iteration", "5")
    assert done.returncode == 65
    assert "it belongs to another model" in done.stderr
