"""A store that waits for its turn before each operation, and broken protocols on it: each must be found, or the tests
that find nothing wrong with the real one prove nothing.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

from stages.contract.store import Entry, Leftover, Moved, Store

PARTS = 3


class Killed(BaseException):
    """What ends a writer between two operations; no handler of ours catches it."""


class Turns(Store):
    """A store that waits for its turn before each operation."""

    def __init__(self, inner: Store) -> None:
        self.inner, self.uri = inner, inner.uri
        self.go: queue.Queue[bool] = queue.Queue()
        self.arrived: queue.Queue[bool] = queue.Queue()

    def wait(self) -> Store:
        self.arrived.put(True)
        if not self.go.get(timeout=60):
            raise Killed
        return self.inner

    def stream(self, key: str) -> Iterator[bytes]:
        return self.wait().stream(key)

    def get(self, key: str) -> bytes:
        return self.wait().get(key)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return self.wait().put_if_absent(key, data)

    def upload(self, key: str, path: Path, moved: Moved = lambda _: None) -> None:
        self.wait().upload(key, path)

    def scan(self, prefix: str) -> Iterator[Entry]:
        return iter(list(self.wait().scan(prefix)))

    def size(self, key: str) -> int | None:
        return self.wait().size(key)

    def delete(self, key: str) -> None:
        self.wait().delete(key)

    def leftovers(self, prefix: str) -> Iterator[Leftover]:
        return self.wait().leftovers(prefix)

    def discard(self, leftover: Leftover) -> None:
        self.wait().discard(leftover)


class LastWins(Turns):
    """A later writer replaces a record."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        inner = self.wait()
        inner.delete(key)
        return inner.put_if_absent(key, data)


class LooksThenWrites(Turns):
    """Whether a record is there is asked before it is written, not as it is."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        if self.wait().size(key) is not None:
            return False
        inner = self.wait()
        inner.delete(key)
        return inner.put_if_absent(key, data)


class LoserBelievesItWon(Turns):
    """Nobody is told that another was first."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return super().put_if_absent(key, data) or True


class RecordBeforeData(Turns):
    """The part is announced before its bytes are there."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.late: list[tuple[str, Path]] = []

    def upload(self, key: str, path: Path, moved: Moved = lambda _: None) -> None:
        self.late.append((key, path))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        won = super().put_if_absent(key, data)
        while self.late:
            super().upload(*self.late.pop())
        return won


class IndexBeforeRecord(Turns):
    """The index is written before the last part that it names."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.late: dict[str, bytes] = {}

    def get(self, key: str) -> bytes:
        return self.late[key] if key in self.late else super().get(key)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        if "/parts/" in key and self.wait().size(key) is None:
            self.late[key] = data
            return True
        return super().put_if_absent(key, data)

    def scan(self, prefix: str) -> Iterator[Entry]:
        found = list(super().scan(prefix))
        if self.late and len({entry.key for entry in found} | set(self.late)) < PARTS:
            self.flush()
        return iter(found)

    def flush(self) -> None:
        for key in list(self.late):
            super().put_if_absent(key, self.late.pop(key))


class UploadInHalves(Turns):
    """Data appears bit by bit."""

    def upload(self, key: str, path: Path, moved: Moved = lambda _: None) -> None:
        half = path.with_name(f"half-{path.name}")
        half.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        super().upload(key, half)
        super().upload(key, path)


class LoserTidiesUp(Turns):
    """Who was not first takes its data away, which may be the winner's: equal bytes have one key."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.mine: list[str] = []

    def upload(self, key: str, path: Path, moved: Moved = lambda _: None) -> None:
        super().upload(key, path)
        self.mine.append(key)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        won = super().put_if_absent(key, data)
        if not won and "/parts/" in key:
            for each in self.mine:
                self.delete(each)
        return won


BROKEN = [
    LastWins,
    LooksThenWrites,
    LoserBelievesItWon,
    RecordBeforeData,
    IndexBeforeRecord,
    UploadInHalves,
    LoserTidiesUp,
]
