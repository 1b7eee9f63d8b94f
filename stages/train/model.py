"""What every trainer does with a model: load it, group its parameters, write it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from stages.contract.errors import ModelError, ResourceError
from stages.contract.spec import TrainSpec
from stages.train import state
from stages.train.engine import Step

SHARD_BYTES = 1 << 30
"""Of one weights file: files go to the store and come back side by side."""


class Start(NamedTuple):
    """Where a trainer starts from."""

    folder: Path
    """Hugging Face folder."""
    state: Path | None
    """Trainer state to go on from; its weights, where it has any, take the place of the folder's."""
    dtype: str
    """Number format that the model is saved in: float32 or bfloat16."""


def load_model(start: Start) -> PreTrainedModel:
    """Return the model to train, fp32, on the CPU."""
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        loaded = AutoModelForCausalLM.from_pretrained(start.folder, dtype=torch.float32, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"the checkpoint cannot be loaded: {first}; prepare the run again") from error
    if start.state and (start.state / f"{state.WEIGHTS}.safetensors").is_file():
        parameters = {name: parameter.data for name, parameter in loaded.named_parameters()}
        for name, value in state.read_tensors(start.state, state.WEIGHTS, parameters).items():
            parameters[name].copy_(value)
    loaded.train()
    return loaded


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on matrices, none on norms and biases, which are what has one dimension."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]


def write_model(
    model: nn.Module, weights: state.Tensors, dtype: str, folder: Path, *, shard_bytes: int = SHARD_BYTES
) -> None:
    """Write the weights in the run's number format, beside the buffers the model stores, as Hugging Face has them.

    That is `model.safetensors`, or above `shard_bytes` several files of at most that size and an index.
    """
    buffers = dict(model.named_buffers())
    kept = {name: value.cpu() for name, value in model.state_dict().items() if name in buffers}
    stored = kept | {name: tensor.to(getattr(torch, dtype)) for name, tensor in weights.items()}
    split = split_torch_state_dict_into_shards(stored, max_shard_size=shard_bytes)
    for file, names in split.filename_to_tensors.items():
        save_file({name: stored[name] for name in names}, folder / file, metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True))


@contextmanager
def explaining_memory(step: Step, train: TrainSpec, remedy: str) -> Iterator[None]:
    """Turn a failed allocation into a `ResourceError` that names the step and what to start a run with instead."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not is_out_of_memory(error):
            raise
        raise ResourceError(
            f"step {step.number}: out of memory with train.micro_batch_tokens {train.micro_batch_tokens}; "
            f"start a run with {remedy}"
        ) from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed. On CPU torch raises a plain RuntimeError."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
