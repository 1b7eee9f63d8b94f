"""Where the local backend's stages come from: processes of their own, or forks of one that has their libraries.

Importing torch and transformers takes seconds of every unit, more than a small unit's work. `stages.nursery` does it
once; its forks are sessions of their own with their own logs and exit codes, so nothing else changes. On a machine with
accelerators it is not used, because a driver's state does not survive a fork, nor with `LETI_NURSERY=0`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from leti_ctl.backends.local.death import die_with_parent

FORKED = frozenset({"stages.prepare", "stages.generate", "stages.build", "stages.train", "stages.evaluate"})
"""Not `execute`: what starts model-written code starts from nothing."""
ACCELERATORS = ("/proc/driver/nvidia", "/dev/kfd", "/dev/accel0", "/dev/vfio")
VARIABLE = "LETI_NURSERY"
POLL_SECONDS = 0.05
PADDING = "." * 4096
"""Room for the arguments of a stage, see `stages.nursery`."""


class Process(Protocol):
    """What the driver needs of a started stage; `subprocess.Popen` has it."""

    pid: int

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code; `subprocess.TimeoutExpired` after so many seconds."""


class Forked:
    """A stage that the nursery started."""

    def __init__(self, pid: int, nursery: Nursery) -> None:
        self.pid, self._nursery = pid, nursery

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        return self._nursery.code_of(self.pid)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code; `subprocess.TimeoutExpired` after so many seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            time.sleep(POLL_SECONDS)
        return code


class Nursery:
    """The process that stages are forked from. Gone, for whatever reason, it takes its stages along."""

    def __init__(self) -> None:
        mine, its = socket.socketpair()
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        line = [sys.executable, "-m", "stages.nursery", str(its.fileno()), PADDING]
        with its:
            self._process = subprocess.Popen(
                line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
                pass_fds=(its.fileno(),), start_new_session=True, preexec_fn=die_with_parent,
            )  # fmt: skip
        self._socket, self._read = mine, b""
        self._codes: dict[int, int | None] = {}
        self._new: list[int] = []
        self.alive = True

    @property
    def has_served(self) -> bool:
        """Whether it ever started a stage."""
        return bool(self._codes)

    def start(self, line: Sequence[str], log: Path, environment: Mapping[str, str]) -> Forked | None:
        """Start a stage, once the libraries are there; None when the nursery is gone."""
        order = {"line": list(line), "log": str(log), "environment": dict(environment)}
        try:
            self._socket.sendall(json.dumps(order).encode() + b"\n")
        except OSError:
            self._lose()
        while self.alive and not self._new:
            self._hear(wait=True)
        return Forked(self._new.pop(0), self) if self._new else None

    def code_of(self, pid: int) -> int | None:
        """Return a stage's exit code; None while it runs."""
        if self.alive and self._codes[pid] is None:
            self._hear(wait=False)
        return self._codes[pid]

    def close(self) -> None:
        """End the nursery; a stage that still runs is asked to stop."""
        self.alive = False
        self._socket.close()
        self._process.terminate()
        self._process.wait()

    def _hear(self, *, wait: bool) -> None:
        try:
            data = self._socket.recv(1 << 16, 0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        *lines, self._read = (self._read + data).split(b"\n")
        for message in map(json.loads, lines):
            if "started" in message:
                self._codes[message["started"]] = None
                self._new.append(message["started"])
            else:
                self._codes[message["ended"]] = os.waitstatus_to_exitcode(message["status"])

    def _lose(self) -> None:
        """The nursery is gone and nobody can tell how its stages end: end them, to be tried again."""
        self.alive = False
        for pid, code in self._codes.items():
            if code is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
                self._codes[pid] = -signal.SIGKILL


_nursery: Nursery | None = None


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Keep one nursery for everything that is driven meanwhile; without this each run has its own."""
    global _nursery
    if _nursery is not None or not _is_wanted():
        yield
        return
    _nursery = Nursery()
    try:
        yield
    finally:
        if _nursery is not None:
            _nursery.close()
        _nursery = None


def start(line: Sequence[str], log: Path, environment: Mapping[str, str]) -> Process:
    """Start `python -m LINE` in a session of its own, its output to `log`, which exists; it ends when this one does."""
    global _nursery
    if _nursery is not None and line[0] in FORKED:
        forked = _nursery.start(line, log, environment)
        if forked is not None:
            return forked
        # One that served and was killed is replaced; one that never came up would not the next time either.
        _nursery.close()
        _nursery = Nursery() if _nursery.has_served else None
    with open(log, "ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", *line], stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=dict(environment),
            start_new_session=True, preexec_fn=die_with_parent,
        )  # fmt: skip


def _is_wanted() -> bool:
    wanted = os.environ.get(VARIABLE)
    if wanted is not None:
        return wanted != "0"
    return sys.platform == "linux" and not any(os.path.exists(path) for path in ACCELERATORS)
