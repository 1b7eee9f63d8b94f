"""A scratch run that holds copies of some of another run's artifacts, so that a stage can be run on them again."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from leti_ctl.inventory.catalog import Catalog
from leti_ctl.pipeline import Unit
from stages.contract.artifacts import DataObject, Part, PartRecord, Ref
from stages.contract.errors import LetiError
from stages.contract.records import Record, write_rows
from stages.contract.run import SPEC_KEY, Commit, Run
from stages.contract.store import LocalStore
from stages.contract.transfer import digest_file, reread, settled


class Shadow:
    """One scratch run; the run it shadows is only read."""

    def __init__(self, catalog: Catalog, folder: Path) -> None:
        self.catalog, self.source, self.folder = catalog, catalog.run, folder
        self.run = Run(LocalStore(folder / "store"), catalog.run.name)
        self._put(SPEC_KEY)

    def copy(self, ref: Ref, *, suffixes: tuple[str, ...] = ("",)) -> None:
        """Copy an artifact's records, and those of its objects whose keys end so."""
        for item in self.catalog.objects(ref):
            if item.key.endswith(suffixes):
                self._stream(item)
        for number, record in self.catalog.parts.get(ref, {}).items():
            self._put(ref.part_key(Part(number, record.parts)))
        self._put(ref.index_key)

    def commit(self, ref: Ref, like: PartRecord, rows: Iterable[Record]) -> int:
        """Commit `rows` as the part that `like` is in the run that is shadowed; return their number."""
        path = self.folder / "rows.jsonl"
        lines = list(write_rows(rows))
        path.write_bytes(b"".join(lines))
        self.run.commit(Commit(ref, like.position, {path: len(lines)}, like.inputs, like.seed, like.made))
        return len(lines)

    def work(self, unit: Unit) -> None:
        """Run a unit's command on the shadow; raises what it says when it fails."""
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", *unit.arguments(self.run.uri)],
            env={**os.environ, "LETI_SCRATCH": str(scratch), "LETI_LOG": ""},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            error = LetiError(f"{unit.label}, run again by the audit, ended with exit code {done.returncode}: {last}")
            error.exit_code = done.returncode if done.returncode > 0 else 1
            raise error

    def _put(self, key: str) -> None:
        self.run.store.put_if_absent(self.run.key(key), settled(lambda: self.source.store.get(self.source.key(key))))

    def _stream(self, item: DataObject) -> None:
        path = self.folder / "object"

        def read() -> str:
            with open(path, "wb") as file:
                file.writelines(self.source.store.stream(self.source.key(item.key)))
            return digest_file(path)[0]

        reread(read, lambda sha256: sha256 == item.sha256, (KeyError,))
        self.run.store.upload(self.run.key(item.key), path)


@contextmanager
def shadow(catalog: Catalog) -> Iterator[Shadow]:
    """Give a shadow that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="leti-audit-", dir=os.environ.get("LETI_SCRATCH")) as folder:
        yield Shadow(catalog, Path(folder))
