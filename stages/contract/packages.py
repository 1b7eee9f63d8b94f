"""What a part was made with: the sources of the stages, and what is installed."""

from __future__ import annotations

import hashlib
import sys
from functools import lru_cache
from pathlib import Path

import stages

SUFFIX = ".dist-info"


@lru_cache(maxsize=1)
def code_version() -> str:
    """Return the package version and a digest of its Python sources, so that edited code is another code."""
    root = Path(stages.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return f"{stages.__version__}+{digest.hexdigest()[:16]}"


@lru_cache(maxsize=1)
def lock() -> str:
    """Return one `name-version` a line, sorted, for every distribution on the path.

    Read off the folders' names (PyPA's recording of installed projects), which takes milliseconds where parsing every
    METADATA file takes a second.
    """
    found = {
        path.name.removesuffix(SUFFIX)
        for entry in sys.path
        if entry and Path(entry).is_dir()
        for path in Path(entry).glob(f"*{SUFFIX}")
    }
    return "".join(f"{name}\n" for name in sorted(found, key=str.lower))


def lock_key(text: str) -> str:
    """Return the key of a lock, relative to the run: its name is its SHA-256."""
    return f"environments/{hashlib.sha256(text.encode()).hexdigest()}.txt"
