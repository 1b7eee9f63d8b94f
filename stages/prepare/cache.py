"""Folders that are made once on a machine and kept under `$XDG_CACHE_HOME/leti`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def cached(name: str, make: Callable[[Path], Path]) -> Path:
    """Return the cache's folder of that name, made first if it is not there yet.

    `make` is given an empty scratch folder and returns the folder below it that is to be kept. Two processes may make
    one at once: the first rename wins, and the other's work is dropped.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "leti"
    folder = home / name
    if folder.is_dir():
        return folder
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".staged-", dir=home) as staging:
        made = make(Path(staging))
        try:
            os.rename(made, folder)
        except OSError:
            if not folder.is_dir():
                raise
    return folder
