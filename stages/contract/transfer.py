"""Many objects at once between the store and this machine, every byte of them hashed."""

from __future__ import annotations

import hashlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TypeVar

from stages.contract.artifacts import DataObject
from stages.contract.errors import ArtifactError, StoreError
from stages.contract.store import Moved, Store

T = TypeVar("T")
U = TypeVar("U")
WORKERS = 16
"""Small objects on their way at once: their time is the store's round trip."""
LARGE_WORKERS = 2
"""Large objects at once: so many cores hash, and so many objects have pieces in memory."""
SMALL_BYTES = 8 << 20
"""Up to this, an object may be in memory whole; above, it is moved in pieces."""
READ_TRIES = 3
"""Of a small object that comes altered: the fault may be the way's."""

TELL_SECONDS = 5.0
"""Between two words about a transfer, and before the first: what is quick needs none."""
UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))

Damaged = Callable[[str], ArtifactError]
"""Makes the error for what is wrong with an object, with the remedy."""
Watch = Callable[[str, int], Moved]
"""Told what begins, as `uploading iterations/0001/checkpoint`, and its bytes; returns who is told how it goes on."""


def unwatched(what: str, size: int) -> Moved:
    """Watch nothing."""
    return lambda _: None


class Meter:
    """Adds up the bytes that threads have moved; calls `tell(done, total)` at most every `seconds`."""

    def __init__(self, total: int, tell: Callable[[int, int], None], seconds: float = TELL_SECONDS) -> None:
        self.total, self.tell, self.seconds = total, tell, seconds
        self._done, self._told, self._lock = 0, time.monotonic(), threading.Lock()

    def __call__(self, count: int) -> None:
        """Count so many bytes more."""
        with self._lock:
            self._done += count
            done, now = self._done, time.monotonic()
            if now - self._told < self.seconds:
                return
            self._told = now
        self.tell(done, self.total)


def amount(done: int, total: int) -> str:
    """Return how many bytes of how many, in the unit of the larger: `1.2/4.9 GB`."""
    size, unit = next(((size, unit) for size, unit in UNITS if total >= size), (1, "B"))
    return f"{done / size:.1f}/{total / size:.1f} {unit}" if size > 1 else f"{done}/{total} B"


def side_by_side(move: Callable[[T], U], things: Sequence[T], sizes: Sequence[int]) -> list[U]:
    """Return what `move` makes of each thing, in order: `WORKERS` small ones at a time beside `LARGE_WORKERS` large."""
    if len(things) < 2:
        return [move(thing) for thing in things]
    with ThreadPoolExecutor(LARGE_WORKERS) as few, ThreadPoolExecutor(WORKERS) as many:
        pools = [few if size > SMALL_BYTES else many for size in sizes]
        waiting = [pool.submit(move, thing) for pool, thing in zip(pools, things, strict=True)]
        try:
            return [each.result() for each in waiting]
        finally:
            for each in waiting:
                each.cancel()


def verified(store: Store, key: str, item: DataObject, damaged: Damaged) -> Iterator[bytes]:
    """Yield an object's bytes: of a small one verified bytes only; a large one is verified by its last chunk, and so
    before any caller commits what it made of them.

    Bytes with another SHA-256 are read again. If they are right then, they were altered on the way: a small object is
    yielded, a large one raises `StoreError`, since its first bytes are used already. Otherwise the stored object is
    damaged, and `damaged` makes the error.
    """
    if item.size <= SMALL_BYTES:
        yield _small(store, key, item, damaged)
        return
    digest = hashlib.sha256()
    for chunk in _chunks(store, key, damaged):
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() == item.sha256:
        return
    again, _ = digest_of(_chunks(store, key, damaged))
    if again == item.sha256:
        raise StoreError(f"{key} was altered on its way from the store; try again")
    raise damaged(_differs(key, again, item))


def download(
    store: Store, key: str, item: DataObject, path: Path, damaged: Damaged, moved: Moved = lambda _: None
) -> None:
    """Write the object to `path` unless it is there; processes that share a scratch folder may do so together."""
    if fault(item, path) is None:
        moved(item.size)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".staged-", delete=False) as file:
        staged = Path(file.name)
        try:
            for chunk in verified(store, key, item, damaged):
                file.write(chunk)
                moved(len(chunk))
        except BaseException:
            staged.unlink()
            raise
    staged.chmod(0o644)  # temporary files are their owner's alone
    staged.replace(path)


def fault(item: DataObject, path: Path, moved: Moved = lambda _: None) -> str | None:
    """Return what is wrong with a local copy of the object, or None."""
    if not path.is_file():
        return f"{path} is missing"
    sha256, size = digest_file(path)
    moved(size)
    return None if sha256 == item.sha256 else _differs(str(path), sha256, item)


def reread(
    read: Callable[[], T],
    is_good: Callable[[T], bool] = lambda _: True,
    faults: tuple[type[Exception], ...] = (ArtifactError,),
) -> T:
    """Return what `read` makes of a small object; one that comes altered is read again, since its way may be at fault.

    What is advised about damage, to delete it, must not be said of an object that the store holds as it was written.
    The last try's result is returned, and its error raised, whatever it is.
    """
    for _ in range(READ_TRIES - 1):
        with suppress(*faults):
            if is_good(found := read()):
                return found
    return read()


def settled(read: Callable[[], bytes]) -> bytes:
    """Return a small object that is listed and has no checksum of its own, as two reads gave it alike."""
    seen: list[bytes] = []

    def is_known(data: bytes) -> bool:
        seen.append(hashlib.sha256(data).digest())
        return seen[-1] in seen[:-1]

    return reread(read, is_known, (KeyError,))


def begun(store: Store, key: str) -> Iterator[bytes]:
    """Return the chunks of an object that is known to be there, the first read already; `KeyError` when it is not.

    Some servers take a while to know what they have just been given, and are asked again.
    """

    def read() -> Iterator[bytes]:
        chunks = store.stream(key)
        return chain((next(chunks, b""),), chunks)

    return reread(read, faults=(KeyError,))


def digest_file(path: Path) -> tuple[str, int]:
    """Return a file's SHA-256 and size."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()


def digest_of(chunks: Iterable[bytes]) -> tuple[str, int]:
    """Return the SHA-256 and the number of the bytes."""
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines, without their ends."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
    if rest:
        yield rest


def _small(store: Store, key: str, item: DataObject, damaged: Damaged) -> bytes:
    def read() -> tuple[str, bytes]:
        data = b"".join(_chunks(store, key, damaged))
        return hashlib.sha256(data).hexdigest(), data

    found, data = reread(read, lambda each: each[0] == item.sha256, ())
    if found != item.sha256:
        raise damaged(_differs(key, found, item))
    return data


def _chunks(store: Store, key: str, damaged: Damaged) -> Iterator[bytes]:
    try:
        yield from begun(store, key)
    except KeyError:
        raise damaged(f"{key} is named in an index but not in the store") from None


def _differs(what: str, found: str, item: DataObject) -> str:
    return f"{what}: SHA-256 is {found[:12]}, not {item.sha256[:12]}"
