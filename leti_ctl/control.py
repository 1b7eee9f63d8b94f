"""Who drives a run, who asked it to stop, what failed: small control objects beside the artifacts, never in them.

| key | written by | meaning |
|---|---|---|
| `spec.json` | submit | the spec the run was made with; decides its digest |
| `amendments/NNNN-SHA256.json` | resume | the same spec with other compatible fields (more iterations) |
| `control/driver.json` | backend | the process or workflow that drives the run; removed when it ends |
| `control/workflows/NNNN.json` | submit, resume | every workflow that was made for the run, by attempt |
| `control/outcome.json` | backend argo | how the last workflow ended; removed by resume |
| `control/stop.json` | stop | asks the driver to end; removed by resume |
| `control/failures/UNIT.json` | backend | why a unit failed for good; removed by resume |
| `control/decisions/NNNN-RULES.json` | backend | whether the run ends before iteration NNNN (`decisions`) |
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from stages.contract.errors import ArtifactError, UsageError
from stages.contract.records import Record, first_fault
from stages.contract.run import Run, resume_spec
from stages.contract.spec import RunSpec
from stages.contract.store import Store

M = TypeVar("M", bound=BaseModel)


class Driver(Record):
    """The process or workflow that drives a run."""

    backend: str
    host: str
    """The machine's name, or `NAMESPACE/WORKFLOW` with process 0."""
    pid: int
    born: int
    """Clock ticks after boot at which the process started; tells a reused pid from the same process."""
    since: str

    @property
    def is_here(self) -> bool:
        """Whether it runs, or ran, on this machine."""
        return self.host == platform.node()

    @property
    def is_alive(self) -> bool:
        """Whether the process exists; of a workflow or another machine's process nobody can tell here, so yes."""
        return not self.is_here or _born(self.pid) == self.born

    @property
    def title(self) -> str:
        """Who drives, for people."""
        return f"workflow {self.host}" if self.backend == "argo" else f"process {self.pid} on {self.host}"


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


class Outcome(Record):
    """How a workflow ended, as its own exit handler saw it."""

    phase: str
    """Argo's: Succeeded, Failed or Error."""
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


def run_names(store: Store) -> list[str]:
    """Return the names of the runs of a store, sorted."""
    return sorted(store.folders("runs/"))


def open_run(store: Store, name: str) -> Run:
    """Return an existing run; `UsageError` when there is none or its name is not one."""
    if "/" in name or name in ("", ".", ".."):
        raise UsageError(f"RUN {name!r}: a run's name has no slash; `leti-ctl runs` lists them")
    run = Run(store, name)
    _ = run.spec
    return run


def address(run: Run) -> str:
    """Return what a command needs to find the run again, for messages that name the next command."""
    return f"{run.name} --store {run.store.uri}"


def current_spec(run: Run) -> RunSpec:
    """Return the run's spec with its newest amendment."""
    keys = list(run.store.list(run.key("amendments/")))
    if not keys:
        return run.spec
    if hashlib.sha256(run.store.get(keys[-1])).hexdigest() not in keys[-1]:
        raise ArtifactError(f"{keys[-1]}: is not what was written; its name holds its SHA-256; delete it and try again")
    return _read(run, keys[-1], RunSpec)


def amend(run: Run, wanted: RunSpec) -> None:
    """Record that compatible fields changed; `UsageError` with a diff when others did."""
    if wanted != current_spec(run):
        resume_spec(run.spec, wanted)
        number = len(list(run.store.list(run.key("amendments/"))))
        text = wanted.to_json().encode()
        # The name holds the digest: what may be amended is in no other digest.
        name = f"amendments/{number:04d}-{hashlib.sha256(text).hexdigest()}.json"
        run.store.put_if_absent(run.key(name), text)


def find_driver(run: Run) -> Driver | None:
    """Return who drives the run, or None when nobody does."""
    try:
        return _read(run, run.key("control/driver.json"), Driver)
    except KeyError:
        return None


@contextmanager
def driving(run: Run, backend: str, *, take_over: bool = False) -> Iterator[None]:
    """Hold the run for this process; `UsageError` when another live one holds it."""
    key = run.key("control/driver.json")
    pid = os.getpid()
    mine = Driver(backend=backend, host=platform.node(), pid=pid, born=_born(pid) or 0, since=now())
    other = find_driver(run)
    if other and (take_over or not other.is_alive):
        run.store.delete(key)
    if not run.store.put_if_absent(key, mine.model_dump_json().encode()):
        other = find_driver(run) or mine
        place = "cluster" if other.backend == "argo" else "machine"
        remedy = "" if other.is_here else f"; if that {place} is gone, add --take-over"
        raise UsageError(
            f"run {run.name} is driven by {other.title} since {other.since}; "
            f"`leti-ctl stop {address(run)}` ends it{remedy}"
        )
    try:
        yield
    finally:
        run.store.delete(key)


def request_stop(run: Run) -> bool:
    """Ask the run's driver to stop, by store and, on this machine, by signal; return whether there is a driver."""
    driver = find_driver(run)
    if driver is None or not driver.is_alive:
        return False
    mark_stop(run)
    if driver.is_here:
        os.kill(driver.pid, signal.SIGTERM)
    return True


def mark_stop(run: Run) -> None:
    """Record that somebody asked the run to stop."""
    run.store.put_if_absent(run.key("control/stop.json"), json.dumps({"at": now()}).encode())


def is_stop_requested(run: Run) -> bool:
    """Whether somebody asked the run to stop."""
    return run.store.size(run.key("control/stop.json")) is not None


def record_failure(run: Run, failure: Failure) -> None:
    """Keep why a unit failed."""
    run.store.put_if_absent(run.key(f"control/failures/{failure.unit}.json"), failure.model_dump_json().encode())


def failures(run: Run) -> list[Failure]:
    """Return what failed since the last resume."""
    keys = run.store.list(run.key("control/failures/"))
    return [_read(run, key, Failure) for key in keys]


def record_workflow(run: Run, workflow: Workflow) -> None:
    """Keep which workflow drives the run from here on."""
    text = workflow.model_dump_json().encode()
    run.store.put_if_absent(run.key(f"control/workflows/{workflow.attempt:04d}.json"), text)
    host = f"{workflow.namespace}/{workflow.name}"
    driver = Driver(backend="argo", host=host, pid=0, born=0, since=workflow.at)
    run.store.delete(run.key("control/driver.json"))
    run.store.put_if_absent(run.key("control/driver.json"), driver.model_dump_json().encode())


def forget_workflow(run: Run, workflow: Workflow) -> None:
    """Take back `record_workflow`: the cluster refused it."""
    run.store.delete(run.key(f"control/workflows/{workflow.attempt:04d}.json"))
    run.store.delete(run.key("control/driver.json"))


def workflows(run: Run) -> list[Workflow]:
    """Return the workflows that were made for the run, oldest first; empty for one that never was on a cluster."""
    return [_read(run, key, Workflow) for key in run.store.list(run.key("control/workflows/"))]


def last_backend(run: Run) -> str | None:
    """Return the backend that drives the run, or was the last to; None for a run that nobody has driven yet."""
    driver = find_driver(run)
    if driver:
        return driver.backend
    if workflows(run):
        return "argo"
    has_logs = log_folder(run).is_dir() or any(True for _ in run.store.list(run.key("logs/")))
    return "local" if has_logs else None


def record_outcome(run: Run, phase: str) -> Outcome:
    """Keep how the run's workflow ended, in place of an earlier end, and release the run."""
    key, outcome = run.key("control/outcome.json"), Outcome(phase=phase, at=now())
    run.store.delete(key)
    run.store.put_if_absent(key, outcome.model_dump_json().encode())
    driver = find_driver(run)
    if driver and driver.backend == "argo":
        run.store.delete(run.key("control/driver.json"))
    return outcome


def find_outcome(run: Run) -> Outcome | None:
    """Return how the run's last workflow ended, or None when none has since the last resume."""
    try:
        return _read(run, run.key("control/outcome.json"), Outcome)
    except KeyError:
        return None


def clear(run: Run) -> None:
    """Forget stop requests, failures and how the last workflow ended: the run is to go on."""
    ended = (run.key("control/stop.json"), run.key("control/outcome.json"))
    for key in [*ended, *run.store.list(run.key("control/failures/"))]:
        run.store.delete(key)


def log_folder(run: Run) -> Path:
    """Return where stages on this machine log: in a local store, else under the user's state folder."""
    local = run.store.local_path(run.key("logs"))
    state = Path(os.environ.get("XDG_STATE_HOME", Path.home() / ".local" / "state"))
    return local or state / "leti" / run.name / "logs"


def _read(run: Run, key: str, kind: type[M]) -> M:
    try:
        return kind.model_validate_json(run.store.get(key))
    except ValidationError as error:
        raise ArtifactError(f"{key}: {first_fault(error)}; delete it and try again") from error


def _born(pid: int) -> int | None:
    """Start time of a live process in clock ticks (proc(5), stat field 22); None when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state == "Z" else int(fields[18])
