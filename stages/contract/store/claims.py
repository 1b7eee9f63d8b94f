"""Writing only what is not there, on a server that has no condition for it.

Reading and writing alone cannot make two writers agree (Herlihy, "Wait-free synchronization", 1991), so this takes a
bound on time instead: Fischer's protocol (Lamport, "A fast mutual exclusion algorithm", 1987, section 2), with an
object in the place of the shared variable.

1. A writer that finds no object and no claim beside it writes its claim, `KEY.claim`, over whatever else is there.
2. It waits `settle` seconds. Whoever saw no claim before it wrote has written by now, and so shows in its place.
3. Where the claim is still its own, it looks again that there is no object, writes it, and sets the claim free.

A writer that took longer than half of `settle` from its look to its claim, by its own clock, does not trust the claim
and starts again: a process that was held up loses its turn, not the object. A claim that stands unchanged for `LEASES`
times `settle` is of a dead writer. What remains: a writer that wins and is then held up for longer than that, between
its last look at its clock and the arrival of its object, replaces what another has written meanwhile; who reads the
object later finds it to be another than its lineage says. So `settle` is to be longer than any pause of a process and
any delay of a request that the cluster knows.
"""

from __future__ import annotations

import random
import secrets
import time
from typing import Protocol

from stages.contract.errors import UsageError

LEASES = 6
"""After so many times `settle` without a change a claim is of a dead writer."""
LOOKS = 4
"""How often in `settle` seconds a writer looks whether another has come to an end."""
SUFFIX = ".claim"
FREE = "free"


class Plain(Protocol):
    """What the server can do."""

    def writer(self, key: str) -> str | None:
        """Return the name an object was written with, or None when there is no object."""

    def put(self, key: str, data: bytes, writer: str) -> None:
        """Write an object, over any that is there."""


class Clock(Protocol):
    """The part of the module `time` that is asked."""

    def monotonic(self) -> float:
        """Return seconds."""

    def sleep(self, seconds: float, /) -> None:
        """Wait."""


class Claims:
    """The first writer wins, as long as nobody is held up for longer than `settle` seconds allow."""

    def __init__(self, server: Plain, settle: float, clock: Clock = time) -> None:
        self.server, self.settle, self.clock = server, settle, clock

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object unless there is one; return whether this call wrote it. Takes `settle` seconds or more."""
        while self.server.writer(key) is None:
            name, looked = secrets.token_hex(16), self._wait_until_free(key)
            if self._is_mine(key, name, looked):
                self.server.put(key, data, name)
                won = self.server.writer(key) == name
                if won:  # else the claim may be another's by now
                    self.server.put(key + SUFFIX, b"", FREE)
                return won
            self.clock.sleep(random.uniform(0, self.settle))  # not in step with the others
        return False

    def _wait_until_free(self, key: str) -> float:
        """Return when nobody claims the key, or who does has been dead for long, or there is an object: the time just
        before the look that told so.
        """
        known: str | None = FREE
        since = 0.0
        while True:
            looked = self.clock.monotonic()
            holder = self.server.writer(key + SUFFIX)
            if holder in (None, FREE) or (holder == known and looked - since > LEASES * self.settle):
                return looked
            if holder != known:
                known, since = holder, self.clock.monotonic()
            if self.server.writer(key) is not None:
                return looked
            self.clock.sleep(self.settle / LOOKS)

    def _is_mine(self, key: str, name: str, looked: float) -> bool:
        """Claim the key; return whether nobody else has, there is no object yet, and no time was lost."""
        if self.server.writer(key) is not None:
            return False
        self.server.put(key + SUFFIX, b"", name)
        if self.clock.monotonic() - looked > self.settle / 2:
            return False
        self.clock.sleep(self.settle)
        holder = self.server.writer(key + SUFFIX)
        if holder == "":
            raise UsageError(f"{key}: the server keeps no metadata, by which writers would agree; use another store")
        is_mine = holder == name and self.server.writer(key) is None
        return is_mine and self.clock.monotonic() - looked < LEASES / 2 * self.settle
