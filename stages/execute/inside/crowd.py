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


def limit_number(kernel: wall.Kernel, processes: int) -> bool:
    """Under gVisor: put this process, and all it will fork, into a pids cgroup. Returns whether that could be done.

    The mount must be in a namespace of this process: the candidates' root leaves it behind.
    """
    group = f"{CGROUPS}/candidates-{os.getpid()}"
    try:
        os.makedirs(CGROUPS, exist_ok=True)
        kernel.mount("none", CGROUPS, "cgroup", 0, "pids")
        os.makedirs(group, exist_ok=True)
        for name, value in (("pids.max", processes), ("cgroup.procs", os.getpid())):
            with open(f"{group}/{name}", "w") as file:
                file.write(str(value))
    except OSError:
        return False
    return True


def pids_of(user: int) -> list[int]:
    """The processes of a user."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}").st_uid == user:
                    found.append(int(name))
    return found


def pids_below(ancestor: int) -> list[int]:
    """The processes that descend from one, children excepted: a guard's only child is a zygote, below it candidates."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError), open(f"/proc/{name}/stat") as file:
                parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
    found: list[int] = []
    generation = {pid for pid, parent in parents.items() if parent == ancestor}
    while generation := {pid for pid, parent in parents.items() if parent in generation}:
        found += generation
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
