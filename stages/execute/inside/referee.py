"""The referee: evaluates the tests and forms the verdict. No text that a model wrote is compiled or executed here.

It reads jobs from standard input and writes verdicts to standard output. For each job the parser compiles the solution, a
candidate executes it, and the tests run here, calling the candidate from outside.
"""

from __future__ import annotations

import contextlib
import gc
import json
import mmap
import os
import random
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from functools import lru_cache
from types import FrameType
from typing import Any

from stages.execute.inside import remote, trace, wall, wire
from stages.execute.inside.keeper import CLOCK, LOST_ZYGOTE
from stages.execute.inside.suite import Scope, Suite

FIXED = {
    "timed_out": ("TimeoutError", "The program did not end within {timeout_seconds:g} seconds.\n"),
    "out_of_memory": ("MemoryError", "The program used more than {memory_mib} MiB of memory.\n"),
    "output_limit": ("OutputLimitError", "The program wrote more than {output_kib} KiB of output.\n"),
    "untransportable": ("OutputLimitError", "The program returned a value that is too large or too deeply nested.\n"),
    "malformed": ("RuntimeError", "The program answered its tests with something that is not a value.\n"),
    "exited": ("SystemExit", "The program ended before its tests did (exit status {status}).\n"),
    "killed": ("{signal}", "The program was killed by signal {signal}.\n"),
}
"""Error type and feedback of what no traceback describes. Outcomes that are limits carry the name of their limit."""

PROGRAMS_PER_SHARED_CANDIDATE = 200
COLLECT_EVERY = 500
MOMENT_SECONDS = 0.02
REFIRE_SECONDS = 0.05
"""Tests that swallow the end of their time meet it again this soon."""


class Overflow(Exception):
    """The candidate wrote more than it may."""


class Lane:
    """A child of a zygote and the socket to it."""

    def __init__(self, zygote: Zygote, role: str, shared: bool, output_bytes: int) -> None:
        self.zygote = zygote
        self.alone = role == "candidate" and not shared
        zygote.channel.send({"op": "fork", "role": role, "shared": shared})
        text, descriptors, _, _ = socket.recv_fds(zygote.channel.sock, 4096, 2)
        if len(descriptors) != 2:
            raise wire.Closed
        self.pid: int = json.loads(text)["pid"]
        self.sock = socket.socket(fileno=descriptors[0])
        self.output = descriptors[1]
        self.channel = wire.Channel(self.sock, self._wait if self.alone else None)
        self.room = output_bytes
        self.programs = 0

    def _wait(self) -> None:
        """Until the socket can be read; what the candidate writes meanwhile is counted and forgotten."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        poll.register(self.output, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if ready.get(self.output, 0) & select.POLLIN:
                self.room -= len(os.read(self.output, 65536))
                if self.room < 0:
                    raise Overflow
            elif self.output in ready:
                poll.unregister(self.output)
            elif ready:
                return

    def bury(self) -> int | None:
        """Kill it and what it left; returns its wait status."""
        self.sock.close()
        os.close(self.output)
        self.zygote.channel.send({"op": "kill", "pid": self.pid, "alone": self.alone})
        status: int | None = self.zygote.channel.receive()[0]["status"]
        return status


class Zygote:
    """The referee's end of the socket to a zygote."""

    def __init__(self, descriptor: int) -> None:
        self.channel = wire.Channel(socket.socket(fileno=descriptor))


class Expired(BaseException):
    """The program's time is over."""


class Clock:
    """The time limit of one program: an alarm here, and a deadline that the keeper watches."""

    def __init__(self, descriptor: int) -> None:
        self.page = mmap.mmap(descriptor, mmap.PAGESIZE)
        self.running = False
        signal.signal(signal.SIGALRM, self._ring)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if self.running:
            raise Expired

    @contextlib.contextmanager
    def watched(self, seconds: float, job: int) -> Iterator[None]:
        """Past the time the keeper kills this process inside the block."""
        CLOCK.pack_into(self.page, 0, time.monotonic() + seconds, job)
        try:
            yield
        finally:
            CLOCK.pack_into(self.page, 0, 0.0, 0)

    @contextlib.contextmanager
    def limit(self, seconds: float, job: int) -> Iterator[None]:
        """Raises Expired inside the block once the time is over."""
        self.running = True
        try:
            with self.watched(seconds, job):
                signal.setitimer(signal.ITIMER_REAL, seconds, REFIRE_SECONDS)
                yield
        finally:
            self.running = False
            signal.setitimer(signal.ITIMER_REAL, 0)


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


class Trial:
    """One program on its way to a verdict."""

    def __init__(self, referee: Referee, job: dict[str, Any]) -> None:
        self.referee = referee
        self.limits = referee.limits
        self.job = job
        self.prefix: str = job["prompt"] + job["solution"] + "\n"
        self.text = "\n".join([*([job["setup"]] if job["setup"] else []), *job["tests"]])
        self.program = self.prefix + self.text + "\n"
        self.started = time.monotonic()
        self.beside = False

    def verdict(self) -> dict[str, Any]:
        """Judge, and again in a process of its own where a shared one leaves any doubt."""
        try:
            outcome, error_type, feedback = self._judge()
        except Expired:
            outcome, error_type, feedback = self._fixed("timed_out")
        return {
            "job": self.job["job"], "outcome": outcome, "error_type": error_type, "feedback": feedback,
            "seconds": time.monotonic() - self.started, "separation": "beside" if self.beside else "split",
        }  # fmt: skip

    def _judge(self) -> tuple[str, str | None, str]:
        suite = self._suite()
        parsed, code = self._parse(whole=suite is None)
        if parsed is None:
            return self._fixed("out_of_memory")
        if "error" in parsed:
            feedback = trace.Listing("", False, self.limits["feedback_chars"]).cap(trace.clean(parsed["error"]))
            return "failed", parsed["type"], feedback
        if suite is None:
            return self._beside(code)
        try:
            if parsed["certified"] and self.referee.share:
                with contextlib.suppress(_Doubt):
                    return self._split(suite, parsed, code, certified=True)
            return self._split(suite, parsed, code, certified=False)
        except remote.Unsplittable:
            return self._beside(self._parse(whole=True)[1])

    def _suite(self) -> Suite | None:
        """The tests, where they can stand apart from the solution."""
        suite = compiled_suite(self.job["setup"], tuple(self.job["tests"]))
        return suite if suite is not None and suite.splittable else None

    def _parse(self, whole: bool) -> tuple[Any, bytes]:
        request = {"op": "program" if whole else "solution", "prefix": self.prefix, "program": self.program, "carets": self.limits["carets"]}
        # No alarm here: a parser that does not come to an end is rare, and the keeper's watch suffices for it.
        with self.referee.clock.watched(self.limits["timeout_seconds"], self.job["job"]):
            try:
                return self.referee.ask_parser(request)
            except (wire.Closed, wire.Malformed):
                return None, b""

    def _split(self, suite: Suite, parsed: dict[str, Any], code: bytes, certified: bool) -> tuple[str, str | None, str]:
        lane = self.referee.candidate(certified)
        session = remote.Session(lane.channel)
        status = None
        try:
            with self.referee.clock.limit(self.limits["timeout_seconds"], self.job["job"]):
                if suite.in_process:
                    reason, error = self._attempt(suite, session, parsed, code)
                else:
                    return self._in_a_fork(suite, session, parsed, code)
        except Expired:
            reason, error = "timed_out", None
        finally:
            if not certified:
                status = lane.bury()
            elif sys.exc_info()[0] is not None:
                self.referee.drop_shared()
        if certified and reason is None:
            self._let_finish(session)
        elif certified:
            self.referee.drop_shared()
            if reason != "timed_out":
                raise _Doubt
        return self._conclude(reason, error, suite, status, certified)

    def _let_finish(self, session: remote.Session) -> None:
        """A failed test leaves planned calls behind. A shared candidate gets a moment for them, then it is replaced."""
        if not session.planned:
            return
        try:
            with self.referee.clock.limit(MOMENT_SECONDS, self.job["job"]):
                session.finish_plan()
        except (Expired, remote.Ended):
            self.referee.drop_shared()

    def _attempt(self, suite: Suite, session: remote.Session, parsed: dict[str, Any], code: bytes) -> tuple[str | None, BaseException | None]:
        """Run solution and tests. Returns why the conversation ended early, or else what the program raised, or neither."""
        try:
            evaluate(suite, session, parsed["reads"], code)
        except (Expired, remote.Unsplittable):
            raise
        except remote.Ended as ended:
            return ended.reason, None
        except Overflow:
            return "output_limit", None
        except BaseException as error:
            return session.ended, error
        return session.ended, None

    def _conclude(self, reason: str | None, error: BaseException | None, suite: Suite, status: int | None, certified: bool) -> tuple[str, str | None, str]:
        if reason is not None:
            return self._ended(reason, status)
        if error is None:
            return "passed", None, ""
        sent = getattr(error, "_leti_report", None)
        name = sent["type"] if sent else type(error).__name__
        if certified and name in ("RecursionError", "MemoryError"):
            self.referee.drop_shared()
            raise _Doubt
        if name == "MemoryError":
            return self._fixed("out_of_memory")
        links = trace.links_of(error, suite.codes, trace.count_lines(self.prefix))
        return "failed", name, self._listing().of_links(links)

    def _listing(self) -> trace.Listing:
        return trace.Listing(self.program, self.limits["carets"], self.limits["feedback_chars"])

    def _ended(self, reason: str, status: int | None) -> tuple[str, str | None, str]:
        """The verdict on a conversation that ended before the tests did."""
        if reason != "closed":
            return self._fixed(reason.partition(":")[0])
        if status is None or os.WIFEXITED(status):
            return self._fixed("exited", status=0 if status is None else os.WEXITSTATUS(status))
        number = os.WTERMSIG(status)
        if number == signal.SIGXCPU:
            return self._fixed("timed_out")
        with contextlib.suppress(ValueError):
            return self._fixed("killed", signal=signal.Signals(number).name)
        return self._fixed("killed", signal=f"SIG{number}")

    def _fixed(self, reason: str, **more: object) -> tuple[str, str | None, str]:
        outcome = reason if reason in ("timed_out", "out_of_memory", "output_limit") else "failed"
        outcome = "output_limit" if reason == "untransportable" else outcome
        error_type, text = FIXED[reason]
        return outcome, error_type.format(**more), text.format(**self.limits, **more)

    def _in_a_fork(self, suite: Suite, session: remote.Session, parsed: dict[str, Any], code: bytes) -> tuple[str, str | None, str]:
        """For tests that could leave something behind in the referee: evaluated in a copy of it."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                reason, error = self._attempt(suite, session, parsed, code)
                answer: Any = ["verdict", *self._conclude(reason, error, suite, None, False)]
            except remote.Unsplittable:
                answer = ["unsplittable"]
            except Expired:
                answer = ["verdict", *self._fixed("timed_out")]
            with contextlib.suppress(BaseException):
                wire.write_frame(writer, answer)
            os._exit(0)
        os.close(writer)
        try:
            kind, *verdict = wire.read_frame(reader)[0]
        except wire.Closed:
            kind, verdict = "verdict", list(self._fixed("exited", status=0))
        finally:
            os.close(reader)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        if kind != "verdict":
            raise remote.Unsplittable
        return tuple(verdict)

    def _beside(self, code: bytes) -> tuple[str, str | None, str]:
        """Solution and tests in one process: only for tests that cannot be evaluated from outside, and said so."""
        self.beside = True
        lane = self.referee.candidate(certified=False)
        session = remote.Session(lane.channel)
        reason, error = None, None
        try:
            with self.referee.clock.limit(self.limits["timeout_seconds"], self.job["job"]):
                session.exchange({"op": "load", "names": [], "imports": []}, code)
        except Expired:
            reason = "timed_out"
        except remote.Ended as ended:
            reason = ended.reason
        except Overflow:
            reason = "output_limit"
        except BaseException as raised:
            error = raised
        finally:
            status = lane.bury()
        if reason is None and error is not None:
            sent = error._leti_report  # type: ignore[attr-defined]
            if sent["type"] == "MemoryError":
                return self._fixed("out_of_memory")
            return "failed", sent["type"], self._listing().of_links(sent["links"])
        return self._ended(reason, status) if reason is not None else ("passed", None, "")


class _Doubt(Exception):
    """What happened in a shared candidate has to be confirmed in one of its own."""


@lru_cache(maxsize=256)
def compiled_suite(setup: str, tests: tuple[str, ...]) -> Suite | None:
    """A problem's tests; None where they do not compile by themselves. The samples of a problem come one after the other."""
    try:
        return Suite(setup, list(tests))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def evaluate(suite: Suite, session: remote.Session, reads: list[str], code: bytes) -> None:
    """Run the solution in the candidate, then the tests here. Returns only where all of them held."""
    request = {"op": "load", "names": suite.names(), "imports": suite.needed_by(reads), "plan": suite.plan}
    reply = session.exchange(request, code)
    values, names = reply.get("value"), reply.get("globals")
    if type(values) is not dict or type(names) is not list:
        raise session.end("malformed: load")
    scope = Scope(suite, session, values)
    session.planned.extend(_announced(suite, session, values))
    if "random" in suite.loads:
        random.seed(0)
    try:
        exec(suite.code, scope)
    except NameError:
        # CPython looks among these for "Did you mean" when the text of the error is made.
        scope.update({name: None for name in names if type(name) is str and name not in scope})
        raise


def _announced(suite: Suite, session: remote.Session, values: dict[str, Any]) -> Iterator[tuple[int, Any]]:
    """The part of the plan that the candidate goes through: as far as the functions exist."""
    for name, arguments in suite.plan:
        if name not in values:
            return
        value = session.decode(values[name])
        yield value._leti_number if isinstance(value, remote.Handle) else -1, arguments


def main(config: dict[str, Any]) -> None:
    """Judge until the judge closes its end of the pipe."""
    kernel = wall.Kernel()
    with contextlib.suppress(OSError):
        wall.die_with_parent(kernel)
        kernel.prctl(wall.PR_SET_DUMPABLE, 0)
    referee = Referee(config)
    # Syntax trees are many objects and no cycles: looking for cycles among them again and again is most of the collector's work.
    gc.freeze()
    gc.disable()
    judged = 0
    try:
        while True:
            try:
                job, _ = wire.read_frame(0)
            except wire.Closed:
                return
            wire.write_frame(1, referee.judge(job))
            judged += 1
            if judged % COLLECT_EVERY == 0:
                gc.collect()
    except wire.Closed:
        os._exit(LOST_ZYGOTE)
