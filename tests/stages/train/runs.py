"""Runs that are ready to train, and the plainest trainer to hold ours against."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from stages.build.stage import build
from stages.contract.artifacts import Ref
from stages.contract.records import Problem, StepLog
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import open_store
from stages.entrypoint import Job
from stages.train.engine import Batch
from stages.train.stage import make_plan
from tests.loop import commit_blocks, commit_checkpoint, commit_judged, commit_problems, judged_samples
from tests.models import Architecture, llama, make_model

TRAIN = {
    "batch_size": 6,
    "epochs": 2,
    "micro_batch_tokens": 256,
    "learning_rate": 1e-3,
    "checkpoint_steps": 100,
    "pretraining_batch_size": 3,
}


def make_run(
    folder: Path, architecture: Architecture = llama, *, dtype: str = "float32", store: str | None = None, **train: Any
) -> Run:
    """Return a run whose iteration 0 is built: 12 FCFT steps on a tiny model, 24 with the other stream."""
    spec = {
        "train": {**TRAIN, **train},
        "build": {"max_length": 256, "pack_length": 256},
        "pretraining": {"block_length": 32},
        "model": {"dtype": dtype},
    }
    run = Run(open_store(store or str(folder / "store")), "r1")
    run.create(RunSpec.model_validate(spec))
    commit_checkpoint(run, folder, make_model(folder / "model", architecture))
    problems = commit_problems(run, folder)
    commit_blocks(run, folder)
    commit_judged(run, folder, judged_samples(problems, 12))
    if run.spec.uses_samples():
        build(Job(run, "build", 0, scratch=folder))
    return run


def add_iteration(run: Run, folder: Path, iteration: int) -> None:
    """Judge and build an iteration whose checkpoint is there."""
    problems = list(run.read(Ref("problems", split="train"), Problem))
    commit_judged(run, folder, judged_samples(problems, 12, seed=iteration), iteration=iteration)
    build(Job(run, "build", iteration, scratch=folder))


def steps_of(run: Run, iteration: int = 0) -> list[StepLog]:
    """Return the loss log."""
    return list(run.read(Ref("steps", iteration), StepLog))


def weights_of(run: Run, iteration: int, scratch: Path) -> dict[str, Tensor]:
    """Return the weights of a checkpoint."""
    return load_file(run.fetch(Ref("checkpoint", iteration), scratch) / "model.safetensors")


class Reference:
    """Plain torch: every example alone through the model, AdamW over the two groups, one process."""

    def __init__(self, run: Run, scratch: Path) -> None:
        from transformers import AutoModelForCausalLM

        folder = run.fetch(Ref("checkpoint", 0), scratch)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        train = run.spec.train
        named = list(self.model.named_parameters())
        plain = [p for name, p in named if "norm" in name or "ln_" in name or name.endswith("bias")]
        decayed = [p for name, p in named if not any(p is other for other in plain)]
        groups = [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": train.weight_decay}]
        self.optimizer = torch.optim.AdamW(groups, lr=train.learning_rate, betas=train.betas, eps=train.eps)
        self.run, self.scratch = run, scratch

    def train(self, iteration: int = 0) -> Iterator[float]:
        """Take every step of the iteration and yield its loss."""
        for step in make_plan(Job(self.run, "train", iteration, scratch=self.scratch)).steps:
            self.optimizer.zero_grad()
            loss = torch.stack([self._mean(batch) for batch in step.batches]).sum()
            loss.backward()
            if clip := self.run.spec.train.gradient_clip:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip)
            self.optimizer.step()
            yield loss.item()

    def _mean(self, batch: Batch) -> Tensor:
        total = torch.zeros(())
        for row in batch.rows:
            pieces = (torch.from_numpy(part.copy()).long().split(row.lengths.tolist()) for part in (row[0], row[2]))
            for ids, mask in zip(*pieces, strict=True):
                logits = self.model(input_ids=ids[None]).logits[0, :-1]
                total = total + F.cross_entropy(logits[mask[1:] > 0], ids[1:][mask[1:] > 0], reduction="sum")
        return total / batch.num_targets


def events(stderr: str) -> list[dict[str, Any]]:
    """Return the log events of a stage that ran with LETI_LOG=json, whatever else libraries print."""
    return [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]
