"""Making a suite's runs on this machine, one after another: what is done stays, what fails does not stop the rest."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from leti_ctl import control, decisions, launch
from leti_ctl.backends.local import nursery
from leti_ctl.backends.local.driver import Driver
from leti_ctl.pipeline import Unit, done_units, plan
from leti_ctl.suite.resolve import Wanted
from stages.contract.errors import LetiError, NoRun, Stopped
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import Store


@dataclass
class Progress:
    """How a suite goes on: a line per run, and on a terminal what runs right now."""

    total: int
    number: int = 0
    started_at: float = field(default_factory=time.monotonic)
    done: int = 0
    units: int = 0
    _name: str = ""

    def begin(self, name: str, units: int, done: int) -> None:
        """A run begins, or goes on."""
        self._name, self.units, self.done = name, units, done
        self._say(f"{units - done} of {units} units to do" if done else f"{units} units")

    def end(self, text: str) -> None:
        """A run has ended."""
        self._say(text)

    def started(self, unit: Unit, attempt: int) -> None:
        """Show what runs."""
        self._show(f"{unit.label}{f' (try {attempt})' if attempt > 1 else ''}")

    def progressed(self, unit: Unit, entry: dict[str, Any]) -> None:
        """Pass warnings on."""
        if entry.get("level") == "warning":
            self._say(f"{unit.label}: {entry['message']}")

    def finished(self, unit: Unit, seconds: float) -> None:
        """Count a unit."""
        self.done += 1

    def retried(self, unit: Unit, reason: str) -> None:
        """Say why a unit is tried again."""
        self._say(f"{unit.label}: trying again: {reason}")

    def shortened(self, total: int, reason: str) -> None:
        """Say that a run ends early."""
        self.units = total
        self._say(f"ends early: {reason}")

    def tick(self) -> None:
        """Nothing moves between units."""

    def _say(self, text: str) -> None:
        clear = "\r\x1b[K" if sys.stderr.isatty() else ""
        width = len(str(self.total))
        print(f"{clear}[{self.number:{width}}/{self.total}] {self._name}: {text}", file=sys.stderr, flush=True)

    def _show(self, text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K  {self.done}/{self.units} {text}", end="", file=sys.stderr, flush=True)


def drive_all(store: Store, wanted: Sequence[Wanted]) -> dict[str, str]:
    """Make every run that is not done, and return why some could not be, by name. `Stopped` ends it all."""
    view, failed = Progress(len(wanted)), dict[str, str]()
    with nursery.kept():
        for view.number, one in enumerate(wanted, 1):
            if one.parent in failed:
                failed[one.name] = f"{one.parent} failed"
                continue
            try:
                _drive(store, one, view)
            except Stopped as stopped:
                raise Stopped(f"{_first_clause(stopped)}; the same command goes on from here") from None
            except LetiError as error:
                failed[one.name] = str(error)
                view.end(f"failed: {error}")
    return failed


def state(store: Store, one: Wanted) -> tuple[int, int]:
    """Return how many of a run's units are done, and how many it has."""
    run = Run(store, one.name)
    try:
        spec = control.current_spec(run)
    except NoRun:
        return 0, len(plan(one.spec).units)
    whole = plan(decisions.effective(run, _longer(spec, one.spec)))
    return len(done_units(run, spec, whole)), len(whole.units)


def _drive(store: Store, one: Wanted, view: Progress) -> None:
    bid = control.Bid(control.newest(Run(store, one.name)))
    run, spec = open_run(store, one)
    whole = plan(decisions.effective(run, spec))
    done, before = len(done_units(run, spec, whole)), time.monotonic()
    if done == len(whole.units):
        return
    view.begin(one.name, len(whole.units), done)
    launch.check_machine(spec)
    Driver(run, spec, view).drive(bid)
    view.end(f"done in {time.monotonic() - before:.0f} s")


def open_run(store: Store, one: Wanted, *, here: bool = True) -> tuple[Run, RunSpec]:
    """Return the run, made where there is none, and its spec, with more iterations where it was made for fewer.

    `here` says that this machine will run it. The run has the spec when somebody takes it with that.
    """
    if store.size(f"runs/{one.name}/spec.json") is None:
        run = launch.create(one.spec, store.uri, one.name, here=here)
        return run, run.spec
    run = control.open_run(store, one.name)
    run.vouch()
    spec = _longer(control.current_spec(run), one.spec)
    control.check_amendment(run, spec)
    return run, spec


def _longer(spec: RunSpec, wanted: RunSpec) -> RunSpec:
    return spec.model_copy(update={"iterations": max(spec.iterations, wanted.iterations)})


def _first_clause(error: Exception) -> str:
    return str(error).partition(";")[0]


def summary_of(failed: Mapping[str, str]) -> str:
    """One line for what failed."""
    first = next(iter(failed))
    more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
    return f"{len(failed)} runs failed: {first}{more}; mend what their messages name and run the same command again"
