"""A process that ends when the one that started it does, however that ends (prctl(2), PR_SET_PDEATHSIG)."""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def _bind_prctl() -> Callable[..., int]:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return prctl


# Bound before any fork: between fork and exec nothing may be looked up.
_prctl = _bind_prctl()


def die_with_parent() -> None:
    """Have the kernel send this process SIGTERM when its parent dies; for `preexec_fn`."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
