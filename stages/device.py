"""Which device tensors live on. `LETI_DEVICE` says `cpu`, `cuda` or `tpu`; unset, it is what torch finds.

Set on machines with an accelerator, a driver that does not start ends the stage and does not make it compute on the CPU
for days. Google's Kubernetes describes TPUs to the containers that ask for them, which counts as setting it. TPUs come
with the package `torch-tpu`, which torch loads by itself where one is attached. Importing this module does not load
torch.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

from stages.contract.errors import RetryableError, UsageError

if TYPE_CHECKING:
    import torch

KINDS = ("cpu", "cuda", "tpu")
VARIABLE = "LETI_DEVICE"
TPU_VARIABLE = "TPU_WORKER_HOSTNAMES"
"""In the environment of a container that was given TPUs."""


def wanted_kind() -> str | None:
    """Return what the environment asks for, or None where it does not."""
    wanted = os.environ.get(VARIABLE) or ("tpu" if os.environ.get(TPU_VARIABLE) else None)
    if wanted not in (None, *KINDS):
        raise UsageError(f"{VARIABLE}: {wanted!r}; set cpu, cuda or tpu, or leave it unset to take what there is")
    return wanted


def find_device() -> torch.device:
    """Return this process's device, without an index where it has only one of the kind to choose from."""
    import torch

    wanted, found = wanted_kind(), torch.accelerator.current_accelerator(check_available=True)
    kind = found.type if found is not None and found.type in KINDS else "cpu"
    if wanted in (None, "cpu", kind):
        return torch.device(wanted or kind)
    if wanted == "tpu" and importlib.util.find_spec("torch_tpu") is None:
        raise UsageError(f"{VARIABLE}: tpu, and the package torch-tpu is not installed; use leti's image for TPUs")
    raise RetryableError(f"{VARIABLE}: {wanted}, but torch finds none on this machine; another one may have it")


def count_accelerators() -> int:
    """Return how many accelerators this machine has, used or not."""
    import torch

    return torch.accelerator.device_count() if find_device().type != "cpu" else 0
