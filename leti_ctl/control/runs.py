"""Questions about a run: which there are, to what spec one goes, who drives it, what failed."""

from __future__ import annotations

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import BaseModel, ValidationError

from leti_ctl.control.lease import BEFORE_CLAIMS, Bid, Epoch, driving, newest
from leti_ctl.control.records import Driver, Failure, Outcome, Stop, Workflow, find, get_named
from stages.contract.errors import ArtifactError, UsageError
from stages.contract.records import first_fault
from stages.contract.run import Run
from stages.contract.spec import RunSpec, diff, strip_compatible
from stages.contract.store import Store

REFUSED = "Refused"
"""How the claim of a workflow ends that the cluster did not take."""
READERS = 16
KINDS: dict[str, type[BaseModel]] = {
    r"control/drivers/\d{4,}\.json": Driver,
    r"control/drivers/\d{4,}/ends/\d{4,}\.json": Outcome,
    r"control/drivers/\d{4,}/stop\.json": Stop,
    r"control/drivers/\d{4,}/failures/[^/]+\.json": Failure,
}
_EARLIER = r"control/(?:(?:driver|stop|outcome)\.json|(?:failures|workflows)/[^/]+\.json)"
_DECISION = r"control/decisions/\d{4,}-[0-9a-f]+\.json"


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


def current_spec(run: Run) -> RunSpec:
    """Return the run's spec with its newest amendment; `ArtifactError` for one that is not as it was written."""
    epoch = newest(run)
    if epoch.driver is None or not epoch.driver.spec:
        return _earlier_spec(run)
    return _parsed(epoch.key(), epoch.driver.spec)


def check_amendment(run: Run, wanted: RunSpec) -> None:
    """Raise `UsageError`, with a diff, when more than compatible fields changed."""
    stored = run.spec
    if stored.digest() != wanted.digest():
        differences = diff(*(json.loads(json.dumps(strip_compatible(spec))) for spec in (stored, wanted)))
        raise UsageError(f"the run was made with another spec: {'; '.join(differences)}; start a new run")
    if stored.trains() != wanted.trains():
        # A run of no iterations prepared neither training problems nor the stream.
        raise UsageError(
            f"iterations: {stored.iterations} -> {wanted.iterations}: a run that only evaluates cannot be made to "
            "train, nor the other way round; start a new run, with model.from_run to go on from a checkpoint"
        )


def amend(run: Run, wanted: RunSpec, bid: Bid | None = None) -> None:
    """Change compatible fields of a run that nobody drives, without driving it."""
    check_amendment(run, wanted)
    bid = bid or Bid(newest(run))
    if wanted != current_spec(run):
        with driving(run, last_backend(run) or "local", wanted, bid):
            pass


def check(run: Run, key: str) -> None:
    """Raise `ArtifactError` for a control object of this run that is not as it was written."""
    if not key.startswith("control/"):  # as most keys do not
        return
    for form, kind in KINDS.items():
        if re.fullmatch(form, key):
            find(run, run.key(key), kind)


def is_stranger(key: str) -> bool:
    """Whether a key lies below `control/` and is of no form that anybody writes or reads there."""
    forms = (*KINDS, _EARLIER, _DECISION)
    named = key.removesuffix(".claim")
    return key.startswith("control/") and not any(re.fullmatch(form, named) for form in forms)


def find_driver(run: Run) -> Driver | None:
    """Return who drives the run, or None when nobody does."""
    epoch = newest(run)
    return None if epoch.is_ended() else epoch.driver


def last_epoch(run: Run) -> Epoch:
    """Return the last claim that was made to drive the run: a collection changes nothing about how that ended."""
    epoch = newest(run)
    while epoch.driver and epoch.driver.backend == "gc":
        epoch = _epoch(run, epoch.number - 1)
    return epoch


def epoch_of(run: Run, host: str) -> Epoch | None:
    """Return the last claim of a workflow, `NAMESPACE/WORKFLOW`; None when it never claimed the run."""
    epoch = newest(run)
    while epoch.number > BEFORE_CLAIMS and not (epoch.driver and epoch.driver.host == host):
        epoch = _epoch(run, epoch.number - 1)
    return epoch if epoch.driver and epoch.driver.host == host else None


def last_backend(run: Run) -> str | None:
    """Return the backend that drives the run, or was the last to; None for a run that nobody has driven yet."""
    driver = last_epoch(run).driver
    if driver:
        return driver.backend
    if workflows(run):
        return "argo"
    has_logs = log_folder(run).is_dir() or any(True for _ in run.store.list(run.key("logs/")))
    return "local" if has_logs else None


def is_stop_requested(run: Run) -> bool:
    """Whether somebody asked the run to stop, and nobody has gone on with it since."""
    return last_epoch(run).is_stop_requested()


def failures(run: Run) -> list[Failure]:
    """Return what failed since the last resume."""
    return last_epoch(run).failures()


def find_outcome(run: Run) -> Outcome | None:
    """Return how the run's last workflow ended, or None when none has since the last resume."""
    outcome = last_epoch(run).outcome()
    return None if outcome is None or outcome.phase == REFUSED else outcome


def workflows(run: Run) -> list[Workflow]:
    """Return the workflows that were made for the run, oldest first; empty for one that never was on a cluster."""
    earlier = (find(run, key, Workflow) for key in run.store.list(run.key("control/workflows/")))
    with ThreadPoolExecutor(READERS) as readers:
        made = list(readers.map(_workflow, _epochs(run)))
    return [workflow for workflow in (*earlier, *made) if workflow]


def next_attempt(run: Run) -> int:
    """Return the number of the run's next workflow: after all there were, those included that were refused."""
    earlier = (find(run, key, Workflow) for key in run.store.list(run.key("control/workflows/")))
    claimed = (epoch.driver.workflow for epoch in _epochs(run) if epoch.driver)
    return max([workflow.attempt + 1 for workflow in (*earlier, *claimed) if workflow], default=0)


def log_folder(run: Run) -> Path:
    """Return where stages on this machine log: in a local store, else under the user's state folder."""
    local = run.store.local_path(run.key("logs"))
    state = Path(os.environ.get("XDG_STATE_HOME", Path.home() / ".local" / "state"))
    return local or state / "leti" / run.name / "logs"


def _epoch(run: Run, number: int) -> Epoch:
    epoch = Epoch(run, number, None)
    epoch.driver = find(run, epoch.key(), Driver)
    return epoch


def _epochs(run: Run) -> list[Epoch]:
    """Return every claim, oldest first."""
    last = newest(run)
    with ThreadPoolExecutor(READERS) as readers:
        return [*readers.map(lambda number: _epoch(run, number), range(last.number)), last]


def _workflow(epoch: Epoch) -> Workflow | None:
    """Return the workflow of a claim, unless the cluster refused it."""
    made = epoch.driver.workflow if epoch.driver else None
    outcome = epoch.outcome() if made else None
    return None if outcome and outcome.phase == REFUSED else made


def _earlier_spec(run: Run) -> RunSpec:
    """Return the spec as earlier versions amended it."""
    keys = list(run.store.list(run.key("amendments/")))
    if not keys:
        return run.spec
    return _parsed(keys[-1], get_named(run, keys[-1]))


def _parsed(key: str, text: str | bytes) -> RunSpec:
    try:
        return RunSpec.model_validate_json(text)
    except ValidationError as error:
        raise ArtifactError(f"{key}: {first_fault(error)}; delete it and try again") from error
