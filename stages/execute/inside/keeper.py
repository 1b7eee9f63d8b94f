"""The keeper: first process inside the sandbox. Starts the zygotes and the referee, and watches the referee's clock.

Tests are arbitrary Python and a value they get from a candidate may send them into a loop that no signal handler
interrupts. So the referee writes its deadline into shared memory, and the keeper kills and replaces a referee that is
past it.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import resource
import select
import signal
import socket
import struct
import time
from typing import Any

from stages.execute.inside import crowd, seccomp, wall, wire

CLOCK = struct.Struct("<dq")
"""Shared memory: monotonic deadline of the program that is judged (0: none) and its job number."""
OVERUSE = struct.Struct("<q")
"""Behind the clock: the job whose processes were killed because together they held too much memory (-1: none)."""
TICK_SECONDS = 0.05
GRACE_SECONDS = 0.15
REFEREE_MIB = 2048
BESIDE = 4
"""Processes that share a candidate's pids limit: guard, zygote, parser, and one that is being buried."""


def main(config: dict[str, Any]) -> None:
    """Run until the referee ends by itself, which it does when the judge closes its end of the pipe."""
    kernel = wall.Kernel()
    config["clock"] = _shared_page()
    first = True
    while _one_life(kernel, config, first):
        first = False


def _one_life(kernel: wall.Kernel, config: dict[str, Any], first: bool) -> bool:
    """Zygotes and a referee, until the referee ends. True where they must be replaced, which is always done together:
    a referee that was cut off leaves conversations with its zygotes unfinished.
    """
    config = {**config, "sockets": {}, "walls": []}
    guards = []
    for name in ("own", "shared"):
        ours, theirs = socket.socketpair()
        guard, walls = _start_zygote(kernel, {**config, "sockets": {"control": theirs.fileno()}})
        theirs.close()
        config["sockets"][name], config["walls"] = ours.detach(), walls
        guards.append(guard)
    if first:
        wire.write_frame(1, {"ready": config["walls"]})
    again = _keep_referee(config, guards[0])
    for socket_number in config["sockets"].values():
        os.close(socket_number)
    for guard in guards:
        os.kill(guard, signal.SIGKILL)
        os.waitpid(guard, 0)
    return again


def _shared_page() -> int:
    page = os.memfd_create("clock", 0)
    os.truncate(page, mmap.PAGESIZE)
    return page


def execute(role: str, config: dict[str, Any], keep: list[int]) -> None:
    """Replace this process by a fresh interpreter in `role`: isolated mode, no site, empty environment."""
    for descriptor in keep:
        os.set_inheritable(descriptor, True)
    start = f"import sys; sys.path.append({config['home']!r}); from stages.execute.inside.__main__ import main; main()"
    command = [config["python"], *config["flags"], "-c", start, role, json.dumps(config)]
    os.execve(config["python"], command, {"PYTHONHASHSEED": "0"})


def _start_zygote(kernel: wall.Kernel, config: dict[str, Any]) -> tuple[int, list[str]]:
    """Start a zygote behind the inner wall; returns its guard's pid and the parts of the wall that stand."""
    reader, writer = os.pipe()
    guard = os.fork()
    if guard == 0:
        try:
            _guard_zygote(kernel, config, writer)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as report:
        walls = json.loads(report.readline() or "null")
    if walls is None:
        raise SystemExit("the inner wall could not be set up")
    return guard, walls


def _guard_zygote(kernel: wall.Kernel, config: dict[str, Any], report: int) -> None:
    """Between the keeper and a zygote: enters the namespaces, of which a pid namespace begins with its child."""
    with contextlib.suppress(OSError):
        wall.die_with_parent(kernel)
    walls = wall.separate(kernel)
    if config["gvisor"] and "mount" in walls and crowd.limit_number(kernel, config["limits"]["processes"] + BESIDE):
        walls.append("pids")
    child = os.fork()
    if child == 0:
        try:
            _enter_zygote(kernel, config, walls, report)
        finally:
            os._exit(1)
    os.close(report)
    os.closerange(3, 4096)
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _enter_zygote(kernel: wall.Kernel, config: dict[str, Any], walls: list[str], report: int) -> None:
    with contextlib.suppress(OSError):
        wall.die_with_parent(kernel)
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    if "ipc" in walls:
        wall.forbid_sysv()
    if "mount" in walls and config["root"]:
        try:
            wall.enter_root(kernel, config["root"], config["limits"]["file_mib"] + 16)
            config["home"] = config["home_in_root"]
            walls.append("root")
        except OSError as error:
            walls.append(f"no root: {error}")
    is_root = os.geteuid() == 0 and "user" not in walls
    if is_root:
        walls.append("uid")
    elif seccomp.known():
        walls.append("seccomp")
    wall.give_up_privilege(kernel, keep_root=is_root)
    os.write(report, json.dumps(walls).encode() + b"\n")
    config["walls"] = walls
    execute("zygote", config, [config["sockets"]["control"]])


def _keep_referee(config: dict[str, Any], guard: int) -> bool:
    """One life of a referee; `guard` is above the candidates that run alone. True where another must follow because a
    test had it stuck.
    """
    pid = os.fork()
    if pid == 0:
        try:
            _become_referee(config)
        finally:
            os._exit(1)
    with mmap.mmap(config["clock"], mmap.PAGESIZE) as page:
        CLOCK.pack_into(page, 0, 0.0, 0)
        OVERUSE.pack_into(page, CLOCK.size, -1)
        # Asked for no event, poll still reports that the judge's end is closed: also that of a judge that was killed.
        judge = select.poll()
        judge.register(0, 0)
        while True:
            finished, _ = os.waitpid(pid, os.WNOHANG)
            if finished:
                # Also where it lost a zygote, and with it a program: the judge tries that again in a new sandbox.
                return False
            stuck = _look(page, config, guard)
            if stuck is not None or judge.poll(TICK_SECONDS * 1000):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                if stuck is not None:
                    wire.write_frame(1, {"job": stuck, "stuck": True})
                return stuck is not None


def _look(page: mmap.mmap, config: dict[str, Any], guard: int) -> int | None:
    """One look at the program that is being judged. Returns its job number where the referee is past its deadline."""
    deadline, job = CLOCK.unpack_from(page)
    now = time.monotonic()
    if not deadline:
        return None
    if now > deadline + GRACE_SECONDS:
        return int(job)
    limits = config["limits"]
    if deadline - now < limits["timeout_seconds"] - TICK_SECONDS:
        pids = crowd.pids_of(config["uid"] + 1) if "uid" in config["walls"] else crowd.pids_below(guard)
        if len(pids) > 1 and crowd.memory_of(pids) > limits["memory_mib"] << 20:
            OVERUSE.pack_into(page, CLOCK.size, job)
            crowd.kill(pids)
    return None


def _become_referee(config: dict[str, Any]) -> None:
    wall.limit(resource.RLIMIT_AS, REFEREE_MIB << 20)
    wall.limit(resource.RLIMIT_CORE, 0)
    execute("referee", config, [*config["sockets"].values(), config["clock"]])
