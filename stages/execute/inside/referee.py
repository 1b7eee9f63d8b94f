"""The referee: evaluates the tests and forms the verdict. No text that a model wrote is compiled or executed here.

It reads jobs from standard input and writes verdicts to standard output. For each job the parser compiles the
solution, a candidate executes it, and the tests run here, calling the candidate from outside (`trial`).
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
from typing import Any

from stages.execute.inside import wall, wire
from stages.execute.inside.lane import Clock, Lane, Zygote
from stages.execute.inside.trial import Trial

PROGRAMS_PER_SHARED_CANDIDATE = 200
COLLECT_EVERY = 500
GARBAGE_BYTES = 64 << 20
"""So much more memory than after the last look for cycles is a reason for the next one: what a candidate answers may be
large and refer to itself, and would else be taken from the programs after it.
"""


class Referee:
    """Judges one job after the other."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.limits: dict[str, Any] = config["limits"]
        self.share: bool = config["share"]
        self.clock = Clock(config["clock"])
        self.zygotes = {name: Zygote(number) for name, number in config["sockets"].items()}
        self.parser: Lane | None = None
        self.shared: Lane | None = None

    def judge(self, job: dict[str, Any]) -> dict[str, Any]:
        """The verdict on one program, as the columns it goes out with."""
        return Trial(self, job).verdict()

    def ask_parser(self, request: dict[str, Any]) -> tuple[Any, bytes]:
        """Compile; the parser is replaced when it dies over it."""
        if self.parser is None:
            self.parser = self._fork("shared", "parser", shared=True)
        try:
            self.parser.channel.send(request)
            return self.parser.channel.receive()
        except BaseException:
            self.parser.bury()
            self.parser = None
            raise

    def candidate(self, certified: bool) -> Lane:
        """A candidate process: one for this program alone, or the one that certified programs share."""
        if not certified:
            return self._fork("own", "candidate", shared=False)
        if self.shared is not None and self.shared.programs >= PROGRAMS_PER_SHARED_CANDIDATE:
            self.drop_shared()
        if self.shared is None:
            self.shared = self._fork("shared", "candidate", shared=True)
        self.shared.programs += 1
        return self.shared

    def drop_shared(self) -> None:
        """At any doubt about the shared candidate."""
        if self.shared is not None:
            self.shared.bury()
            self.shared = None

    def _fork(self, zygote: str, role: str, shared: bool) -> Lane:
        return Lane(self.zygotes[zygote], role, shared, self.limits["output_kib"] << 10)


class Collector:
    """Looks for cycles among what programs left: now and then, and whenever they left much."""

    def __init__(self) -> None:
        self.programs = 0
        self.statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self.least = self.resident()

    def resident(self) -> int:
        """Bytes of memory that this process holds."""
        return int(os.pread(self.statm, 128, 0).split()[1]) * mmap.PAGESIZE

    def after_program(self) -> None:
        """To be called after every program."""
        self.programs += 1
        if self.programs % COLLECT_EVERY == 0 or self.resident() > self.least + GARBAGE_BYTES:
            gc.collect()
            self.least = self.resident()


def main(config: dict[str, Any]) -> None:
    """Judge until the judge closes its end of the pipe."""
    kernel = wall.Kernel()
    with contextlib.suppress(OSError):
        wall.die_with_parent(kernel)
        kernel.prctl(wall.PR_SET_DUMPABLE, 0)
    referee = Referee(config)
    # Syntax trees are many objects and no cycles: looking for cycles among them again and again is most of the
    # collector's work.
    gc.freeze()
    gc.disable()
    collector = Collector()
    try:
        while True:
            try:
                job, _ = wire.read_frame(0)
            except wire.Closed:
                return
            wire.write_frame(1, referee.judge(job))
            collector.after_program()
    except wire.Closed:
        # A zygote is gone. Leaving at once shows the judge that this sandbox is at its end.
        os._exit(1)
