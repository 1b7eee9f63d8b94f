"""The plain PyTorch trainer against plain torch without packing, against DeepSpeed, and against itself resumed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stages.contract.artifacts import Ref
from stages.contract.run import Run
from stages.entrypoint import Job
from stages.train.engine import Step, Trainer
from stages.train.model import Start, load_model, write_model
from stages.train.plain import TorchTrainer
from stages.train.stage import make_plan
from stages.train.static import MicroBatch, StaticLoss, cut, shape_of
from tests.models import codegen, llama
from tests.stages.train.runs import Reference, make_run


@contextmanager
def training(run: Run, scratch: Path, state: Path | None = None, engine: str = "torch") -> Iterator[Trainer]:
    """A trainer of the run's first iteration in this process."""
    start, train = Start(run.fetch(Ref("checkpoint", 0), scratch), state, run.spec.model.dtype), run.spec.train
    rendezvous = scratch / f"meet-{len(list(scratch.iterdir()))}"
    rendezvous.mkdir()
    if engine == "torch":
        trainer: Trainer = TorchTrainer(start, train, shape_of(run.spec), rendezvous)
    else:
        from stages.train.deepspeed import DeepSpeedTrainer

        trainer = DeepSpeedTrainer(start, train, rendezvous)
    try:
        yield trainer
    finally:
        trainer.close()


def steps_of(run: Run, scratch: Path) -> list[Step]:
    return list(make_plan(Job(run, "train", 0, scratch=scratch)).steps)


def weights_of(trainer: Any) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in trainer.parameters.items()}


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        (llama, {"objective": "alternate", "weight_decay": 0.3}),
        (codegen, {"objective": "sum", "gradient_clip": 0.5}),
        (llama, {"objective": "fcft", "activation_checkpointing": True, "micro_batch_tokens": 600}),
    ],
    ids=["alternate", "sum", "fcft"],
)
def test_it_trains_like_torch_on_one_example_at_a_time(architecture: Any, changes: Any, tmp_path: Path) -> None:
    run = make_run(tmp_path, architecture, engine="torch", **changes)
    reference = Reference(run, tmp_path)
    expected = list(reference.train())
    with training(run, tmp_path) as trainer:
        found = [trainer.train_step(step) for step in steps_of(run, tmp_path)]
        torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=2e-5, atol=2e-5)
        assert_close(weights_of(trainer), dict(reference.model.named_parameters()))


@pytest.mark.slow
def test_engines_agree_and_go_on_from_each_others_state(tmp_path: Path) -> None:
    run = make_run(tmp_path, weight_decay=0.3, gradient_clip=0.5)
    steps = steps_of(run, tmp_path)
    losses, weights = {}, {}
    for first, second in (("torch", "torch"), ("torch", "deepspeed"), ("deepspeed", "torch")):
        state = tmp_path / f"{first}-{second}"
        with training(run, tmp_path, engine=first) as trainer:
            begun = [trainer.train_step(step) for step in steps[:9]]
            trainer.save_state(state, weights=True)
        with training(run, tmp_path, state, engine=second) as trainer:
            losses[first, second] = begun + [trainer.train_step(step) for step in steps[9:]]
            weights[first, second] = weights_of(trainer)
    expected = losses.pop(("torch", "torch"))
    for name, found in losses.items():
        torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=2e-5, atol=2e-5)
        assert_close(weights[name], weights["torch", "torch"])


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resumed_trainer_is_bit_for_bit_the_uninterrupted_one(tmp_path: Path, precision: str) -> None:
    run = make_run(tmp_path, engine="torch", precision=precision)
    steps = steps_of(run, tmp_path)
    with training(run, tmp_path) as trainer:
        whole = [trainer.train_step(step) for step in steps]
        expected = weights_of(trainer)
    with training(run, tmp_path) as trainer:
        parts = [trainer.train_step(step) for step in steps[:11]]
        trainer.save_state(tmp_path / "state", weights=True)
    with training(run, tmp_path, tmp_path / "state") as trainer:
        parts += [trainer.train_step(step) for step in steps[11:]]
        assert parts == whole
        for name, value in weights_of(trainer).items():
            assert torch.equal(value, expected[name]), name


def test_every_micro_batch_of_a_run_has_one_shape(tmp_path: Path) -> None:
    run = make_run(tmp_path, engine="torch", micro_batch_tokens=600)
    shapes = set()

    def note(_module: StaticLoss, given: tuple[MicroBatch]) -> None:
        shapes.add(tuple((tuple(tensor.shape), tensor.dtype) for tensor in given[0]))

    with training(run, tmp_path) as trainer:
        assert isinstance(trainer, TorchTrainer)
        trainer.loss.register_forward_pre_hook(note)
        streams = {step.stream for step in steps_of(run, tmp_path) if trainer.train_step(step)}
    assert streams == {"fcft", "pretraining"}
    ((first, *_),) = shapes
    assert first == ((2, 256), torch.int64)


def test_gradients_stay_in_their_buffer(tmp_path: Path) -> None:
    run = make_run(tmp_path, engine="torch")
    with training(run, tmp_path) as trainer:
        assert isinstance(trainer, TorchTrainer)
        trainer.train_step(steps_of(run, tmp_path)[0])
        gradients = [parameter.grad.flatten() for parameter in trainer.parameters.values()]
        assert torch.equal(torch.cat(gradients), trainer.gradients) and trainer.gradients.any()


class Operations(TorchDispatchMode):
    """Collects every operation with the shapes it is given: what a device that compiles would compile."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[str, ...]] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [str(tuple(one.shape)) for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        self.seen.add((str(function), *given))
        return function(*args, **(kwargs or {}))


def test_no_later_step_runs_an_operation_that_the_first_did_not(tmp_path: Path) -> None:
    run = make_run(tmp_path, engine="torch", micro_batch_tokens=600)
    steps = steps_of(run, tmp_path)
    assert len({len(cut(step.batches[0], 1, shape_of(run.spec))[0]) for step in steps}) > 1
    with training(run, tmp_path) as trainer:
        with Operations() as first:
            trainer.train_step(steps[0])
        with Operations() as later:
            for step in steps[1:6]:
                trainer.train_step(step)
    assert len(first.seen) > 50
    assert later.seen == first.seen


def test_large_weights_are_written_in_shards_that_load_as_one(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    model = load_model(Start(run.fetch(Ref("checkpoint", 0), tmp_path), None, "float32"))
    weights = {name: parameter.data for name, parameter in model.named_parameters()}
    for name, shard_bytes in (("whole", 1 << 30), ("shards", 1 << 14)):
        (tmp_path / name).mkdir()
        model.config.save_pretrained(tmp_path / name)
        write_model(model, weights, "float32", tmp_path / name, shard_bytes=shard_bytes)
    assert [path.name for path in (tmp_path / "whole").glob("*.safetensors*")] == ["model.safetensors"]
    assert len(list((tmp_path / "shards").glob("model-*-of-*.safetensors"))) > 2
    loaded = load_model(Start(tmp_path / "shards", None, "float32"))
    for name, parameter in loaded.named_parameters():
        assert torch.equal(parameter.data, weights[name]), name
