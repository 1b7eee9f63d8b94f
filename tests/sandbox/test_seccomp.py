"""The filter of a candidate without a user of its own refuses what it names, and nothing an honest program needs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from stages.execute.inside import seccomp
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(not seccomp.known(), reason="no filter for this architecture")

FILTERED = f"""
import sys; sys.path.append({str(ROOT)!r})
import errno, json, os, subprocess, threading
from stages.execute.inside import seccomp, wall
kernel = wall.Kernel()
kernel.prctl(wall.PR_SET_NO_NEW_PRIVS, 1)
seccomp.install(kernel, hidden={{hidden}})
calls = seccomp.CALLS[os.uname().machine]
def attempt(name, *arguments):
    result = kernel.libc.syscall(calls[name], *map(kernel.ctypes.c_long, arguments))
    return errno.errorcode.get(kernel.ctypes.get_errno()) if result == -1 else result
"""


def ask(expression: str, *, hidden: bool = True) -> object:
    """What an expression is in a filtered process."""
    script = FILTERED.replace("{hidden}", str(hidden)) + f"print(json.dumps({expression}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200, check=True)
    return json.loads(done.stdout)


def test_what_is_never_allowed_is_refused() -> None:
    refused = ask("{name: attempt(name, 0, 0, 0, 0, 0) for name in seccomp.NEVER}")
    assert refused == dict.fromkeys(seccomp.NEVER, "EPERM")


def test_process_one_is_out_of_reach() -> None:
    assert ask("[attempt(name, 1, 0, 0, 0) for name in seccomp.ON_INIT]") == ["EPERM"] * len(seccomp.ON_INIT)
    upper_half = "attempt('kill', (1 << 32) + 1, 0)"  # the kernel reads a pid's lower half
    assert ask(f"[attempt('kill', 1, 0), attempt('kill', os.getpid(), 0), {upper_half}]") == ["EPERM", 0, "EPERM"]


def test_certain_arguments_are_refused() -> None:
    asked = "[attempt(name, *[0] * argument, value) for name, argument, value in seccomp.CERTAIN]"
    assert ask(asked) == ["EPERM"] * len(seccomp.CERTAIN)


@pytest.mark.parametrize("flag", [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000])
def test_no_flag_of_clone_makes_a_namespace(flag: int) -> None:
    assert ask(f"attempt('clone', {flag} | 17, 0, 0, 0, 0)") == "EPERM"


def test_programs_fork_start_threads_and_run_programs() -> None:
    assert ask("os.waitpid(os.fork() or os._exit(7), 0)[1] >> 8") == 7
    assert ask("[thread.start() or thread.join() for thread in [threading.Thread(target=print)]]") == [None]
    assert ask("subprocess.run([sys.executable, '-c', ''], check=False).returncode") == 0


def test_in_sight_of_the_harness_a_program_signals_itself_alone() -> None:
    assert ask("[attempt('kill', pid, 0) for pid in (os.getppid(), -1, 1)]", hidden=False) == ["EPERM"] * 3
    assert ask("[attempt('kill', pid, 0) for pid in (os.getpid(), 0)]", hidden=False) == [0, 0]
    assert ask("attempt('prlimit64', 0, 3, 0, 0)", hidden=False) == 0
    assert ask("attempt('prlimit64', os.getppid(), 3, 0, 0)", hidden=False) == "EPERM"


@pytest.mark.parametrize("machine", sorted(seccomp.CALLS))
@pytest.mark.parametrize("alone", [None, 7])
def test_every_jump_lands_inside_the_filter(machine: str, alone: int | None) -> None:
    program = list(seccomp.program(machine, alone))
    for at, instruction in enumerate(program):
        assert at + 1 + max(instruction.if_true, instruction.if_false) < len(program) or at + 1 == len(program)
    assert program[-1].operand == seccomp.ALLOW
