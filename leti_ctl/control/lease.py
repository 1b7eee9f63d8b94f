"""Who holds a run: claims with numbers, of which the highest counts. The package says why this is free of races."""

from __future__ import annotations

import os
import platform
import re
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from leti_ctl.control.records import Driver, Failure, Outcome, Stop, birth, find, now, sealed
from stages.contract.errors import LetiError, UsageError
from stages.contract.run import Run
from stages.contract.spec import RunSpec

CLAIMS = "control/drivers/"
BEFORE_CLAIMS = -1
"""Number of what earlier versions left, which had one driver and no numbers."""
_CLAIM = re.compile(r"(\d{4,})\.json")


class Epoch:
    """One claim: its driver, and what lies below it. Number -1 is the time before the first."""

    def __init__(self, run: Run, number: int, driver: Driver | None) -> None:
        self.run, self.number, self.driver = run, number, driver

    def key(self, rest: str = "") -> str:
        """Return the store key of the claim itself, or of an object below it."""
        if self.number == BEFORE_CLAIMS:
            return self.run.key(f"control/{rest or 'driver.json'}")
        return self.run.key(f"{CLAIMS}{self.number:04d}" + (f"/{rest}" if rest else ".json"))

    def successor(self) -> Epoch | None:
        """Return the claim that was made after this one; None while this is the last."""
        later = Epoch(self.run, self.number + 1, None)
        later.driver = find(self.run, later.key(), Driver)
        return later if later.driver else None

    def is_ended(self) -> bool:
        """Whether its driver has let go of the run."""
        if self.number == BEFORE_CLAIMS:
            return find(self.run, self.key(), Driver) is None
        return self.run.store.has(self.key("ends/0000.json"))

    def is_driven(self) -> bool:
        """Whether its driver is, as far as can be told here, at work."""
        return self.driver is not None and self.driver.is_alive and not self.is_ended()

    def lost(self) -> str:
        """Return who has taken the run from this driver, in a line; empty while it has the run."""
        later = self.successor()
        if later is None or later.driver is None:
            return ""
        return (
            f"run {self.run.name} was taken over by {later.driver.title} at {later.driver.since}; what is committed "
            "stays, and the rest is left to that"
        )

    def end(self, phase: str = "") -> Outcome:
        """Let go of the run, or say anew how it ended: a workflow that was retried ends again."""
        outcome, number = Outcome(phase=phase, at=now()), 0
        text = sealed(outcome)
        if self.number == BEFORE_CLAIMS:
            self.run.store.put_if_absent(self.key("outcome.json"), text)
            self.run.store.delete(self.key())
            return outcome
        while not self.run.store.put_if_absent(self.key(f"ends/{number:04d}.json"), text):
            number += 1
        return outcome

    def outcome(self) -> Outcome | None:
        """Return how it ended, by the last word on it; None for one that has not, or that knows no phases."""
        if self.number == BEFORE_CLAIMS:
            return find(self.run, self.key("outcome.json"), Outcome)
        last, number = None, 0
        while found := find(self.run, self.key(f"ends/{number:04d}.json"), Outcome):
            last, number = found, number + 1
        return last if last and last.phase else None

    def request_stop(self) -> None:
        """Ask its driver to end."""
        self.run.store.put_if_absent(self.key("stop.json"), sealed(Stop(at=now())))

    def is_stop_requested(self) -> bool:
        """Whether somebody asked its driver to end."""
        return self.run.store.has(self.key("stop.json"))

    def record_failure(self, failure: Failure) -> None:
        """Keep why a unit failed."""
        self.run.store.put_if_absent(self.key(f"failures/{failure.unit}.json"), sealed(failure))

    def failures(self) -> list[Failure]:
        """Return which units failed for good."""
        found = (find(self.run, key, Failure) for key in self.run.store.list(self.key("failures/")))
        return [failure for failure in found if failure]


class Bid(NamedTuple):
    """A wish to take a run, by somebody who has seen `after` as its last claim."""

    after: Epoch
    take_over: bool = False
    """Also from another machine's process or a workflow, of which nobody can tell here whether it is at work."""

    def check(self) -> None:
        """Raise `UsageError` while somebody drives the run."""
        driver = self.after.driver
        if driver and self.after.is_driven() and (driver.is_here or not self.take_over):
            raise _refusal(self.after.run, driver)


def address(run: Run) -> str:
    """Return what a command needs to find the run again, as a shell takes it, for messages that name the next one."""
    return f"{run.name} --store {shlex.quote(run.store.uri)}"


def unclaimed(run: Run) -> Epoch:
    """Return the time before the first claim, which is how who has made a run has seen it."""
    return Epoch(run, BEFORE_CLAIMS, None)


def newest(run: Run) -> Epoch:
    """Return the run's last claim."""
    prefix = run.key(CLAIMS)
    listed = (_CLAIM.fullmatch(key.removeprefix(prefix)) for key in run.store.list(prefix))
    epoch = Epoch(run, max((int(found[1]) for found in listed if found), default=BEFORE_CLAIMS), None)
    epoch.driver = find(run, epoch.key(), Driver)
    while later := epoch.successor():
        epoch = later
    return epoch


def claim(bid: Bid, driver: Driver, spec: RunSpec) -> Epoch:
    """Take a run for a driver, to `spec`; `UsageError` when somebody else has since the bidder looked."""
    run, taking = bid.after.run, driver.model_copy(update={"spec": spec.to_json()})
    made = Epoch(run, bid.after.number + 1, taking)
    if run.store.put_if_absent(made.key(), sealed(taking)):
        return made
    last = newest(run)
    if last.driver and last.is_driven():
        raise _refusal(run, last.driver)
    raise UsageError(
        f"run {run.name} was driven by {last.driver.title if last.driver else 'another'} in the meantime; look at it "
        f"with `leti-ctl status {address(run)}` and try again"
    )


@contextmanager
def driving(run: Run, backend: str, spec: RunSpec, bid: Bid | None = None) -> Iterator[Epoch]:
    """Hold the run for this process; `UsageError` when another live one holds it, or has since the bidder looked."""
    bid = bid or Bid(newest(run))
    bid.check()
    pid = os.getpid()
    held = claim(bid, Driver(backend=backend, host=platform.node(), pid=pid, born=birth(pid) or 0, since=now()), spec)
    try:
        yield held
    except BaseException:
        # What ended the driver is what its user must hear of; a claim of a process that is gone holds nobody up.
        with suppress(LetiError):
            held.end()
        raise
    held.end()


def request_stop(run: Run) -> bool:
    """Ask the run's driver to stop, by store and, on this machine, by signal; return whether there is a driver."""
    while True:
        epoch = newest(run)
        if epoch.driver is None or not epoch.is_driven():
            return False
        epoch.request_stop()
        if epoch.driver.is_here:
            _terminate(epoch.driver)
        if epoch.successor() is None:
            return True


def _terminate(driver: Driver) -> None:
    """Signal a process of this machine, and no other that was given its number since."""
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(driver.pid)
        try:
            if birth(driver.pid) == driver.born:
                signal.pidfd_send_signal(handle, signal.SIGTERM)
        finally:
            os.close(handle)


def _refusal(run: Run, driver: Driver) -> UsageError:
    place = "cluster" if driver.is_workflow else "machine"
    remedy = "" if driver.is_here else f"; if that {place} is gone, add --take-over"
    return UsageError(
        f"run {run.name} is driven by {driver.title} since {driver.since}; "
        f"`leti-ctl stop {address(run)}` ends it{remedy}"
    )
