"""Trainer state on disk, the same for every trainer, ZeRO stage and number of processes.

- `exp_avg.safetensors`: AdamW's first moments, fp32, keyed by parameter name
- `exp_avg_sq.safetensors`: its second moments
- `weights.safetensors`: fp32 masters; absent where the checkpoint beside it holds them exactly
- `state.json`: `{"optimizer_steps": 2244}`
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from stages.contract.errors import ArtifactError

MOMENTS = ("exp_avg", "exp_avg_sq")
WEIGHTS = "weights"
Tensors = dict[str, Tensor]


def write_tensors(folder: Path, name: str, tensors: Tensors) -> None:
    """Write one group of tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / f"{name}.safetensors")


def read_tensors(folder: Path, name: str, like: Tensors) -> Tensors:
    """Return one group; `ArtifactError` unless it has exactly the names and shapes of `like`."""
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        raise ArtifactError(f"{path} is missing; the optimizer state is incomplete, run the iteration before it again")
    found: Tensors = load_file(path)
    for key in sorted(found.keys() | like.keys()):
        here, wanted = (tuple(group[key].shape) if key in group else None for group in (found, like))
        if here != wanted:
            raise ArtifactError(f"{path}: {key} is {here}, the model's is {wanted}; it belongs to another model")
    return found


def write_steps(folder: Path, steps: int) -> None:
    """Write how many steps the optimizer has taken."""
    (folder / "state.json").write_text(json.dumps({"optimizer_steps": steps}) + "\n")


def read_steps(folder: Path) -> int:
    """Return how many steps the optimizer has taken."""
    return int(json.loads((folder / "state.json").read_text())["optimizer_steps"])
