"""The DeepSpeed trainer: ZeRO 0 to 3, one or many processes, gloo on CPU and NCCL on CUDA.

Weights are fp32 and bf16 is autocast, so the weights are the masters whatever the precision. Gradients of a step's
micro-batches add up, each scaled by the targets of the whole step, and DeepSpeed is told where the step ends.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.contract.errors import SpecError
from stages.contract.spec import TrainSpec
from stages.device import find_device
from stages.train import state
from stages.train.engine import Batch, Row, Step
from stages.train.group import Group
from stages.train.model import Start, decay_groups, explaining_memory, load_model, write_model
from stages.train.packed import HEAD_CHUNK, PackedLoss, recompute_activations
from stages.train.plan import divide

log = logging.getLogger("leti.train")
# DeepSpeed's autotuner, which nothing here uses, imports MLflow where it is installed, for seconds.
sys.modules.setdefault("mlflow", None)  # type: ignore[arg-type]
NOTHING = Row(np.zeros(2, np.int32), np.array([2], np.int32), np.zeros(2, np.int8))
"""What a process without work computes, so that it takes part in every collective."""


class DeepSpeedTrainer:
    """`Trainer` on `deepspeed.initialize`."""

    def __init__(self, start: Start, train: TrainSpec, scratch: Path) -> None:
        self.train, self.dtype = train, start.dtype
        self.group = _join(scratch)
        self.device, self.rank, self.world = self.group.device, self.group.rank, self.group.size
        self.model = load_model(start)
        self.parameters = dict(self.model.named_parameters())
        # ZeRO 3 empties the parameters; the shapes are still needed to check a state against.
        self.shapes = {name: torch.empty_like(value, device="meta") for name, value in self.parameters.items()}
        if train.activation_checkpointing:
            recompute_activations(self.model)
        self.engine = self._initialize()
        self._start_optimizer(start.state)

    def train_step(self, step: Step) -> float:
        """Take one optimizer step and return its loss."""
        with explaining_memory(
            step, self.train, "fewer, with train.activation_checkpointing or with a higher train.zero_stage"
        ):
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
        groups = [*state.MOMENTS, *([state.WEIGHTS] if weights else [])]
        for group in groups:
            tensors = self._gather(None if group == state.WEIGHTS else group)
            if self.rank == 0:
                state.write_tensors(folder, group, tensors)
        if self.rank == 0:
            state.write_steps(folder, self.optimizer_steps)

    def save_model(self, folder: Path) -> None:
        """Write the weights in the run's number format."""
        tensors = self._gather(None)
        if self.rank == 0:
            write_model(self.model, tensors, self.dtype, folder)

    def close(self) -> None:
        """Leave the process group."""
        _import_deepspeed().comm.destroy_process_group()  # torch's, and what DeepSpeed remembers of it

    def _accumulate(self, batch: Batch) -> float:
        """Add the batch's gradients and return its mean loss over all processes."""
        targets = max(1, batch.num_targets)
        total = torch.zeros((), device=self.device, dtype=torch.float64)
        for rows in divide(batch, self.world, self.train.micro_batch_tokens)[self.rank]:
            loss = self.engine(*self._tensors(rows or (NOTHING,)))
            # DeepSpeed averages gradients over processes, and the targets count all of them.
            self.engine.backward(loss * (self.world / targets))
            total += loss.detach()
        return self.group.sum(float(total.item())) / targets

    def _tensors(self, rows: tuple[Row, ...]) -> tuple[Tensor, list[int], Tensor]:
        ids = np.concatenate([row.input_ids for row in rows]).astype(np.int64)
        mask = np.concatenate([row.loss_mask for row in rows])
        lengths = np.concatenate([row.lengths for row in rows]).tolist()
        return torch.from_numpy(ids).to(self.device), lengths, torch.from_numpy(mask).to(self.device)

    def _update(self) -> None:
        self.engine.step()
        self.optimizer_steps += 1
        if self.train.parameters == "bfloat16":
            for parameter in self.parameters.values():
                parameter.data.copy_(parameter.data.bfloat16())

    def _initialize(self) -> Any:
        deepspeed = _import_deepspeed()
        # ZeRO 3 gathers the head's weights at every call, and processes must make equally many.
        chunk = HEAD_CHUNK if self.train.zero_stage < 3 else 2**62
        loss = PackedLoss(self.model, chunk).to(self.device)
        optimizer = torch.optim.AdamW(
            decay_groups(self.model, self.train.weight_decay),
            lr=self.train.learning_rate,
            betas=self.train.betas,
            eps=self.train.eps,
            fused=True,
        )
        engine, *_ = deepspeed.initialize(model=loss, optimizer=optimizer, config=_config(self.train))
        return engine

    def _start_optimizer(self, folder: Path | None) -> None:
        """Give the optimizer the state in `folder`, or the empty one it would make at its first step."""
        self.optimizer_steps = state.read_steps(folder) if folder else 0
        if folder is None and self.train.zero_stage == 0:
            return
        for flat in self._flat():
            # AdamW makes its state lazily, which for ZeRO is too late to fill it.
            empty = {key: torch.zeros_like(flat) for key in state.MOMENTS}
            steps = torch.tensor(float(self.optimizer_steps), device=flat.device)
            self._basic.state[flat] = {"step": steps, **empty}
        if self.train.zero_stage in (1, 2):
            self.engine.optimizer._lazy_init_hp_params_optimizer_state()
        if folder:
            for group in state.MOMENTS:
                self._scatter(group, state.read_tensors(folder, group, self.shapes))

    @property
    def _basic(self) -> torch.optim.Optimizer:
        return self.engine.basic_optimizer

    def _flat(self) -> list[Tensor]:
        """The tensors the basic optimizer steps: the parameters, or this process's flat partitions of them."""
        if self.train.zero_stage == 0:
            return list(self.parameters.values())
        where = "fp32_partitioned_groups_flat" if self.train.zero_stage == 3 else "single_partition_of_fp32_groups"
        return list(getattr(self.engine.optimizer, where))

    def _gather(self, group: str | None) -> state.Tensors:
        """Return whole tensors by parameter name: a moment, or for None the weights. Empty except on rank 0."""
        gathered = ((name, self._whole(parameter, group)) for name, parameter in self.parameters.items())
        return {name: tensor.detach().cpu() for name, tensor in gathered if self.rank == 0}

    def _whole(self, parameter: nn.Parameter, group: str | None) -> Tensor:
        if self.train.zero_stage == 0:
            return parameter.detach() if group is None else self._moment(parameter, group)
        from deepspeed import utils

        if group is None:
            whole = utils.safe_get_full_fp32_param(parameter)
        else:
            whole = utils.safe_get_full_optimizer_state(parameter, group)
        return whole.view(getattr(parameter, "ds_shape", parameter.shape))

    def _moment(self, parameter: nn.Parameter, group: str) -> Tensor:
        """Return a moment; before the first step, and for a parameter without gradients, there is none yet."""
        moments = self._basic.state.get(parameter, {})
        return moments[group] if group in moments else torch.zeros_like(parameter)

    def _scatter(self, group: str, tensors: state.Tensors) -> None:
        """Fill a moment from whole tensors."""
        from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

        for name, parameter in self.parameters.items():
            value = tensors[name].to(self.device)
            if self.train.zero_stage == 0:
                self._basic.state[parameter][group].copy_(value)
            elif self.train.zero_stage == 3:
                share = parameter.ds_tensor.numel()
                padded = nn.functional.pad(value.flatten(), (0, share * self.world - value.numel()))
                safe_set_local_optimizer_state(parameter, padded[share * self.rank :][:share], group)
            else:
                safe_set_full_optimizer_state(parameter, value, group)


def _join(scratch: Path) -> Group:
    if find_device().type == "tpu":
        raise SpecError("train.engine: deepspeed has no TPU accelerator; start a run with train.engine torch")
    if "RANK" not in os.environ:
        os.environ["LOCAL_RANK"] = "0"  # DeepSpeed insists
    return Group(scratch)


def _import_deepspeed() -> Any:
    """Import DeepSpeed, which logs, prints and compiles unasked, so that it speaks only through our log."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed

    theirs = logging.getLogger("DeepSpeed")
    theirs.setLevel(logging.WARNING)
    theirs.handlers, theirs.parent, theirs.propagate = [], log, True
    # Would compile a C++ extension for half a minute to replace gloo within one host.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def _config(train: TrainSpec) -> dict[str, Any]:
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        # Micro-batches vary in number from step to step; the caller says where a step ends by calling step().
        "managed_gradient_accumulation": False,
        "gradient_clipping": train.gradient_clip or 0.0,
        "zero_optimization": {"stage": train.zero_stage, "overlap_comm": False},
        "zero_allow_untested_optimizer": True,
        "torch_autocast": {"enabled": train.precision == "bf16", "dtype": "bfloat16"},
        "steps_per_print": None,
    }
