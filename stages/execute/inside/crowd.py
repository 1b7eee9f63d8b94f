"""The processes of one candidate taken together: how many there may be, and how much memory they may hold.

Per-process limits do not bound a sum. RLIMIT_NPROC bounds the number on Linux but is not enforced by gVisor, whose pids
cgroup is; the memory is watched from outside, by user.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal

from stages.execute.inside import wall

CGROUPS = "/tmp/pids"
INHERITED = 24 << 20
"""What a fork has of the zygote without having asked for it; gVisor does not tell it from the process's own."""
PAGE = resource.getpagesize()


def limit_number(kernel: wall.Kernel, processes: int) -> str | None:
    """Under gVisor: a pids cgroup for everything the calling process will fork; returns the file that a member is
    written to.
    """
    try:
        os.makedirs(CGROUPS, exist_ok=True)
        if not os.path.exists(f"{CGROUPS}/candidates"):
            kernel.mount("none", CGROUPS, "cgroup", 0, "pids")
            os.mkdir(f"{CGROUPS}/candidates")
        with open(f"{CGROUPS}/candidates/pids.max", "w") as file:
            file.write(str(processes))
    except OSError:
        return None
    return f"{CGROUPS}/candidates/cgroup.procs"


def pids_of(user: int) -> list[int]:
    """The processes of a user."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}").st_uid == user:
                    found.append(int(name))
    return found


def memory_of(pids: list[int]) -> int:
    """Bytes that the processes hold for themselves: resident, without what they share with a file or a parent's
    mapping.
    """
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError, ValueError), open(f"/proc/{pid}/statm") as file:
            fields = file.read().split()
            total += max(0, (int(fields[1]) - int(fields[2])) * PAGE - INHERITED)
    return total


def kill(pids: list[int]) -> None:
    """SIGKILL to each."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
