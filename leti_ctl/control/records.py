"""The control objects: who drives a run and how that ended, in JSON."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from stages.contract.errors import ArtifactError
from stages.contract.records import Record, first_fault
from stages.contract.run import Run
from stages.contract.transfer import reread

M = TypeVar("M", bound=BaseModel)
CHECKSUM = "checksum"
_RESTORE = "restore it, or delete it and try again"
_CLAIM = re.compile(r"/control/drivers/\d+\.json$")


class Workflow(Record):
    """A workflow that was made for a run, and where to find it."""

    attempt: int
    """From 0."""
    name: str
    namespace: str
    kube_context: str | None
    """Of the kubeconfig it was made with; null for its current one."""
    server: str
    profile: str
    start: int
    """First iteration."""
    at: str
    url: str | None = None
    """In the Argo UI."""


class Driver(Record):
    """The process or workflow that drives a run, or the process that collects its garbage."""

    backend: str
    """`local`, `argo`, or `gc` for a collection."""
    host: str
    """The machine's name, or `NAMESPACE/WORKFLOW` with process 0."""
    pid: int
    born: int
    """Clock ticks after boot at which the process started; tells a reused pid from the same process."""
    since: str
    workflow: Workflow | None = None
    """What leti-ctl recorded when it made the workflow; null for one that people made by hand."""
    spec: str = ""
    """The spec that the run is driven to, as JSON; empty in runs of earlier versions."""

    @property
    def is_workflow(self) -> bool:
        """Whether it is a workflow on a cluster."""
        return self.backend == "argo" and self.pid == 0

    @property
    def is_here(self) -> bool:
        """Whether it runs, or ran, on this machine."""
        return self.host == platform.node()

    @property
    def is_alive(self) -> bool:
        """Whether the process exists; of a workflow or another machine's process nobody can tell here, so yes."""
        return not self.is_here or birth(self.pid) == self.born

    @property
    def title(self) -> str:
        """Who drives, for people."""
        if self.is_workflow:
            return f"workflow {self.host}"
        return f"{'gc, ' if self.backend == 'gc' else ''}process {self.pid} on {self.host}"


class Outcome(Record):
    """How a claim ended."""

    phase: str
    """Argo's, as the workflow's own exit handler saw it: Succeeded, Failed or Error. `Refused` for a workflow that was
    never made, and empty for a process, whose units tell."""
    at: str


class Stop(Record):
    """Somebody asked the driver of a claim to end."""

    at: str


class Failure(Record):
    """Why a unit failed for good."""

    unit: str
    label: str
    exit_code: int
    message: str
    at: str


def now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def find(run: Run, key: str, kind: type[M]) -> M | None:
    """Return a control object by its key, or None; `ArtifactError` for one that is cut or damaged."""
    try:
        return reread(lambda: _read(run, key, kind))
    except KeyError:
        return None


def _read(run: Run, key: str, kind: type[M]) -> M:
    data = run.store.get(key)
    try:
        document = json.loads(data)
        checksum = document.pop(CHECKSUM, None)
        found = kind.model_validate_json(json.dumps(document))
    except ValidationError as error:
        raise ArtifactError(f"{key}: {first_fault(error)}; {_remedy(key)}") from error
    except (ValueError, AttributeError, TypeError) as error:
        raise ArtifactError(f"{key}: is no JSON object; {_remedy(key)}") from error
    # Objects of earlier versions have none.
    if checksum not in (None, _digest(document)):
        raise ArtifactError(f"{key}: is not what was written, its checksum is not its own; {_remedy(key)}")
    return found


def get_named(run: Run, key: str) -> bytes:
    """Return an object whose name holds its SHA-256; `KeyError` for none, `ArtifactError` for other bytes."""
    return reread(lambda: _read_named(run, key))


def _read_named(run: Run, key: str) -> bytes:
    data = run.store.get(key)
    if hashlib.sha256(data).hexdigest() not in key:
        raise ArtifactError(f"{key}: is not what was written; its name holds its SHA-256; {_RESTORE}")
    return data


def _remedy(key: str) -> str:
    """What to do about a bad object. What lies below a claim is a word on it, and would be one on the next of its
    number."""
    below = f" and all below {key.removesuffix('.json')}/," if _CLAIM.search(key) else ""
    return f"delete it{below} and try again"


def sealed(record: BaseModel) -> bytes:
    """Return a control object as it is written: JSON with the SHA-256 of everything else in it."""
    document = record.model_dump(mode="json")
    return json.dumps({**document, CHECKSUM: _digest(document)}, indent=2).encode()


def _digest(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def birth(pid: int) -> int | None:
    """Start time of a live process in clock ticks (proc(5), stat field 22); None when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state == "Z" else int(fields[18])
