"""A conversation partner of the referee: a process that a zygote forked for it, and the clock both run against."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from types import FrameType

from stages.execute.inside import wire
from stages.execute.inside.keeper import CLOCK, OVERUSE

REFIRE_SECONDS = 0.05
"""Tests that swallow the end of their time meet it again this soon."""


class Lane:
    """A child of a zygote and the socket to it."""

    def __init__(self, zygote: Zygote, role: str, shared: bool, output_bytes: int) -> None:
        self.zygote = zygote
        self.alone = role == "candidate" and not shared
        zygote.channel.send({"op": "fork", "role": role, "shared": shared})
        text, descriptors, _, _ = socket.recv_fds(zygote.channel.sock, 4096, 2)
        if len(descriptors) != 2:
            raise wire.Closed
        self.pid: int = json.loads(text)["pid"]
        self.sock = socket.socket(fileno=descriptors[0])
        self.output = descriptors[1]
        self.channel = wire.Channel(self.sock, self._wait if self.alone else None)
        self.room = output_bytes
        self.programs = 0

    def _wait(self) -> None:
        """Until the socket can be read; what the candidate writes meanwhile is counted and forgotten."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        poll.register(self.output, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if ready.get(self.output, 0) & select.POLLIN:
                self.room -= len(os.read(self.output, 65536))
                if self.room < 0:
                    raise wire.Overflow
            elif self.output in ready:
                poll.unregister(self.output)
            elif ready:
                return

    def bury(self) -> int | None:
        """Kill it and what it left; returns its wait status."""
        self.sock.close()
        os.close(self.output)
        self.zygote.channel.send({"op": "kill", "pid": self.pid, "alone": self.alone})
        status: int | None = self.zygote.channel.receive()[0]["status"]
        return status


class Zygote:
    """The referee's end of the socket to a zygote."""

    def __init__(self, descriptor: int) -> None:
        self.channel = wire.Channel(socket.socket(fileno=descriptor))


class Expired(BaseException):
    """The program's time is over."""


class Clock:
    """The time limit of one program: an alarm here, and a deadline that the keeper watches."""

    def __init__(self, descriptor: int) -> None:
        self.page = mmap.mmap(descriptor, mmap.PAGESIZE)
        self.running = False
        self.rang = False
        signal.signal(signal.SIGALRM, self._ring)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if self.running:
            self.rang = True
            raise Expired

    def overused(self, job: int) -> bool:
        """Whether the keeper ended this program for its memory."""
        return bool(OVERUSE.unpack_from(self.page, CLOCK.size)[0] == job)

    @contextlib.contextmanager
    def watched(self, seconds: float, job: int) -> Iterator[None]:
        """Past the time the keeper kills this process inside the block."""
        # Job numbers begin anew with each batch: what is written there may be about an earlier one of that number.
        OVERUSE.pack_into(self.page, CLOCK.size, -1)
        CLOCK.pack_into(self.page, 0, time.monotonic() + seconds, job)
        try:
            yield
        finally:
            CLOCK.pack_into(self.page, 0, 0.0, 0)

    @contextlib.contextmanager
    def limit(self, seconds: float, job: int) -> Iterator[None]:
        """Raises Expired inside the block once the time is over, or at its end if the block swallowed that."""
        self.running, self.rang = True, False
        try:
            with self.watched(seconds, job):
                signal.setitimer(signal.ITIMER_REAL, seconds, REFIRE_SECONDS)
                yield
        finally:
            self.running = False
            signal.setitimer(signal.ITIMER_REAL, 0)
        if self.rang:
            raise Expired
