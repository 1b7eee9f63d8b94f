"""The plain PyTorch trainer: AdamW on tensors of one shape, for TPUs and for anything else torch knows.

Weights are fp32 and bf16 is autocast, so the weights are the masters whatever the precision. All gradients are views of
one buffer, zeroed and not dropped between steps: every micro-batch is then the same program, and processes add their
gradients up in one go. Each process holds weights and optimizer state whole; there is no sharding here.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from stages.contract.spec import TrainSpec
from stages.train import state
from stages.train.engine import Batch, Step
from stages.train.group import Group
from stages.train.model import Start, decay_groups, explaining_memory, load_model, write_model
from stages.train.packed import recompute_activations
from stages.train.static import MicroBatch, Shape, Slot, StaticLoss, cut, lay_out


class TorchTrainer:
    """`Trainer` without a framework."""

    def __init__(self, start: Start, train: TrainSpec, shape: Shape, scratch: Path) -> None:
        self.train, self.shape, self.dtype = train, shape, start.dtype
        self.group = Group(scratch)
        self.device, self.rank = self.group.device, self.group.rank
        if self.device.type == "tpu" and train.precision == "fp32":
            torch.set_float32_matmul_precision("highest")  # else TPUs multiply in bf16
        self.model = load_model(start).to(self.device)
        if train.activation_checkpointing:
            recompute_activations(self.model)
        self.loss = StaticLoss(self.model)
        self.parameters = dict(self.model.named_parameters())
        self.gradients = _gradient_buffer(list(self.parameters.values()))
        self.optimizer = self._start_optimizer(start.state)

    def train_step(self, step: Step) -> float:
        """Take one optimizer step and return its loss."""
        with explaining_memory(step, self.train, "fewer or with train.activation_checkpointing"):
            self.gradients.zero_()
            loss = sum(self._accumulate(batch) for batch in step.batches)
            if math.isfinite(loss):
                self._update()
        return loss

    def any(self, flag: bool) -> bool:
        """Whether `flag` holds on any process."""
        return self.group.any(flag)

    def check_agreement(self, value: int, what: str) -> None:
        """Raise `RetryableError` unless all processes hold the same value."""
        self.group.check_agreement(value, what)

    def save_state(self, folder: Path, *, weights: bool) -> None:
        """Write moments, step count and, if asked, the fp32 weights."""
        if self.rank:
            return
        for group in state.MOMENTS:
            state.write_tensors(folder, group, {name: self._moment(name, group).cpu() for name in self.parameters})
        if weights:
            state.write_tensors(folder, state.WEIGHTS, self._weights())
        state.write_steps(folder, self.optimizer_steps)

    def save_model(self, folder: Path) -> None:
        """Write the weights in the run's number format."""
        if self.rank == 0:
            write_model(self.model, self._weights(), self.dtype, folder)

    def close(self) -> None:
        """Leave the process group."""
        self.group.leave()

    def _accumulate(self, batch: Batch) -> float:
        """Add the batch's gradients and return its mean loss over all processes."""
        targets = max(1, batch.num_targets)
        scale = torch.tensor(1 / targets, device=self.device)
        losses = []
        for slots in cut(batch, self.group.size, self.shape)[self.rank]:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.train.precision == "bf16"):
                loss = self.loss(self._tensors(slots))
            (loss * scale).backward()
            losses.append(loss.detach())
        # Looked at after the last one: the device works ahead meanwhile.
        return self.group.sum(sum(float(loss) for loss in losses)) / targets

    def _tensors(self, slots: list[Slot]) -> MicroBatch:
        return MicroBatch(*(torch.from_numpy(array).to(self.device) for array in lay_out(slots, self.shape)))

    def _update(self) -> None:
        if self.group.size > 1:
            dist.all_reduce(self.gradients)
        if self.train.gradient_clip:
            nn.utils.clip_grad_norm_(self.parameters.values(), self.train.gradient_clip, foreach=False)
        self.optimizer.step()
        self.optimizer_steps += 1
        if self.train.parameters == "bfloat16":
            for parameter in self.parameters.values():
                parameter.data.copy_(parameter.data.bfloat16())

    def _start_optimizer(self, folder: Path | None) -> torch.optim.Optimizer:
        """Return AdamW with the state in `folder`, or with an empty one."""
        on_tpu = self.device.type == "tpu"
        optimizer = torch.optim.AdamW(
            decay_groups(self.model, self.train.weight_decay),
            lr=self.train.learning_rate,
            betas=self.train.betas,
            eps=self.train.eps,
            fused=not on_tpu,
            capturable=on_tpu,  # counts steps on the device, else every count would be another program
        )
        self.optimizer_steps = state.read_steps(folder) if folder else 0
        moments = {group: state.read_tensors(folder, group, self.parameters) for group in state.MOMENTS if folder}
        for name, parameter in self.parameters.items():
            filled = {group: moments[group][name].to(self.device) for group in moments}
            empty = {group: torch.zeros_like(parameter) for group in state.MOMENTS if not folder}
            steps = torch.tensor(float(self.optimizer_steps), device=self.device)
            optimizer.state[parameter] = {"step": steps, **empty, **filled}
        return optimizer

    def _moment(self, name: str, group: str) -> Tensor:
        moment: Tensor = self.optimizer.state[self.parameters[name]][group]
        return moment

    def _weights(self) -> state.Tensors:
        return {name: parameter.detach().cpu() for name, parameter in self.parameters.items()}


def _gradient_buffer(parameters: list[nn.Parameter]) -> Tensor:
    """Return one buffer of zeros that all gradients are views of."""
    whole = torch.zeros(sum(parameter.numel() for parameter in parameters), device=parameters[0].device)
    for parameter, flat in zip(parameters, whole.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = flat.view_as(parameter)
    return whole
