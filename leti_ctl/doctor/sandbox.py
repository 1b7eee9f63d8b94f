"""Whether model-written code can be judged here: a right and a wrong program, in each kind of sandbox."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator

from leti_ctl.doctor.report import Check, Finding, Subject, fail, ok, warn
from stages.contract.errors import SandboxUnavailable
from stages.contract.spec import Sandbox
from stages.execute.judge import Judge, Limits, Program

START_SECONDS = 75.0
TESTS = ("assert double(2) == 4",)
RIGHT = Program("", "def double(x):\n    return 2 * x\n", "", TESTS)
WRONG = Program("", "def double(x):\n    return x\n", "", TESTS)
INSTALL = "install runsc (Debian: apt-get install -t bookworm-backports runsc; https://gvisor.dev)"


def runsc(subject: Subject) -> Iterator[Finding]:
    """Whether gVisor is installed, and which."""
    needed = subject.spec is None or subject.spec.execute.sandbox == "gvisor"
    program = shutil.which("runsc")
    if program is None:
        found, remedy = "runsc is not on the PATH", f"{INSTALL}, or --set execute.sandbox=process"
        yield fail(found, remedy) if needed else warn(found, f"{INSTALL}; this run chose the weaker process sandbox")
        return
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)
    said = re.search(r"version (\S+)", done.stdout)
    yield ok(f"{program}, version {said[1]}") if said else fail(f"{program} does not run: {done.stderr[:200]}", INSTALL)


def gvisor(subject: Subject) -> Iterator[Finding]:
    """Whether a gVisor sandbox starts and judges rightly."""
    needed = subject.spec is None or subject.spec.execute.sandbox == "gvisor"
    if shutil.which("runsc") is None:
        return
    failure = _judge("gvisor")
    if isinstance(failure, str):
        yield ok(failure)
        return
    remedy = "see the message; in a container runsc needs CAP_SYS_ADMIN or user namespaces, and ptrace for systrap"
    yield fail(failure.args[0], remedy) if needed else warn(failure.args[0], remedy)


def process(subject: Subject) -> Iterator[Finding]:
    """Whether the inner wall (namespaces, root and user of its own) stands without gVisor."""
    needed = subject.spec is not None and subject.spec.execute.sandbox == "process"
    outcome = _judge("process")
    if isinstance(outcome, str):
        yield ok(outcome)
        return
    remedy = "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces)"
    yield fail(outcome.args[0], remedy) if needed else warn(outcome.args[0], f"{remedy}; gvisor runs do not need it")


def _judge(kind: Sandbox) -> str | SandboxUnavailable:
    """Describe the sandbox that judged both programs rightly, or return why there is none."""
    try:
        with Judge(limits=Limits(), sandbox=kind, workers=1) as judge:
            outcomes = [verdict.outcome for verdict in judge.run([RIGHT, WRONG])]
            one = judge.description
    except SandboxUnavailable as error:
        return error
    if outcomes != ["passed", "failed"]:
        return SandboxUnavailable(f"the {kind} sandbox judged a right and a wrong program {', '.join(outcomes)}")
    return (
        f"{kind} sandbox on {one.platform} in {one.start_seconds:.1f} s; inner wall: {', '.join(one.walls) or 'none'}"
    )


CHECKS = (
    Check("runsc", runsc),
    Check("gvisor sandbox", gvisor, START_SECONDS),
    Check("process sandbox", process, START_SECONDS),
)
