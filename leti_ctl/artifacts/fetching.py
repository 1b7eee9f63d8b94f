"""Files of artifacts on their way to a folder of the user's: verified, all or nothing, gone on with after an end."""

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
"""Told how many bytes are here, of how many."""


@contextmanager
def staged(out: Path, name: str) -> Iterator[Path]:
    """Give a folder beside `out` that becomes `out` when all went well.

    What a call that was interrupted has fetched stays there, under the same `name`, and the next call goes on with it;
    damage removes it. `UsageError` when `out` exists: a folder that is there is never written into.
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

    A file that is there already and whole is not fetched again, and what does not belong there is removed.
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
