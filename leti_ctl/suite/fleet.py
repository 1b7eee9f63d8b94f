"""Making a suite's runs on a cluster, several at once: each starts when the checkpoint it scores is committed.

The store and the cluster hold all there is to know, so the same command may be ended and given again at any time: what
is done is counted, what a workflow is at work on is followed, and the rest is submitted or resumed.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from leti_ctl import control
from leti_ctl.backends.argo import drive as cluster_runs
from leti_ctl.backends.argo import submission
from leti_ctl.backends.argo.cluster import is_completed, phase
from leti_ctl.backends.argo.follow import Watcher
from leti_ctl.config.contexts import Context
from leti_ctl.suite.drive import open_run, state
from leti_ctl.suite.resolve import Wanted
from stages.contract.artifacts import Ref
from stages.contract.errors import LetiError, NoRun, RetryableError, Stopped
from stages.contract.run import Run
from stages.contract.store import Store

EVERY_SECONDS = 15.0
PATIENCE = 80
"""Looks in a row that a store or cluster may be away; the next ends the command. Some twenty minutes."""


class Place(NamedTuple):
    """Where a fleet's runs go."""

    target: submission.Target
    context: Context
    why: str

    def check(self, store: Store) -> None:
        """Raise `UsageError` for what would fail every run alike."""
        submission.check_store(store.uri)
        submission.check_template(self.target)


class Fleet:
    """The runs of a suite on a cluster: which wait, which a workflow is at work on, and which have failed.

    `pause` is called between looks with the seconds to wait.
    """

    def __init__(
        self, store: Store, wanted: Sequence[Wanted], place: Place, *, at_once: int,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        self.store, self.place, self.at_once, self._pause = store, place, at_once, pause
        self.wanted = {one.name: one for one in wanted}
        self.waiting: dict[str, Wanted] = {}
        self.going: dict[str, Watcher] = {}
        self.failed: dict[str, str] = {}
        self._submitted: set[str] = set()
        """Runs that this command made a workflow for: each gets one."""
        self._warned: set[str] = set()
        self._trouble: RetryableError | None = None
        """What the last look met that another may not."""
        self._away = 0
        """Looks in a row that met some."""

    def drive(self) -> dict[str, str]:
        """Make every run that is not done, and return why some could not be, by name.

        Ended early, by `Stopped` for an interrupt and by what went wrong otherwise, it leaves the cluster at work.
        """
        try:
            self._survey()
            while self._look():
                self._pause(EVERY_SECONDS)
        except KeyboardInterrupt:
            raise Stopped(f"interrupted; {self._left()}") from None
        except LetiError as error:
            error.args = (f"{error}; {self._left()}",)
            raise
        return self.failed

    def _survey(self) -> None:
        """Sort the runs into done, at work, and waiting."""
        self.waiting = dict(self.wanted)
        for one in self.wanted.values():
            self._try(one, self._sort)
        finished = len(self.wanted) - len(self.waiting) - len(self.going) - len(self.failed)
        print(
            f"{len(self.wanted)} runs on a cluster (backend argo: {self.place.why}), at most {self.at_once} at once: "
            f"{finished} done, {len(self.going)} at work, {len(self.waiting)} to do",
            file=sys.stderr,
        )

    def _sort(self, one: Wanted) -> None:
        done, units = state(self.store, one)
        if done == units:
            del self.waiting[one.name]
        else:
            self._follow(one)

    def _look(self) -> bool:
        """See what has ended and start what can be; return whether anything is left to wait for."""
        self._trouble = None
        for name in self._ended():
            self._try(self.wanted[name], self._settle)
        for one in list(self.waiting.values()):
            if len(self.going) < self.at_once:
                self._try(one, self._start)
        self._away = self._away + 1 if self._trouble else 0
        if self._trouble and self._away > PATIENCE:
            raise self._trouble
        if self._trouble and self._away == 1:
            print(f"trying again: {self._trouble}", file=sys.stderr, flush=True)
        return bool(self.waiting or self.going)

    def _try(self, one: Wanted, step: Callable[[Wanted], object]) -> None:
        """Take a step with a run; what another try may not meet is left for the next look."""
        try:
            step(one)
        except RetryableError as error:
            self._trouble = error
        except LetiError as error:
            self._fail(one.name, str(error))

    def _ended(self) -> list[str]:
        """Return the runs whose workflow has ended or is gone; none while the cluster is away."""
        try:
            for watcher in self.going.values():
                watcher.last = watcher.cluster.find_workflow(watcher.record.name)
        except RetryableError as error:
            self._trouble = error
            return []
        return [name for name, seen in self.going.items() if seen.last is None or is_completed(seen.last)]

    def _settle(self, one: Wanted) -> None:
        """Let go of a run whose workflow has ended: by the store it is done, or has failed."""
        done, units = state(self.store, one)
        error = self.going[one.name].error()
        del self.going[one.name]
        if done == units:
            self._say(one.name, f"done; {len(self.going)} at work, {len(self.waiting)} to do")
        elif error is None and one.name not in self._submitted:
            # Submitted before, for fewer iterations: it goes on.
            self.waiting[one.name] = one
        else:
            self._fail(one.name, str(error or f"its workflow has ended with {done} of {units} units"))

    def _start(self, one: Wanted) -> None:
        """Submit a run, or resume it, unless a workflow is at work on it or what it starts from is not there yet."""
        if self._follow(one) or self._has_to_wait(one):
            return
        target = self.place.target
        self._warn(submission.prepare(one.spec, one.name, self.store.uri, target.profile))
        bid = control.Bid(control.newest(Run(self.store, one.name)))
        run, spec = open_run(self.store, one, here=False)
        submission.refuse_driven(bid)
        start = submission.first_incomplete(run, spec)
        if start is not None:
            self._submitted.add(one.name)
            record = submission.submit(run, spec, target, start=start, bid=bid)
            self.going[one.name] = Watcher(run, record, target.cluster)
            self._say(one.name, f"workflow {record.namespace}/{record.name}{f' {record.url}' if record.url else ''}")
        del self.waiting[one.name]

    def _follow(self, one: Wanted) -> bool:
        """Take up a run that a workflow is at work on; return whether one is."""
        run = Run(self.store, one.name)
        records = control.workflows(run)
        if not records:
            return False
        cluster = cluster_runs.cluster_of(run, self.place.context)
        found = cluster.find_workflow(records[-1].name)
        if found is None or is_completed(found):
            return False
        self.going[one.name] = Watcher(run, records[-1], cluster)
        del self.waiting[one.name]
        self._say(one.name, f"workflow {cluster.namespace}/{records[-1].name} is {phase(found)}")
        return True

    def _has_to_wait(self, one: Wanted) -> bool:
        """Whether the checkpoint that a run starts from is still to come; `LetiError` when it never will."""
        model = one.spec.model
        if model.from_run is None or model.from_iteration is None:
            return False
        with suppress(NoRun):  # it may wait itself, for a store that was away when its turn came
            if Run(self.store, model.from_run).find_index(Ref("checkpoint", model.from_iteration)):
                return False
        if model.from_run in self.failed:
            raise LetiError(f"{model.from_run} failed")
        return model.from_run in self.waiting or model.from_run in self.going

    def _fail(self, name: str, reason: str) -> None:
        self.waiting.pop(name, None)
        self.going.pop(name, None)
        self.failed[name] = reason
        self._say(name, f"failed: {reason}")

    def _warn(self, lines: Sequence[str]) -> None:
        for line in lines:
            if line not in self._warned:
                self._warned.add(line)
                print(f"warning: {line}", file=sys.stderr)

    def _left(self) -> str:
        """What is at work on the cluster without this command, and how to take it up."""
        # A run that was being submitted may have its workflow already.
        names = [name for name in self.wanted if name in self.going or name in self._submitted & set(self.waiting)]
        if not names:
            return "nothing is left at work on the cluster; the same command goes on from here"
        return (
            f"the cluster goes on with {', '.join(names)}; the same command follows, `leti-ctl stop RUN --store "
            f"{shlex.quote(self.store.uri)}` ends one"
        )

    def _say(self, name: str, text: str) -> None:
        total = len(self.wanted)
        number = list(self.wanted).index(name) + 1
        print(f"[{number:{len(str(total))}}/{total}] {name}: {text}", file=sys.stderr, flush=True)
