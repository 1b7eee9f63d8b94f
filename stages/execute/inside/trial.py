"""One program on its way to a verdict."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from stages.execute.inside import exhibit, remote, trace, wire
from stages.execute.inside.handles import Handle
from stages.execute.inside.lane import Expired
from stages.execute.inside.suite import Scope, Suite

if TYPE_CHECKING:
    from stages.execute.inside.referee import Referee

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

LIMITS = {"timed_out": "timed_out", "out_of_memory": "out_of_memory", "output_limit": "output_limit"}
LIMITS |= {"untransportable": "output_limit"}
"""Outcomes of the reasons that are limits; every other reason is a failure."""
MOMENT_SECONDS = 0.02


class Finding(NamedTuple):
    """What a trial came to."""

    outcome: str
    error_type: str | None
    feedback: str
    exhibit: Any = None
    """Plain data that the tests show with a pass."""


PASSED = Finding("passed", None, "")


class Doubt(Exception):
    """What happened in a shared candidate has to be confirmed in one of its own."""


class Trial:
    """One program on its way to a verdict."""

    def __init__(self, referee: Referee, job: dict[str, Any]) -> None:
        self.referee = referee
        self.limits = referee.limits
        self.job = job
        self.prefix: str = job["prompt"] + job["solution"] + "\n"
        self.program = "\n".join([self.prefix[:-1], *([job["setup"]] if job["setup"] else []), *job["tests"]]) + "\n"
        self.started = time.monotonic()
        self.beside = False

    def verdict(self) -> dict[str, Any]:
        """Judge; the columns that go out."""
        suite = compiled_suite(self.job["setup"], tuple(self.job["tests"]))
        finding = None
        if suite is not None and suite.splittable:
            with contextlib.suppress(remote.Unsplittable):
                finding = self._apart(suite)
        if finding is None:
            finding = self._beside()
        return {
            "job": self.job["job"], **finding._asdict(), "seconds": time.monotonic() - self.started,
            "separation": "beside" if self.beside else "split",
        }  # fmt: skip

    def _apart(self, suite: Suite) -> Finding:
        """Tests here, solution there: in a shared process where that is harmless, and at any doubt in its own."""
        parsed, code = self._parse("solution")
        if isinstance(parsed, Finding):
            return parsed
        if parsed["certified"] and self.referee.share:
            with contextlib.suppress(Doubt):
                return self._shared(suite, parsed["reads"], code)
        return self._alone(suite, parsed["reads"], code)

    def _parse(self, what: str) -> tuple[Any, bytes]:
        """The parser's answer, or the finding where the program does not compile."""
        request = {"op": what, "prefix": self.prefix, "program": self.program, "carets": self.limits["carets"]}
        # No alarm here: a parser that does not come to an end is rare, and the keeper's watch suffices for it.
        with self.referee.clock.watched(self.limits["timeout_seconds"], self.job["job"]):
            try:
                parsed, code = self.referee.ask_parser(request)
            except (wire.Closed, wire.Malformed):
                return self._fixed("out_of_memory"), b""
        if "error" in parsed:
            return Finding("failed", parsed["type"], self._listing().cap(trace.clean(parsed["error"]))), b""
        return parsed, code

    def _shared(self, suite: Suite, reads: list[str], code: bytes) -> Finding:
        """In the candidate that certified programs share. Raises Doubt where its state may have had a part in what
        happened.
        """
        lane = self.referee.candidate(certified=True)
        session = remote.Session(lane.channel, shares=suite.shares)
        try:
            reason, finding = self._attempt(suite, session, reads, code)
            if reason is None:
                self._let_finish(session)
        except BaseException:
            self.referee.drop_shared()
            raise
        if reason is not None or (finding.error_type in ("RecursionError", "MemoryError")):
            self.referee.drop_shared()
            if reason != "timed_out":
                raise Doubt
        return self._fixed("timed_out") if reason is not None else finding

    def _alone(self, suite: Suite, reads: list[str], code: bytes) -> Finding:
        """In a candidate of its own."""
        lane = self.referee.candidate(certified=False)
        session = remote.Session(lane.channel, shares=suite.shares)
        try:
            reason, finding = self._attempt(suite, session, reads, code)
        finally:
            status = lane.bury()
        return finding if reason is None else self._ended(reason, status)

    def _attempt(
        self, suite: Suite, session: remote.Session, reads: list[str], code: bytes
    ) -> tuple[str | None, Finding]:
        """Run solution and tests within the time limit. The first of the pair says why it ended early, if it did."""
        try:
            with self.referee.clock.limit(self.limits["timeout_seconds"], self.job["job"]):
                if suite.in_process:
                    return self._evaluate(suite, session, reads, code)
                return self._evaluate_in_a_fork(suite, session, reads, code)
        except Expired:
            return "timed_out", PASSED

    def _evaluate(
        self, suite: Suite, session: remote.Session, reads: list[str], code: bytes
    ) -> tuple[str | None, Finding]:
        try:
            shown = evaluate(suite, session, reads, code)
        except (Expired, remote.Unsplittable):
            raise
        except remote.Ended as ended:
            return ended.reason, PASSED
        except BaseException as error:
            finding = self._raised(error, suite)
            # Only now: printing the exception may have asked the candidate once more.
            return _over(session), finding
        return _over(session), PASSED if shown is None else PASSED._replace(exhibit=shown)

    def _evaluate_in_a_fork(
        self, suite: Suite, session: remote.Session, reads: list[str], code: bytes
    ) -> tuple[str | None, Finding]:
        """For tests that could leave something behind in the referee: evaluated in a copy of it."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                if suite.seeds:
                    _seed_both(session)
                try:
                    answer: Any = self._evaluate(suite, session, reads, code)
                except remote.Unsplittable:
                    answer = None
                wire.write_frame(writer, answer)
            os._exit(0)
        os.close(writer)
        try:
            answer, _ = wire.read_frame(reader)
        except wire.Closed:
            return None, self._fixed("exited", status=0)
        finally:
            os.close(reader)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        if answer is None:
            raise remote.Unsplittable
        return answer[0], Finding(*answer[1])

    def _beside(self) -> Finding:
        """Solution and tests in one process: only for tests that cannot be evaluated from outside, and said so.

        A pass is then the claim of that process. At least it must have come to the end of the tests: the solution runs
        before it has them, and only with their last statement behind it does the process send back the number that
        came with them. One that leaves early, is killed, or wrote an answer in advance has failed.
        """
        self.beside = True
        parsed, solution = self._parse("solution")
        if isinstance(parsed, Finding):
            return parsed
        parsed, tests = self._parse("program")
        if isinstance(parsed, Finding):
            return parsed
        lane = self.referee.candidate(certified=False)
        session = remote.Session(lane.channel)
        reason, finding = None, PASSED
        try:
            with self.referee.clock.limit(self.limits["timeout_seconds"], self.job["job"]):
                _run_beside(session, solution, tests)
        except Expired:
            reason = "timed_out"
        except remote.Ended as ended:
            reason = ended.reason
        except BaseException as error:
            finding = self._raised(error, None)
        finally:
            status = lane.bury()
        return finding if reason is None else self._ended(reason, status)

    def _let_finish(self, session: remote.Session) -> None:
        """A failed test leaves planned calls behind. A shared candidate gets a moment for them, then it is replaced."""
        if not session.planned:
            return
        try:
            with self.referee.clock.limit(MOMENT_SECONDS, self.job["job"]):
                session.finish_plan()
        except (Expired, remote.Ended):
            self.referee.drop_shared()

    def _raised(self, error: BaseException, suite: Suite | None) -> Finding:
        """The finding on an exception that left the tests, or the whole program where there is no suite."""
        sent = getattr(error, "_leti_report", None)
        name = sent["type"] if sent and "type" in sent else type(error).__name__
        if name == "MemoryError":
            return self._fixed("out_of_memory")
        links = trace.links_of(error, suite.codes if suite else set(), trace.count_lines(self.prefix))
        return Finding("failed", name, self._listing().of_links(links) or f"{name}\n")

    def _ended(self, reason: str, status: int | None) -> Finding:
        """The finding on a conversation that ended before the tests did."""
        if reason != "closed":
            return self._fixed(reason.partition(":")[0])
        if self.referee.clock.overused(self.job["job"]):
            return self._fixed("out_of_memory")
        if status is None or os.WIFEXITED(status):
            return self._fixed("exited", status=0 if status is None else os.WEXITSTATUS(status))
        number = os.WTERMSIG(status)
        if number == signal.SIGXCPU:
            return self._fixed("timed_out")
        with contextlib.suppress(ValueError):
            return self._fixed("killed", signal=signal.Signals(number).name)
        return self._fixed("killed", signal=f"SIG{number}")

    def _fixed(self, reason: str, **more: object) -> Finding:
        error_type, text = FIXED[reason]
        return Finding(LIMITS.get(reason, "failed"), error_type.format(**more), text.format(**self.limits, **more))

    def _listing(self) -> trace.Listing:
        return trace.Listing(self.program, self.limits["carets"], self.limits["feedback_chars"])


@lru_cache(maxsize=256)
def compiled_suite(setup: str, tests: tuple[str, ...]) -> Suite | None:
    """A problem's tests; None where they do not compile by themselves. The samples of a problem come one after the
    other.
    """
    try:
        return Suite(setup, list(tests))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def evaluate(suite: Suite, session: remote.Session, reads: list[str], code: bytes) -> Any:
    """Run the solution in the candidate, then the tests here. Returns only where all of them held: their exhibit."""
    request = {
        "op": "load", "names": suite.names(), "imports": suite.needed_by(reads), "plan": suite.plan,
        "shares": suite.shares,
    }  # fmt: skip
    reply = session.exchange(request, code)
    trees, names = reply.get("value"), reply.get("globals")
    if type(trees) is not dict or type(names) is not list:
        raise session.end("malformed: load")
    values = session.definitions(trees)
    scope = Scope(suite, session, values)
    session.planned.extend(_announced(suite, values))
    if suite.draws:
        random.seed(0)
    try:
        exec(suite.code, scope)
    except NameError:
        # CPython looks among these for "Did you mean" when the text of the error is made.
        scope.update({name: None for name in names if type(name) is str and name not in scope})
        raise
    return exhibit.plain(scope.get(exhibit.NAME)) if suite.exhibits else None


def _over(session: remote.Session) -> str | None:
    """Why the conversation ended, also where the tests swallowed that. Raises Unsplittable likewise."""
    if session.ended is None and session.unsplittable is not None:
        raise remote.Unsplittable(session.unsplittable)
    return session.ended


def _run_beside(session: remote.Session, solution: bytes, tests: bytes) -> None:
    """Run both in the candidate. Returns only where it proves to have come to the end."""
    session.exchange({"op": "load", "names": [], "imports": []}, solution)
    nonce = os.urandom(16).hex()
    reply = session.exchange({"op": "tests", "nonce": nonce}, tests)
    if reply.get("value") != nonce:
        raise session.end("malformed: no proof of the end")


def _seed_both(session: remote.Session) -> None:
    """In one process the tests' `random.seed` would seed the solution as well. Only in a fork: it stays."""
    seed_here = random.seed

    def seed(a: Any = None, version: int = 2) -> None:
        seed_here(a, version)
        session.ask(op="seed", value=session.encode(a))

    random.seed = seed


def _announced(suite: Suite, values: dict[str, Any]) -> Iterator[tuple[int, Any]]:
    """The part of the plan that the candidate goes through: as far as the functions exist."""
    for name, arguments in suite.plan:
        if name not in values:
            return
        value = values[name]
        yield value._leti_number if isinstance(value, Handle) else -1, arguments
