"""The zygote: first process of its namespaces, forks the processes that handle model-written text, and buries them.

It never reads such text itself. Its master is the referee, over a socket:

    {"op": "fork", "role": "candidate" | "parser", "shared": bool}  ->  {"pid"} with the child's socket and output pipe
    {"op": "kill", "pid": n}  ->  {"status"}: the wait status; null where it was already gone
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import signal
import socket
import sys
import time
from types import ModuleType
from typing import Any

from stages.execute.inside import candidate, parser, seccomp, wall, wire

PRELOADED = (
    "math",
    "re",
    "collections",
    "itertools",
    "functools",
    "heapq",
    "bisect",
    "string",
    "operator",
    "copy",
    "random",
)
"""Imported once before any fork: what most solutions import. Each further module makes every fork dearer under gVisor.
"""

SCRATCH = "/tmp"
ROOM_SECONDS = 2.0
OTHERS = 256
"""Processes and threads that a pod has beside one candidate's, at most."""


def main(config: dict[str, Any]) -> None:
    """Serve until the referee's end of the socket closes."""
    for name in PRELOADED:
        __import__(name)
    sock = socket.socket(fileno=config["sockets"]["control"])
    _close_other_descriptors(sock.fileno())
    gc.collect()
    gc.freeze()
    zygote = Zygote(sock, config, {"candidate": candidate, "parser": parser})
    try:
        while True:
            zygote.serve()
    except wire.Closed:
        zygote.end()


def _close_other_descriptors(keep: int) -> None:
    os.closerange(3, keep)
    os.closerange(keep + 1, 4096)


class Zygote:
    """Forks children and buries them."""

    def __init__(self, sock: socket.socket, config: dict[str, Any], roles: dict[str, ModuleType]) -> None:
        self.sock = sock
        self.channel = wire.Channel(sock)
        self.config = config
        self.roles = roles
        self.filters = "seccomp" in config["walls"]
        self.kernel = wall.Kernel() if config["gvisor"] or self.filters else None
        """gVisor has no limit on System V objects, so each candidate gets an IPC namespace of its own there, or a
        filter that refuses them.
        """
        self.children: set[int] = set()
        self.owns_everybody = "pid" in config["walls"] and os.getpid() == 1
        """True where this is the first process of a pid namespace of its own: only then may it kill whatever it sees.
        """
        if self.kernel is not None:
            self.kernel.prctl(wall.PR_SET_DUMPABLE, 0)

    def serve(self) -> None:
        """Answer one request."""
        request, _ = self.channel.receive()
        if request["op"] == "fork":
            self._fork(request)
        else:
            self.channel.send({"status": self._bury(request["pid"], alone=request["alone"])})
            # After the answer: a folder that cannot be emptied ends this zygote, but not the verdict of who left it.
            if request["alone"] and "root" in self.config["walls"]:
                _empty(SCRATCH)

    def end(self) -> None:
        """Take the children along; where there is a pid namespace the kernel does it."""
        for pid in self.children:
            _kill_group(pid)

    def _fork(self, request: dict[str, Any]) -> None:
        ours, theirs = socket.socketpair()
        out, into = os.pipe()
        pid = _fork_once_there_is_room()
        if pid == 0:
            self._become(request, theirs, into)
        self.children.add(pid)
        socket.send_fds(self.sock, [json.dumps({"pid": pid}).encode()], [ours.fileno(), out])
        for descriptor in (ours, theirs):
            descriptor.close()
        os.close(out)
        os.close(into)

    def _become(self, request: dict[str, Any], sock: socket.socket, output: int) -> None:
        """The child's life. It never returns into the zygote's loop."""
        try:
            os.setsid()
            os.dup2(output, 1)
            os.dup2(output, 2)
            _close_other_descriptors(sock.fileno())
            self._restrict(request["role"] == "parser", request["shared"])
            self.roles[request["role"]].main(wire.Channel(sock), self.config, request["shared"])
            os._exit(0)
        finally:
            os._exit(1)

    def _restrict(self, is_parser: bool, shared: bool) -> None:
        limits = self.config["limits"]
        seconds = int(limits["timeout_seconds"]) + 2
        with contextlib.suppress(OSError):
            os.chdir(SCRATCH)
        os.umask(0o077)
        wall.limit(resource.RLIMIT_CORE, 0)
        wall.limit(resource.RLIMIT_AS, limits["memory_mib"] << 20)
        wall.limit(resource.RLIMIT_FSIZE, 0 if shared else limits["file_mib"] << 20)
        wall.limit(resource.RLIMIT_NOFILE, 64)
        wall.limit(resource.RLIMIT_NPROC, self._processes())
        if not shared:
            wall.limit(resource.RLIMIT_CPU, seconds)
            if self.kernel is not None and not self.filters:
                self.kernel.unshare(wall.CLONE_NEWIPC)
        wall.become_user(self.config["uid"] + 1 + is_parser)
        if self.kernel is not None and self.filters:
            seccomp.install(self.kernel, hidden="pid" in self.config["walls"])

    def _processes(self) -> int:
        """RLIMIT_NPROC, which counts a user's processes: those of one candidate only where it has a user of its own, or
        on Linux a user namespace. Elsewhere the pids cgroup is exact, and this only keeps a bomb from filling the pod.
        """
        walls, processes = self.config["walls"], int(self.config["limits"]["processes"])
        exact = "uid" in walls or ("user" in walls and not self.config["gvisor"])
        return processes if exact else processes + OTHERS

    def _bury(self, pid: int, alone: bool) -> int | None:
        """Kill `pid`; with `alone`, also everything else it can have left behind. Returns its wait status."""
        self.children.discard(pid)
        status = None
        if not alone or not self.owns_everybody:
            _kill_group(pid)
            with contextlib.suppress(ChildProcessError):
                status = os.waitpid(pid, 0)[1]
            return status
        finished, code = os.waitpid(pid, os.WNOHANG)
        status = code if finished else None
        while True:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
            try:
                finished, code = os.waitpid(-1, 0)
            except ChildProcessError:
                break
            status = code if finished == pid else status
        return status


def _fork_once_there_is_room() -> int:
    """Fork; what was killed a moment ago counts against the limit until the kernel is done with it."""
    deadline = time.monotonic() + ROOM_SECONDS
    while True:
        try:
            return os.fork()
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _kill_group(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _empty(folder: str) -> None:
    """Remove all that a candidate left. What cannot be removed ends the zygote, and with it the mount that holds it."""
    if not os.listdir(folder):
        return
    import shutil

    sys.setrecursionlimit(20_000)
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
