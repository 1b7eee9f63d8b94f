"""The verbs of every store, and what a key may be.

Keys are `/`-separated and relative to the store's root. Two kinds of write, and no third:

- `put_if_absent` for small records: the first writer wins, for ever, and later ones learn that they lost;
- `upload` for data whose key carries its SHA-256: writing it twice writes the same bytes, so no condition is needed.

Not here: listing order beyond lexicographic, renames, partial writes. A reader never sees half an object.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

CHUNK_BYTES = 1 << 20
Moved = Callable[[int], None]
"""Called with the number of bytes just moved, from any thread."""


class Entry(NamedTuple):
    """What a listing tells of an object."""

    key: str
    size: int
    """Bytes."""
    modified: float
    """Seconds since the epoch, by the store's clock."""


class Leftover(NamedTuple):
    """What a killed writer left of an object that it never completed: uploaded pieces, or a staged file."""

    key: str
    """The object's, or that of the folder it was to be in."""
    name: str
    """What tells it from other leftovers of the key; only the store reads it."""
    modified: float
    """When its writer began, seconds since the epoch."""


class Store(ABC):
    """Verbs every store has.

    `KeyError` for a missing key, `ValueError` for a key that leaves the store, `UsageError` when the store's address,
    account or file system will not do, `StoreError` when another try may help. A folder's own faults stay `OSError`.
    """

    uri: str

    @abstractmethod
    def stream(self, key: str) -> Iterator[bytes]:
        """Yield the object in chunks of at most `CHUNK_BYTES`; `KeyError` when there is none."""

    @abstractmethod
    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write a small object unless the key exists; return whether this call wrote it."""

    @abstractmethod
    def upload(self, key: str, path: Path, moved: Moved = lambda _: None) -> None:
        """Write a file under a key that names its content; replaces a damaged object of that key."""

    @abstractmethod
    def scan(self, prefix: str) -> Iterator[Entry]:
        """Yield every object whose key starts with `prefix`, in lexicographic order of the keys."""

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield, each once, the names between `prefix` and the next slash of the keys that start with it.

        What lies below them is not listed.
        """
        names = (key.removeprefix(prefix).partition("/") for key in self.list(prefix))
        return iter({name: None for name, slash, _ in names if slash})

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys that start with `prefix`, in lexicographic order."""
        return (entry.key for entry in self.scan(prefix))

    @abstractmethod
    def size(self, key: str) -> int | None:
        """Return the object's size in bytes, or None when there is none."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; nothing happens when there is none. For control objects and garbage only."""

    @abstractmethod
    def leftovers(self, prefix: str) -> Iterator[Leftover]:
        """Yield uncompleted writes to keys that start with `prefix`, of killed writers and of those still at work."""

    @abstractmethod
    def discard(self, leftover: Leftover) -> None:
        """Remove a leftover; nothing happens when it is gone."""

    def get(self, key: str) -> bytes:
        """Return a small object whole; `KeyError` when there is none."""
        return b"".join(self.stream(key))

    def has(self, key: str) -> bool:
        """Whether there is a small object, asked for by its key; a size may come from a listing, which may lag."""
        try:
            self.get(key)
        except KeyError:
            return False
        return True

    def local_path(self, key: str) -> Path | None:
        """Return where the object or folder lies on this machine, or None for a remote store."""
        return None


def check_key(key: str) -> str:
    """Return a proper key, such as `runs/a/spec.json`; `ValueError` for one that leaves the store or has two names."""
    if "\0" in key or any(name in ("", ".", "..") for name in key.split("/")):
        raise ValueError(f"key {key!r} leaves the store or is not in its plainest form")
    return key


def check_prefix(prefix: str) -> None:
    """Refuse a prefix of keys that leaves the store, as `check_key` does."""
    if prefix:
        check_key(prefix.removesuffix("/"))
