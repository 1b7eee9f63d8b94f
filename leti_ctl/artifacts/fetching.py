"""Copying artifacts' files into a new folder of the user's: verified, all or nothing, resumed after an interruption."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from leti_ctl.inventory.ledger import damaged
from stages.contract.artifacts import DataObject, Ref
from stages.contract.errors import ArtifactError, UsageError
from stages.contract.run import Run
from stages.contract.transfer import download, side_by_side

Advance = Callable[[int, int], None]
"""Called with the number of bytes that have been copied, and their total."""


@contextmanager
def staged(out: Path, name: str) -> Iterator[Path]:
    """Give a temporary folder beside `out` that is renamed to `out` when all went well.

    It outlives an interrupted call, and the next one with the same `name` starts from what it holds; a damaged file
    removes it. `UsageError` when `out` exists: an existing folder is never written into.
    """
    if out.exists() or out.is_symlink():
        raise UsageError(f"--out {str(out)!r}: exists; name a new folder")
    folder = out.parent / f".{out.name}-{name[:12]}.partial"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    except (ArtifactError, UsageError):
        shutil.rmtree(folder)
        raise
    folder.replace(out)


def bring(run: Run, ref: Ref, items: Sequence[DataObject], folder: Path, advance: Advance) -> list[Path]:
    """Fetch objects of an artifact into a folder, each verified; return their paths, in order.

    Files that an earlier call fetched whole are kept; files of no such object are removed.
    """
    paths = [folder / ref.path(item.key) for item in items]
    total, done = sum(item.size for item in items), 0

    def moved(count: int) -> None:
        nonlocal done
        done += count
        advance(min(done, total), total)

    def fetch(number: int) -> None:
        item = items[number]
        download(run.store, run.key(item.key), item, paths[number], partial(damaged, run), moved)

    for stray in [path for path in folder.rglob("*") if path.is_file() and path not in set(paths)]:
        stray.unlink()
    side_by_side(fetch, range(len(items)), [item.size for item in items])
    return paths
