"""Mid-stage checkpoints: what a killed stage goes on from. They are gone once the stage has committed.

    iterations/0003/train/step-000200/<sha256>-exp_avg.safetensors    data, under names that carry their digest
    iterations/0003/train/step-000200/checkpoint.json                 written last: the checkpoint exists from here on

A checkpoint holds everything that is not derived from the run and the step number: weights, optimizer state, loss log.
It is uploaded beside the training that goes on; the one before stays until it is complete.

Two trainers of one iteration, a pod that was given up and its successor, may write and remove here at once. Whatever
that does, a reader sees every byte verified, or an error: never other bytes than one of them wrote
(`docs/protocol.md`, mid-stage checkpoints).
"""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from stages.contract.artifacts import DataObject, MidStage
from stages.contract.errors import ArtifactError, StoreError
from stages.contract.records import StepLog, first_fault, read_rows, write_rows
from stages.contract.run import Run
from stages.contract.store import Moved
from stages.contract.transfer import digest_file, download, reread, side_by_side

log = logging.getLogger("leti.train")
RECORD = "checkpoint.json"
STEPS = "steps.jsonl"
_STEP = re.compile(r".*/train/step-(\d+)/[^/]+")
TRIES = 5
"""Checkpoints that may be removed by another trainer while they are read, before that is an error."""


class Checkpoints:
    """The mid-stage checkpoints of one iteration's training."""

    def __init__(self, run: Run, iteration: int) -> None:
        self.run, self.prefix = run, f"iterations/{iteration:04d}/train/"
        self._pool = ThreadPoolExecutor(1)
        self._saving: Future[None] | None = None

    def newest(self) -> MidStage | None:
        """Return the complete checkpoint with the most steps, or None."""
        # One that was listed may be removed since: then its trainer has a newer one.
        for _ in range(TRIES):
            records = [key for key in self._keys() if key.endswith(f"/{RECORD}")]
            if not records:
                return None
            with suppress(KeyError):
                return reread(partial(self._read, max(records, key=_steps)))
        raise StoreError(f"{self.run.key(self.prefix)}: checkpoints come and go; another process trains this iteration")

    def load(self, folder: Path) -> list[StepLog] | None:
        """Fetch the newest checkpoint into `folder`; return its loss log, or None where there is none."""
        for _ in range(TRIES):
            found = self.newest()
            if found is None:
                return None
            try:
                return self.fetch(found, folder)
            except ArtifactError:
                if self.newest() == found:
                    raise
        raise StoreError(f"{self.run.key(self.prefix)}: checkpoints come and go; another process trains this iteration")

    def fetch(self, checkpoint: MidStage, folder: Path) -> list[StepLog]:
        """Bring the trainer state into `folder`, every digest verified, and return the loss log so far."""
        items, sizes = checkpoint.objects, [item.size for item in checkpoint.objects]
        moved = self.run.watch(f"downloading {self.prefix}step-{checkpoint.steps:06d}", sum(sizes))
        side_by_side(lambda item: self._download(item, folder, moved), items, sizes)
        with open(folder / STEPS, "rb") as lines:
            return list(read_rows(lines, StepLog, source=STEPS))

    def save_beside(self, folder: Path, steps: Iterable[StepLog]) -> None:
        """Publish as `save` does while the caller goes on, then remove the folder; first `wait` for the one before."""
        self.wait()
        self._saving = self._pool.submit(self._save_and_remove, folder, list(steps))

    def wait(self) -> None:
        """Wait until the checkpoint that is being published is complete; raises what kept it from that."""
        saving, self._saving = self._saving, None
        if saving:
            saving.result()

    def save(self, folder: Path, steps: Iterable[StepLog]) -> None:
        """Publish the trainer state in `folder` with the loss log, then remove older checkpoints."""
        started, logged = time.perf_counter(), list(steps)
        (folder / STEPS).write_bytes(b"".join(write_rows(logged)))
        home = self._home(len(logged))
        paths = sorted(folder.iterdir())
        sizes = [path.stat().st_size for path in paths]
        moved = self.run.watch(f"uploading {home}", sum(sizes))
        objects = tuple(side_by_side(lambda path: self._upload(path, home, moved), paths, sizes))
        record = MidStage(steps=len(logged), spec_sha256=self.run.spec_sha256, objects=objects).sealed()
        self.run.store.put_if_absent(self.run.key(f"{home}/{RECORD}"), record.model_dump_json(indent=2).encode())
        self.remove(below=len(logged))
        fields = {"steps": len(logged), "bytes": sum(sizes), "seconds": round(time.perf_counter() - started, 3)}
        log.info("checkpoint at step %d", len(logged), extra={"event": "checkpoint", "fields": fields})

    def remove(self, *, below: int | None = None) -> None:
        """Delete checkpoints, or those with fewer than `below` steps; records first, so that none is left in half."""
        keys = [key for key in self._keys() if below is None or _steps(key) < below]
        for key in sorted(keys, key=lambda key: not key.endswith(f"/{RECORD}")):
            self.run.store.delete(self.run.key(key))

    def _home(self, steps: int) -> str:
        return f"{self.prefix}step-{steps:06d}"

    def _read(self, key: str) -> MidStage:
        """Return the record under a key; `ArtifactError` unless it is as it was written, and written for that key."""
        place = self.run.key(key)
        try:
            found = MidStage.model_validate_json(self.run.store.get(place))
        except ValidationError as error:
            raise ArtifactError(f"{place}: {first_fault(error)}; delete it and resume") from error
        if not found.is_intact():
            raise ArtifactError(f"{place} is damaged: its checksum is not its own; delete it and resume")
        if found.spec_sha256 != self.run.spec_sha256:
            raise ArtifactError(f"{place} was made with another spec; delete it and resume")
        home = self._home(found.steps)
        if key != f"{home}/{RECORD}" or not all(item.key.startswith(f"{home}/") for item in found.objects):
            raise ArtifactError(f"{place} is the record of another checkpoint; delete it and resume")
        return found

    def _keys(self) -> list[str]:
        keys = (key.removeprefix(self.run.key("")) for key in self.run.store.list(self.run.key(self.prefix)))
        return [key for key in keys if _STEP.fullmatch(key)]  # what a person or a file system left there is not ours

    def _save_and_remove(self, folder: Path, steps: list[StepLog]) -> None:
        self.save(folder, steps)
        shutil.rmtree(folder)

    def _upload(self, path: Path, home: str, moved: Moved) -> DataObject:
        sha256, size = digest_file(path)
        key = f"{home}/{sha256}-{path.name}"
        self.run.store.upload(self.run.key(key), path, moved)
        return DataObject(key=key, sha256=sha256, size=size)

    def _download(self, item: DataObject, target: Path, moved: Moved) -> None:
        def damaged(fault: str) -> ArtifactError:
            folder = self.run.key(item.key.rpartition("/")[0])
            return ArtifactError(f"{fault}; delete {folder} and resume")

        path = target / item.key.rpartition("/")[2].partition("-")[2]
        download(self.run.store, self.run.key(item.key), item, path, damaged, moved)


def _steps(key: str) -> int:
    found = _STEP.fullmatch(key)
    assert found
    return int(found[1])
