"""The local backend: the graph's units as plain processes on this machine.

One unit that needs the accelerator (or all cores) runs at a time; judging and the light stages run beside it. A unit
that ends with exit code 75 or is killed by a signal is tried again, everything else fails the run. Nothing is kept
here that the store does not know: kill the driver at any moment and `resume` goes on. A driver from which the run was
taken finds that out before it starts another unit, ends its units and leaves the rest to its successor.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Protocol

from leti_ctl import control, decisions
from leti_ctl.backends.local import nursery
from leti_ctl.follow.journal import parse_line
from leti_ctl.pipeline import HELD_OUT, Load, Plan, Unit, done_units, plan
from stages.contract.errors import LetiError, RetryableError, Stopped
from stages.contract.run import Run
from stages.contract.spec import RunSpec

log = logging.getLogger("leti.local")
SLOTS: dict[Load, int] = {"accelerator": 1, "sandbox": 1, "light": 2}
ATTEMPTS = 3
POLL_SECONDS = 0.1
STOP_POLL_SECONDS = 2.0
GRACE_SECONDS = 15.0


class View(Protocol):
    """What the driver tells about its progress."""

    def started(self, unit: Unit, attempt: int) -> None:
        """A unit's process was started."""

    def progressed(self, unit: Unit, entry: dict[str, Any]) -> None:
        """A unit logged `entry`."""

    def finished(self, unit: Unit, seconds: float) -> None:
        """A unit committed its outputs."""

    def retried(self, unit: Unit, reason: str) -> None:
        """A unit failed in a way that another try may cure."""

    def shortened(self, total: int, reason: str) -> None:
        """The run will end early, after `total` units."""

    def tick(self) -> None:
        """Some time passed."""


@dataclass
class _Process:
    unit: Unit
    popen: nursery.Process
    log: Path
    started: float = field(default_factory=time.monotonic)
    offset: int = 0
    last_error: str = ""

    def new_entries(self) -> list[dict[str, Any]]:
        """Return what was logged since the last call; lines that are not JSON come as plain messages."""
        with open(self.log, "rb") as file:
            file.seek(self.offset)
            data = file.read()
        lines = data[: data.rfind(b"\n") + 1]
        self.offset += len(lines)
        return [parse_line(line) for line in lines.decode(errors="replace").splitlines() if line.strip()]


class Driver:
    """Runs every unit that is not done, in graph order, until the run is complete, fails or is stopped."""

    def __init__(self, run: Run, spec: RunSpec, view: View) -> None:
        self.run, self.spec, self.view = run, spec, view
        self.plan: Plan = plan(decisions.effective(run, spec))
        self.done = done_units(run, spec, self.plan)
        self.decided = {0}
        self.running: dict[Unit, _Process] = {}
        self.attempts: Counter[Unit] = Counter()
        self.not_before: dict[Unit, float] = {}
        self.held: control.Epoch
        self.scratch: Path
        self._stop_checked = time.monotonic()
        self._interrupted = "interrupted"

    def drive(self, bid: control.Bid | None = None) -> None:
        """Run to the end. Raises the failed unit's error, or `Stopped`; `UsageError` when the run is another's."""
        previous = signal.signal(signal.SIGTERM, self._on_terminate)
        try:
            with control.driving(self.run, "local", self.spec, bid) as self.held, self._scratch(), nursery.kept():
                try:
                    self._loop()
                finally:
                    self._terminate()
        except KeyboardInterrupt:
            raise Stopped(f"{self._interrupted}; {self._how_to_resume}") from None
        finally:
            signal.signal(signal.SIGTERM, previous)

    def _on_terminate(self, _signal: int, _frame: FrameType | None) -> NoReturn:
        # Not an `Exception`: boto3 takes those for the network's, and asks the store again.
        self._interrupted = "asked to stop"
        raise KeyboardInterrupt

    @property
    def _how_to_resume(self) -> str:
        return f"`leti-ctl resume {control.address(self.run)}` goes on from here"

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[None]:
        """Give the stages a scratch folder of this claim's own; what drivers before it left goes first."""
        home = Path(os.environ.get("LETI_SCRATCH") or tempfile.gettempdir())
        stem = f"leti-{self.run.name}-{hashlib.sha256(self.run.uri.encode()).hexdigest()[:8]}"
        home.mkdir(parents=True, exist_ok=True)
        for left in home.glob(f"{stem}-*"):
            number = left.name.removeprefix(f"{stem}-").partition("-")[0]
            if number.isdecimal() and int(number) < self.held.number:
                shutil.rmtree(left, ignore_errors=True)
        # A run that was deleted and made again has this number a second time.
        self.scratch = Path(tempfile.mkdtemp(prefix=f"{stem}-{self.held.number:04d}-", dir=home))
        try:
            yield
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def _loop(self) -> None:
        while not self.done.issuperset(self.plan.units):
            self._check_stop()
            self._start_ready()
            time.sleep(POLL_SECONDS)
            for process in list(self.running.values()):
                self._watch(process)
            self.view.tick()

    def _start_ready(self) -> None:
        for unit in self.plan.units:
            if unit in self.done or unit in self.running or self.not_before.get(unit, 0) > time.monotonic():
                continue
            busy = sum(other.load == unit.load for other in self.running)
            if busy < SLOTS[unit.load] and all(before in self.done for before in self.plan.after[unit]):
                if self._ends_before(unit):
                    return
                self._start(unit)

    def _ends_before(self, unit: Unit) -> bool:
        """Decide about an iteration when its training chain could begin; if the run ends there, shorten the plan."""
        if unit.node in HELD_OUT or unit.iteration in self.decided:
            return False
        self.decided.add(unit.iteration)
        last = decisions.settle(self.run, self.spec, unit.iteration)
        if last.iterations > unit.iteration:
            return False
        self.plan = plan(last)
        end = decisions.early_end(self.run, self.spec)
        self.view.shortened(len(self.plan.units), end.reason if end else "")
        return True

    def _start(self, unit: Unit) -> None:
        self._check_held()
        self.attempts[unit] += 1
        folder = control.log_folder(self.run)
        folder.mkdir(parents=True, exist_ok=True)
        began = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        log = folder / f"{unit.id}.{began}-{self.held.number}-{self.attempts[unit]}.log"
        log.write_bytes(b"")
        here = {"LETI_LOG": "json", "LETI_SCRATCH": str(self.scratch), "PYTHONUNBUFFERED": "1"}
        started = nursery.start(unit.arguments(self.run.uri), log, {**os.environ, **here})
        self.running[unit] = _Process(unit, started, log)
        self.view.started(unit, self.attempts[unit])

    def _watch(self, process: _Process) -> None:
        code = process.popen.poll()
        for entry in process.new_entries():
            # A line without a level is not the stage's own: the last one of a crash is its exception.
            if entry.get("level", "error") == "error":
                process.last_error = str(entry.get("message", ""))
            self.view.progressed(process.unit, entry)
        if code is not None:
            self._ended(process, code)

    def _ended(self, process: _Process, code: int) -> None:
        unit = process.unit
        del self.running[unit]
        _kill_group(process.popen.pid, signal.SIGKILL)
        self._keep_log(process.log)
        if code == 0:
            self.done.add(unit)
            self.view.finished(unit, time.monotonic() - process.started)
            return
        reason = process.last_error or (f"killed by signal {-code}" if code < 0 else f"exit code {code}")
        may_help = code == RetryableError.exit_code or code < 0
        if may_help and self.attempts[unit] < ATTEMPTS:
            self.not_before[unit] = time.monotonic() + 4.0 ** (self.attempts[unit] - 1)
            self.view.retried(unit, reason)
            return
        self._fail(unit, code, reason)

    def _fail(self, unit: Unit, code: int, reason: str) -> NoReturn:
        self._check_held()
        failure = control.Failure(unit=unit.id, label=unit.label, exit_code=code, message=reason, at=control.now())
        self.held.record_failure(failure)
        error = LetiError(
            f"{unit.label} failed: {reason}; see `leti-ctl logs {control.address(self.run)} --stage {unit.stage}`; "
            f"{self._how_to_resume}"
        )
        error.exit_code = code if code > 0 else 1
        raise error

    def _check_stop(self) -> None:
        if time.monotonic() - self._stop_checked > STOP_POLL_SECONDS:
            self._stop_checked = time.monotonic()
            self._check_held()
            if self.held.is_stop_requested():
                raise Stopped(f"stopped on request; {self._how_to_resume}")

    def _check_held(self) -> None:
        if lost := self.held.lost():
            raise Stopped(lost)

    def _terminate(self) -> None:
        """End what still runs: ask, wait, then kill the whole group."""
        for process in self.running.values():
            _kill_group(process.popen.pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        for process in self.running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.popen.wait(max(0.0, deadline - time.monotonic()))
            _kill_group(process.popen.pid, signal.SIGKILL)
            process.popen.wait()
        # All have ended before any log is sent: a store that is away keeps none of them at work.
        logs = [process.log for process in self.running.values()]
        self.running.clear()
        for path in logs:
            self._keep_log(path)

    def _keep_log(self, path: Path) -> None:
        """Send a log to a remote store. One that cannot be sent fails no unit, and hides no unit's error."""
        if self.run.store.local_path(self.run.key("logs")) is None:
            try:
                self.run.store.upload(self.run.key(f"logs/{path.name}"), path)
            except LetiError as error:
                log.warning("%s is not in the store's logs: %s", path.name, error)


def _kill_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)
