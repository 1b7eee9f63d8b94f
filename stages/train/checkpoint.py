"""Mid-stage checkpoints: what a killed stage goes on from. They are gone once the stage has committed.

    iterations/0003/train/step-000200/<sha256>-exp_avg.safetensors    data, under names that carry their digest
    iterations/0003/train/step-000200/checkpoint.json                 written last: the checkpoint exists from here on

A checkpoint holds everything that is not derived from the run and the step number: weights, optimizer state, loss log.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path

from pydantic import NonNegativeInt, ValidationError

from stages.contract.artifacts import DataObject
from stages.contract.errors import ArtifactError
from stages.contract.records import Record, StepLog, first_fault, read_rows, write_rows
from stages.contract.run import Run
from stages.contract.store import CHUNK_BYTES

log = logging.getLogger("leti.train")
RECORD = "checkpoint.json"
STEPS = "steps.jsonl"


class Checkpoint(Record):
    """The record of one complete mid-stage checkpoint."""

    steps: NonNegativeInt
    """Optimizer steps of this iteration that it contains."""
    spec_sha256: str
    objects: tuple[DataObject, ...]


class Checkpoints:
    """The mid-stage checkpoints of one iteration's training."""

    def __init__(self, run: Run, iteration: int) -> None:
        self.run, self.prefix = run, f"iterations/{iteration:04d}/train/"

    def newest(self) -> Checkpoint | None:
        """Return the complete checkpoint with the most steps, or None."""
        records = [key for key in self._keys() if key.endswith(f"/{RECORD}")]
        if not records:
            return None
        key = self.run.key(max(records))
        try:
            found = Checkpoint.model_validate_json(self.run.store.get(key))
        except ValidationError as error:
            raise ArtifactError(f"{key}: {first_fault(error)}; delete it and resume") from error
        if found.spec_sha256 != self.run.spec_sha256:
            raise ArtifactError(f"{key} was made with another spec; delete it and resume")
        return found

    def fetch(self, checkpoint: Checkpoint, folder: Path) -> list[StepLog]:
        """Bring the trainer state into `folder`, every digest verified, and return the loss log so far."""
        for item in checkpoint.objects:
            self._download(item, folder / item.key.rpartition("/")[2].partition("-")[2])
        with open(folder / STEPS, "rb") as lines:
            return list(read_rows(lines, StepLog, source=STEPS))

    def save(self, folder: Path, steps: Iterable[StepLog]) -> None:
        """Publish the trainer state in `folder` with the loss log, then remove older checkpoints."""
        logged = list(steps)
        (folder / STEPS).write_bytes(b"".join(write_rows(logged)))
        home = f"{self.prefix}step-{len(logged):06d}"
        objects = tuple(self._upload(path, home) for path in sorted(folder.iterdir()))
        record = Checkpoint(steps=len(logged), spec_sha256=self.run.spec_sha256, objects=objects)
        self.run.store.put_if_absent(self.run.key(f"{home}/{RECORD}"), record.model_dump_json(indent=2).encode())
        self.remove(below=len(logged))
        log.info("checkpoint at step %d", len(logged), extra={"event": "checkpoint", "fields": {"steps": len(logged)}})

    def remove(self, *, below: int | None = None) -> None:
        """Delete checkpoints, or those with fewer than `below` steps; records first, so that none is left in half."""
        keys = [key for key in self._keys() if below is None or _steps(key) < below]
        for key in sorted(keys, key=lambda key: not key.endswith(f"/{RECORD}")):
            self.run.store.delete(self.run.key(key))

    def _keys(self) -> list[str]:
        return [key.removeprefix(self.run.key("")) for key in self.run.store.list(self.run.key(self.prefix))]

    def _upload(self, path: Path, home: str) -> DataObject:
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
        key = f"{home}/{digest.hexdigest()}-{path.name}"
        self.run.store.upload(self.run.key(key), path)
        return DataObject(key=key, sha256=digest.hexdigest(), size=path.stat().st_size)

    def _download(self, item: DataObject, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        digest, key = hashlib.sha256(), self.run.key(item.key)
        try:
            with open(path, "wb") as file:
                for chunk in self.run.store.stream(key):
                    digest.update(chunk)
                    file.write(chunk)
        except KeyError:
            raise ArtifactError(f"{key} is missing from its checkpoint; delete that folder and resume") from None
        if digest.hexdigest() != item.sha256:
            found, wanted = digest.hexdigest()[:12], item.sha256[:12]
            raise ArtifactError(f"{key}: SHA-256 is {found}, not {wanted}; delete that folder and resume")


def _steps(key: str) -> int:
    return int(key.rpartition("/")[0].rpartition("step-")[2])
