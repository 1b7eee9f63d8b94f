"""The filter of a candidate that has no user of its own: system calls by which it could reach past itself are refused.

Without privilege there is one user to be, the keeper's. Namespaces hide everything of that user's but the zygote, which
is the first process of the candidate's pid namespace; gVisor, unlike Linux, lets anybody kill that. So the filter
refuses every call that acts upon process 1, that makes a namespace or a mount, that inspects another process, or that
makes an object which outlives its maker. It is inherited by forks and kept through exec (seccomp(2), bpf(4)).

Where not even namespaces are to be had (a container under runc, whose default profile refuses them), the harness is in
sight as well. There a program may signal itself and its process group alone.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from stages.execute.inside import wall

PR_SET_SECCOMP, MODE_FILTER = 22, 2
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, REFUSE, ABSENT = 0x7FFF0000, 0x00050000 | 1, 0x00050000 | 38
"""Run it; fail with EPERM; fail with ENOSYS, upon which the C library takes the older call."""
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
"""Offsets in `struct seccomp_data`; each argument has eight bytes, the lower four first."""
X32 = 0x40000000
"""Numbers from here on are a second table of the same calls on x86-64."""
INIT = 1
F_SETOWN, F_SETSIG, F_SETOWN_EX, FIOSETOWN, SIOCSPGRP = 8, 10, 15, 0x8901, 0x8902
NEW_NAMESPACES = 0x7E020000

NEVER = (
    "ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_open", "pidfd_send_signal", "pidfd_getfd",
    "unshare", "setns", "mount", "umount2", "pivot_root", "chroot", "move_mount", "fsopen", "fsmount",
    "mount_setattr", "shmget", "semget", "msgget", "mq_open", "add_key", "request_key", "keyctl", "bpf",
    "perf_event_open", "userfaultfd", "io_uring_setup",
)  # fmt: skip
"""Refused whatever the arguments."""
ON_INIT = (
    "kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "prlimit64", "sched_setaffinity",
    "sched_setscheduler", "sched_setparam", "sched_setattr",
)  # fmt: skip
"""Refused where the first argument is process 1, or in sight of the harness anybody but the caller."""
CERTAIN = (
    ("setpriority", 1, INIT),
    ("ioprio_set", 1, INIT),
    # A descriptor's owner is sent a signal of the setter's choice.
    ("fcntl", 1, F_SETOWN),
    ("fcntl", 1, F_SETSIG),
    ("fcntl", 1, F_SETOWN_EX),
    ("ioctl", 1, FIOSETOWN),
    ("ioctl", 1, SIOCSPGRP),
)
"""Call, argument, value: refused together."""

_LATER = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "move_mount": 429, "fsopen": 430, "fsmount": 432,
    "pidfd_open": 434, "clone3": 435, "pidfd_getfd": 438, "mount_setattr": 442,
}  # fmt: skip
"""Numbers that all architectures share."""
CALLS = {
    "x86_64": _LATER | {
        "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "unshare": 272, "setns": 308,
        "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "shmget": 29, "semget": 64, "msgget": 68,
        "mq_open": 240, "add_key": 248, "request_key": 249, "keyctl": 250, "bpf": 321, "perf_event_open": 298,
        "userfaultfd": 323, "kill": 62, "tkill": 200, "tgkill": 234, "rt_sigqueueinfo": 129,
        "rt_tgsigqueueinfo": 297, "prlimit64": 302, "sched_setaffinity": 203, "sched_setscheduler": 144,
        "sched_setparam": 142, "sched_setattr": 314, "setpriority": 141, "ioprio_set": 251, "fcntl": 72, "ioctl": 16,
        "clone": 56,
    },
    "aarch64": _LATER | {
        "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272, "unshare": 97, "setns": 268,
        "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "shmget": 194, "semget": 190, "msgget": 186,
        "mq_open": 180, "add_key": 217, "request_key": 218, "keyctl": 219, "bpf": 280, "perf_event_open": 241,
        "userfaultfd": 282, "kill": 129, "tkill": 130, "tgkill": 131, "rt_sigqueueinfo": 138,
        "rt_tgsigqueueinfo": 240, "prlimit64": 261, "sched_setaffinity": 122, "sched_setscheduler": 119,
        "sched_setparam": 118, "sched_setattr": 274, "setpriority": 140, "ioprio_set": 30, "fcntl": 25, "ioctl": 29,
        "clone": 220,
    },
}  # fmt: skip
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


class Instruction(NamedTuple):
    """One of classic BPF: operation, how many to skip if true and if false, operand."""

    code: int
    if_true: int
    if_false: int
    operand: int


def known() -> bool:
    """Whether there is a filter for this machine's architecture."""
    return os.uname().machine in CALLS


def install(kernel: wall.Kernel, hidden: bool = True) -> None:
    """Put the filter on this process, for ever. It must have no_new_privs. Raises OSError where the kernel refuses.

    `hidden` tells that the process sees none but its own, and the first of their pid namespace.
    """
    instructions = list(program(os.uname().machine, None if hidden else os.getpid()))
    code = b"".join(struct.pack("<HBBI", *instruction) for instruction in instructions)
    ctypes = kernel.ctypes
    buffer = ctypes.create_string_buffer(code, len(code))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(instructions), ctypes.addressof(buffer)))
    unsigned = ctypes.c_ulong
    kernel.call("prctl", PR_SET_SECCOMP, unsigned(MODE_FILTER), header, unsigned(0), unsigned(0))


def program(machine: str, alone: int | None = None) -> Iterator[Instruction]:
    """The filter for an architecture. A call of any other one is refused. `alone` is the one process it may act on."""
    calls = CALLS[machine]
    yield Instruction(LOAD, 0, 0, ARCHITECTURE)
    yield from _answer(Instruction(EQUAL, 1, 0, AUDIT[machine]), REFUSE)
    yield Instruction(LOAD, 0, 0, NUMBER)
    if machine == "x86_64":
        yield from _answer(Instruction(AT_LEAST, 0, 1, X32), REFUSE)
    yield from _answer(Instruction(EQUAL, 0, 1, calls["clone3"]), ABSENT)
    for name in NEVER:
        yield from _answer(Instruction(EQUAL, 0, 1, calls[name]), REFUSE)
    yield from _if_argument(calls["clone"], 0, Instruction(ANY_BIT, 0, 1, NEW_NAMESPACES))
    for name in ON_INIT:
        if alone is None:
            yield from _if_argument(calls[name], 0, Instruction(EQUAL, 0, 1, INIT))
        else:
            yield from _unless_on(calls[name], alone)
    for name, argument, value in CERTAIN:
        yield from _if_argument(calls[name], argument, Instruction(EQUAL, 0, 1, value))
    yield Instruction(RETURN, 0, 0, ALLOW)


def _answer(test: Instruction, answer: int) -> Iterator[Instruction]:
    """Return the answer where the test does not skip it."""
    yield test
    yield Instruction(RETURN, 0, 0, answer)


def _if_argument(number: int, argument: int, test: Instruction) -> Iterator[Instruction]:
    """Refuse this call where its argument passes the test; the number is loaded again for what follows."""
    yield Instruction(EQUAL, 0, 4, number)
    yield Instruction(LOAD, 0, 0, ARGUMENTS + 8 * argument)
    yield from _answer(test, REFUSE)
    yield Instruction(LOAD, 0, 0, NUMBER)


def _unless_on(number: int, process: int) -> Iterator[Instruction]:
    """Refuse this call unless it acts on the caller (0: on its group, or itself) or on this process."""
    yield Instruction(EQUAL, 0, 5, number)
    yield Instruction(LOAD, 0, 0, ARGUMENTS)
    yield Instruction(EQUAL, 2, 0, 0)
    yield from _answer(Instruction(EQUAL, 1, 0, process), REFUSE)
    yield Instruction(LOAD, 0, 0, NUMBER)
