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
PLATFORMS = ("systrap", "ptrace", "kvm")
"""runsc's ways to catch system calls; leti takes the first."""
TESTS = ("assert double(2) == 4",)
RIGHT = Program("", "def double(x):\n    return 2 * x\n", "", TESTS)
WRONG = Program("", "def double(x):\n    return x\n", "", TESTS)
INSTALL = "install runsc (Debian: apt-get install -t bookworm-backports runsc; https://gvisor.dev)"


def gvisor(subject: Subject) -> Iterator[Finding]:
    """Whether a gVisor sandbox starts and judges rightly, under runsc or in the gVisor that this process is in."""
    needed = subject.spec is None or subject.spec.execute.sandbox == "gvisor"
    program = shutil.which("runsc")
    outcome = _judge("gvisor")
    if isinstance(outcome, str):
        yield ok(f"{outcome}; {_version(program) if program else 'no runsc: this is a pod under gVisor'}")
        return
    found, remedy = str(outcome), f"{INSTALL}, or --set execute.sandbox=process"
    if program:
        others = [name for name in PLATFORMS[1:] if isinstance(_judge("gvisor", name), str)]
        found += f"; {_version(program)}" + (f"; it works on {', '.join(others)}" if others else "")
        remedy = f"let it trace processes (SYS_PTRACE, no seccomp filter on ptrace) so that {PLATFORMS[0]} works"
    yield fail(found, remedy) if needed else warn(found, f"{remedy}; this run chose the weaker process sandbox")


def _version(program: str) -> str:
    """Return what runsc says it is."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)
    said = re.search(r"version (\S+)", done.stdout)
    return f"{program} {said[1]}" if said else f"{program} does not run: {done.stderr.strip()[:200]}"


def process(subject: Subject) -> Iterator[Finding]:
    """Whether the inner wall (namespaces, root and user of its own) stands without gVisor."""
    needed = subject.spec is not None and subject.spec.execute.sandbox == "process"
    outcome = _judge("process")
    if isinstance(outcome, str):
        yield ok(outcome)
        return
    remedy = "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces)"
    yield fail(outcome.args[0], remedy) if needed else warn(outcome.args[0], f"{remedy}; gvisor runs do not need it")


def _judge(kind: Sandbox, platform: str = PLATFORMS[0]) -> str | SandboxUnavailable:
    """Describe the sandbox that judged both programs rightly, or return why there is none."""
    try:
        with Judge(limits=Limits(), sandbox=kind, workers=1, platform=platform) as judge:
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
    Check("gvisor sandbox", gvisor, START_SECONDS),
    Check("process sandbox", process, START_SECONDS),
)
