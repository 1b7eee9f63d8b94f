"""The processes that train together: joining them, and what they tell each other besides gradients."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.distributed as dist

from stages.contract.errors import ResourceError, RetryableError
from stages.device import find_device

BACKENDS = {"cpu": "gloo", "cuda": "nccl", "tpu": "cpu:gloo,tpu:tpu_dist"}


class Group:
    """The process group that torchrun describes, or one of this process alone."""

    def __init__(self, scratch: Path) -> None:
        kind = find_device().type
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        if kind == "cuda":
            torch.cuda.set_device(local_rank)
        self.device = torch.device("cuda", local_rank) if kind == "cuda" else torch.device(kind)
        """Where this process computes."""
        if "RANK" in os.environ:
            dist.init_process_group(BACKENDS[kind])
        else:
            self._stand_alone(BACKENDS[kind], scratch / "rendezvous")
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        # TPUs have no 64-bit numbers of their own.
        self._talks_on = torch.device("cpu") if kind == "tpu" else self.device

    def _stand_alone(self, backend: str, path: Path) -> None:
        try:
            dist.init_process_group(backend, store=dist.FileStore(str(path), 1), rank=0, world_size=1)
        except dist.DistStoreError as error:
            first = str(error).partition("\n")[0]
            raise ResourceError(
                f"{first}: {path}; free some room for scratch files (LETI_SCRATCH) and resume"
            ) from error

    def any(self, flag: bool) -> bool:
        """Whether `flag` holds on any process."""
        return bool(self._reduced(float(flag), dist.ReduceOp.MAX))

    def sum(self, value: float) -> float:
        """Return the sum of all processes' values."""
        return self._reduced(value, dist.ReduceOp.SUM)

    def check_agreement(self, value: int, what: str) -> None:
        """Raise `RetryableError` unless all processes hold the same value."""
        most, least = (self._reduced(sign * value, dist.ReduceOp.MAX) * sign for sign in (1.0, -1.0))
        if most != least:
            raise RetryableError(
                f"the processes begin at different {what}, from {least:.0f} to {most:.0f}: another attempt was still "
                "writing when this one began"
            )

    def leave(self) -> None:
        """Leave the group; nothing can be told afterwards."""
        dist.destroy_process_group()

    def _reduced(self, value: float, operation: dist.ReduceOp) -> float:
        if self.size == 1:
            return value
        held = torch.tensor(value, dtype=torch.float64, device=self._talks_on)
        dist.all_reduce(held, op=operation)
        return float(held.item())
