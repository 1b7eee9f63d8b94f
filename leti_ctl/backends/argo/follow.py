"""A run on a cluster, followed: its workflow is watched, its pods and its store are looked at when it moved."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from leti_ctl import control
from leti_ctl.backends.argo.cluster import Cluster, is_completed, phase
from leti_ctl.backends.argo.state import failures, sightings
from leti_ctl.follow import sight
from leti_ctl.follow.board import Picture
from stages.contract.errors import LetiError
from stages.contract.run import Run

EVERY_SECONDS = 5.0
STUCK_SECONDS = 180.0


class Watcher:
    """Yields pictures of a run until its workflow has ended."""

    def __init__(
        self, run: Run, record: control.Workflow, cluster: Cluster, *, every: float = EVERY_SECONDS,
        stuck_after: float = STUCK_SECONDS,
    ) -> None:  # fmt: skip
        self.run, self.record, self.cluster = run, record, cluster
        self.every, self.stuck_after = every, stuck_after
        self.last: dict[str, Any] | None = None
        """The workflow as last seen; None before that, and when it is gone."""
        self._idle_since: float | None = None

    def pictures(self) -> Iterator[Picture]:
        """Yield the run as it is now, then whenever something changed and some seconds have passed."""
        drawn = 0.0
        for state in self.cluster.watch(self.record.name, every=self.every):
            self.last = state
            if is_completed(state) or time.monotonic() - drawn >= min(2.0, self.every):
                drawn = time.monotonic()
                yield self._picture(state)

    def _picture(self, workflow: dict[str, Any]) -> Picture:
        seen = sightings(self.cluster.pods(self.run.name))
        status = workflow.get("status") or {}
        message = f" · {status['message']}" if status.get("message") else ""
        where = f"workflow {self.record.namespace}/{self.record.name}"
        link = f" · {self.record.url}" if self.record.url else ""
        title = f"{self.run.name} · {where} · {phase(workflow)}{message}{link}"
        is_idle = not any(one.is_active for one in seen) and phase(workflow) == "Running"
        return Picture(title, sight.look(self.run, seen), self._warnings(is_idle))

    def _warnings(self, is_idle: bool) -> tuple[str, ...]:
        """Tell a workflow that Argo has lost: no pod is at work, and still it does not end."""
        if not is_idle:
            self._idle_since = None
            return ()
        self._idle_since = self._idle_since or time.monotonic()
        if time.monotonic() - self._idle_since < self.stuck_after:
            return ()
        return (
            f"all pods have ended over {self.stuck_after / 60:.0f} minutes ago and the workflow is still Running; look "
            f"at the workflow controller's log, or: leti-ctl stop --now {control.address(self.run)} and resume",
        )

    def error(self) -> LetiError | None:
        """Return why the workflow did not succeed, or None when it did."""
        if self.last is not None and phase(self.last) == "Succeeded":
            return None
        ended = phase(self.last) if self.last else "gone from the cluster"
        told = failures(self.last) if self.last else []
        why = f": {'; '.join(told[:3])}" if told else ""
        error = LetiError(
            f"workflow {self.record.namespace}/{self.record.name} is {ended}{why}; see `leti-ctl logs "
            f"{control.address(self.run)}`; `leti-ctl resume {control.address(self.run)}` goes on from here"
        )
        codes = [failure.exit_code for failure in control.failures(self.run)]
        error.exit_code = 143 if control.is_stop_requested(self.run) else next(iter(codes), 1)
        return error
