"""What a part was made with: the sources of the stages, and what is installed."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import stages

SUFFIX = ".dist-info"
SITE = {"site-packages", "dist-packages"}
"""Folders of distributions."""


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
    """Return what is installed where this process runs, as `installed` writes it."""
    return installed(sys.path)


def installed(path: Iterable[str]) -> str:
    """Return one `name-version` a line, sorted, for every distribution on a module search path.

    Read off the folders' names (PyPA's recording of installed projects), which takes milliseconds where parsing every
    METADATA file takes a second. A folder within a package is that package's own: setuptools puts one on the path when
    it is imported, so that what is installed would depend on what was imported.
    """
    folders = [Path(entry) for entry in path if entry and not SITE & set(Path(entry).parent.parts)]
    found = {each.name.removesuffix(SUFFIX) for folder in folders for each in folder.glob(f"*{SUFFIX}")}
    return "".join(f"{name}\n" for name in sorted(found, key=str.lower))


def lock_key(text: str) -> str:
    """Return the key of a lock, relative to the run: its name is its SHA-256."""
    return f"environments/{hashlib.sha256(text.encode()).hexdigest()}.txt"
