"""The judge: programs in, verdicts out.

    with Judge(limits=Limits(), sandbox="gvisor", workers=2) as judge:
        for verdict in judge.run(programs):
            ...

Each worker is one sandbox that lives as long as the judge. What happens inside is described in `inside/__init__.py`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import selectors
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from stages.execute.inside import exhibit, wire
from stages.execute.limits import Limits
from stages.execute.sandbox import Description, Sandbox, SandboxKind

__all__ = ["Description", "Judge", "Limits", "Program", "Verdict"]

OUTCOMES = frozenset({"passed", "failed", "timed_out", "out_of_memory", "output_limit"})
ATTEMPTS = 3
"""Times a program is tried when the platform fails under it; then its verdict is `infra_error`."""
STALL_SECONDS = 20.0
"""A worker that is this long past a program's limit is given up. Its keeper ends a stuck test within a fraction of a
second.
"""
RENEW_AFTER = 10_000
"""Programs after which a gVisor sandbox is replaced: runsc itself grows by almost a KiB with each, and a new one costs
what a hundred programs do.
"""
WINDOW = 2
"""Programs in a worker's pipe: the next one waits there when a verdict leaves."""


@dataclass(frozen=True, slots=True)
class Program:
    """What is executed: prompt and solution directly after each other, a newline, setup, tests."""

    prompt: str
    solution: str
    setup: str
    tests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happened to one program."""

    outcome: str
    """`passed`, `failed`, `timed_out`, `out_of_memory`, `output_limit`; `infra_error` says nothing about the program.
    """
    error_type: str | None
    """Name of the exception class CPython reports. Limits have a fixed one: TimeoutError, MemoryError,
    OutputLimitError. A program that leaves early has SystemExit; one that a signal killed has the signal's name, as
    SIGSEGV. None when passed.
    """
    feedback: str
    """What CPython prints, or the fixed sentence of a limit; empty when passed."""
    seconds: float
    isolation: str
    """`gvisor-split` and the like: which sandbox, and whether the tests ran apart from the solution (`split`) or in
    its process (`beside`).
    """
    exhibit: Any = None
    """What a `split` program's tests bound to the name `exhibit`, as plain data, where it passed (`inside/exhibit`)."""


@dataclass(slots=True)
class _Worker:
    """A sandbox and the jobs that were sent to it, oldest first."""

    slot: int
    sandbox: Sandbox
    sent: deque[int] = field(default_factory=deque)
    since: float = 0.0
    judged: int = 0
    """Programs this sandbox has answered for."""


class Judge:
    """Judges programs in sandboxes of its own. A context manager: entering starts the sandboxes, leaving ends them.

    Raises SandboxUnavailable where a sandbox cannot be started.
    """

    description: Description
    """Of the first sandbox: all are alike."""

    def __init__(
        self, *, limits: Limits, sandbox: SandboxKind, workers: int, share: bool = True, platform: str = "systrap"
    ) -> None:
        self.limits = limits
        self.sandbox = sandbox
        self.count = max(1, workers)
        self.share = share
        """Whether certified programs may share a process; without, each program has one of its own."""
        self.platform = platform
        self.renew_after = RENEW_AFTER if sandbox == "gvisor" else sys.maxsize
        """Programs a sandbox answers for before a new one takes its place."""
        self._workers: list[_Worker] = []

    def __enter__(self) -> Judge:
        try:
            for slot in range(self.count):
                self._workers.append(_Worker(slot, self._begin()))
            descriptions = [worker.sandbox.wait() for worker in self._workers]
            self.description = descriptions[0]
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def close(self) -> None:
        """End all sandboxes."""
        for worker in self._workers:
            worker.sandbox.close()
        self._workers = []

    def run(self, programs: Sequence[Program], progress: Callable[[int], None] | None = None) -> Iterator[Verdict]:
        """Verdicts in the order of `programs`. Identical programs are executed once. `progress` hears how many are
        known.
        """
        distinct = list(dict.fromkeys(programs))
        known: dict[Program, Verdict] = {}
        copies = _count(programs)
        done = 0
        waiting = iter(programs)
        next_program = next(waiting, None)
        for number, verdict in self._judge(distinct):
            known[distinct[number]] = verdict
            done += copies[distinct[number]]
            if progress is not None:
                progress(done)
            while next_program is not None and next_program in known:
                copies[next_program] -= 1
                # What a candidate shows may be large: nothing is kept that has been given for the last time.
                yield known[next_program] if copies[next_program] else known.pop(next_program)
                next_program = next(waiting, None)

    def _judge(self, programs: list[Program]) -> Iterator[tuple[int, Verdict]]:
        """Verdicts as they come, by number."""
        pending = deque(range(len(programs)))
        attempts = dict.fromkeys(pending, 0)
        missing = len(programs)
        self._drop_unfinished()
        for number in [number for number in pending if _size(programs[number]) > wire.LARGEST // 2]:
            pending.remove(number)
            missing -= 1
            yield number, self._too_large()
        with selectors.DefaultSelector() as selector:
            for worker in self._workers:
                selector.register(worker.sandbox.verdicts, selectors.EVENT_READ, worker)
            while missing:
                for worker in self._workers:
                    if self._is_worn(worker):
                        self._renew(worker, selector)
                    self._feed(worker, pending, programs)
                for worker in self._ready(selector):
                    try:
                        number, verdict = self._read(worker)
                    except (wire.Closed, wire.Malformed, OSError, KeyError, TypeError, ValueError):
                        for number in self._replace(worker, selector, pending, attempts):
                            missing -= 1
                            yield number, self._infrastructure_error()
                    else:
                        missing -= 1
                        yield number, verdict

    def _drop_unfinished(self) -> None:
        """New sandboxes for workers that still have programs of a run which was not read to its end: their verdicts
        would be taken for this run's.
        """
        for worker in self._workers:
            if worker.sent:
                worker.sandbox.close()
                worker.sent.clear()
                worker.judged = 0
                worker.sandbox = self._begin()
                worker.sandbox.wait()

    def _is_worn(self, worker: _Worker) -> bool:
        return worker.judged >= self.renew_after and not worker.sent

    def _feed(self, worker: _Worker, pending: deque[int], programs: list[Program]) -> None:
        while pending and len(worker.sent) < WINDOW and worker.judged + len(worker.sent) < self.renew_after:
            number = pending.popleft()
            program = programs[number]
            job = {
                "job": number, "prompt": program.prompt, "solution": program.solution,
                "setup": program.setup, "tests": program.tests,
            }  # fmt: skip
            if not worker.sent:
                worker.since = time.monotonic()
            worker.sent.append(number)
            with contextlib.suppress(OSError):  # a dead worker shows when it is read
                wire.write_frame(worker.sandbox.requests.fileno(), job)

    def _ready(self, selector: selectors.BaseSelector) -> list[_Worker]:
        """Workers with something to read, or with nothing to say for much too long."""
        ready: list[_Worker] = [key.data for key, _ in selector.select(1.0)]
        patience = 2 * self.limits.timeout_seconds + STALL_SECONDS
        for worker in self._workers:
            if worker not in ready and worker.sent and time.monotonic() - worker.since > patience:
                worker.sandbox.process.kill()
                ready.append(worker)
        return ready

    def _read(self, worker: _Worker) -> tuple[int, Verdict]:
        """One verdict. Rows that are not what they must be count as a failure of the platform."""
        message, _ = wire.read_frame(worker.sandbox.verdicts.fileno())
        if not worker.sent or message["job"] != worker.sent[0]:
            raise wire.Malformed("a verdict on another program")
        verdict = self._verdict(message)
        worker.sent.popleft()
        worker.judged += 1
        worker.since = time.monotonic()
        return message["job"], verdict

    def _verdict(self, message: dict[str, Any]) -> Verdict:
        if message.get("stuck"):
            text = f"The program did not end within {self.limits.timeout_seconds:g} seconds.\n"
            return Verdict("timed_out", "TimeoutError", text, self.limits.timeout_seconds, f"{self.sandbox}-split")
        outcome, error_type, feedback = message["outcome"], message["error_type"], message["feedback"]
        if outcome not in OUTCOMES or type(feedback) is not str or (error_type is None) != (outcome == "passed"):
            raise wire.Malformed("not a verdict")
        if message["separation"] not in ("split", "beside") or type(error_type) not in (str, type(None)):
            raise wire.Malformed("not a verdict")
        isolation = f"{self.sandbox}-{message['separation']}"
        shown = message["exhibit"]
        if shown is not None and (outcome != "passed" or exhibit.plain(shown) is None):
            raise wire.Malformed("not an exhibit")
        return Verdict(outcome, error_type, feedback, float(message["seconds"]), isolation, shown)

    def _replace(
        self, worker: _Worker, selector: selectors.BaseSelector, pending: deque[int], attempts: dict[int, int]
    ) -> list[int]:
        """A new sandbox for a worker. Its programs are tried again; returns those that have been tried too often."""
        lost = list(worker.sent)
        self._renew(worker, selector)
        for number in lost[:1]:
            attempts[number] += 1
        given_up = [number for number in lost if attempts[number] >= ATTEMPTS]
        pending.extendleft(number for number in reversed(lost) if number not in given_up)
        return given_up

    def _renew(self, worker: _Worker, selector: selectors.BaseSelector) -> None:
        """Give a worker a new sandbox; what it had been sent is forgotten."""
        selector.unregister(worker.sandbox.verdicts)
        worker.sandbox.close()
        worker.sent.clear()
        worker.judged = 0
        worker.sandbox = self._begin()
        worker.sandbox.wait()
        selector.register(worker.sandbox.verdicts, selectors.EVENT_READ, worker)

    def _too_large(self) -> Verdict:
        """Of a program that is not even compiled."""
        text = f"The program used more than {self.limits.memory_mib} MiB of memory.\n"
        return Verdict("out_of_memory", "MemoryError", text, 0.0, f"{self.sandbox}-split")

    def _infrastructure_error(self) -> Verdict:
        text = f"The sandbox failed {ATTEMPTS} times under this program.\n"
        return Verdict("infra_error", "SandboxUnavailable", text, 0.0, f"{self.sandbox}-split")

    def _begin(self) -> Sandbox:
        slot = os.getpid() * 64 + next(_slots) % 64
        return Sandbox(self.sandbox, self.limits, slot=slot, share=self.share, platform=self.platform)


_slots = itertools.count()
"""Together with the process id a number that no other sandbox of this machine has: limits per user would else be
shared with it.
"""


def _size(program: Program) -> int:
    """Bytes of its text on the way to the sandbox."""
    return len(wire.dump([program.prompt, program.solution, program.setup, program.tests]))


def _count(programs: Sequence[Program]) -> dict[Program, int]:
    counts: dict[Program, int] = {}
    for program in programs:
        counts[program] = counts.get(program, 0) + 1
    return counts
