"""The object store: one small interface, and the folder behind it. S3 is in `s3.py`, loaded when it is asked for.

Keys are `/`-separated and relative to the store's root. Two kinds of write, and no third:

- `put_if_absent` for small records: the first writer wins, for ever, and later ones learn that they lost;
- `upload` for data whose key carries its SHA-256: writing it twice writes the same bytes, so no condition is needed.

Not here: listing order beyond lexicographic, renames, partial writes. A reader never sees half an object.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from stages.contract.errors import UsageError

CHUNK_BYTES = 1 << 20
Moved = Callable[[int], None]
"""Told of every so many bytes that have been moved, from any thread."""
STAGED = ".staged-"
"""How files begin that are not objects yet."""
NO_HARD_LINKS = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


class Entry(NamedTuple):
    """What a listing tells of an object."""

    key: str
    size: int
    """Bytes."""
    modified: float
    """Seconds since the epoch, by the store's clock."""


class Leftover(NamedTuple):
    """What a writer that was killed left of an object that is not there: pieces, or a file under another name."""

    key: str
    """Of the object, or of the folder it was to be in."""
    name: str
    """What tells it from others of the key; the store's own business."""
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
        """Yield each once what keys that start with `prefix` have next up to a slash; what is below is not listed."""
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
        """Yield what killed writers, and those still at work, have begun of keys that start with `prefix`."""

    @abstractmethod
    def discard(self, leftover: Leftover) -> None:
        """Remove a leftover; nothing happens when it is gone."""

    def get(self, key: str) -> bytes:
        """Return a small object whole; `KeyError` when there is none."""
        return b"".join(self.stream(key))

    def local_path(self, key: str) -> Path | None:
        """Return where the object or folder lies on this machine, or None for a remote store."""
        return None


class LocalStore(Store):
    """A folder. Objects appear by `link`, which is atomic and refuses to overwrite."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.uri = str(self.root)

    def stream(self, key: str) -> Iterator[bytes]:
        try:
            with open(self._path(key), "rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise KeyError(key) from None

    def get(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise KeyError(key) from None

    def put_if_absent(self, key: str, data: bytes) -> bool:
        with self._staged(key) as (staged, target):
            staged.write_bytes(data)
            return self._publish(staged, target)

    def upload(self, key: str, path: Path, moved: Moved = lambda _: None) -> None:
        with self._staged(key) as (staged, target):
            shutil.copyfile(path, staged)
            _sync(staged)
            staged.replace(target)
            _sync(target.parent)
            moved(target.stat().st_size)

    def scan(self, prefix: str) -> Iterator[Entry]:
        check_prefix(prefix)
        start = self.root / prefix.rpartition("/")[0]
        found: list[str] = []
        for folder, _, names in os.walk(start, onerror=_unless_missing):
            base = Path(folder).relative_to(self.root)
            found += [(base / name).as_posix() for name in names if not name.startswith(STAGED)]
        for key in sorted(key for key in found if key.startswith(prefix)):
            with suppress(FileNotFoundError):  # deleted since
                status = _status(self.root / key)
                yield Entry(key, status.st_size, status.st_mtime)

    def folders(self, prefix: str) -> Iterator[str]:
        check_prefix(prefix)
        folder, _, start = prefix.rpartition("/")
        try:
            found = [path for path in (self.root / folder).iterdir() if path.is_dir()]
        except (FileNotFoundError, NotADirectoryError):
            return
        for path in found:
            if path.name.startswith(start) and _has_objects(path):
                yield path.name.removeprefix(start)

    def size(self, key: str) -> int | None:
        path = self._path(key)
        return path.stat().st_size if path.is_file() else None

    def delete(self, key: str) -> None:
        path = self._path(key)
        if path.is_file():
            path.unlink(missing_ok=True)

    def leftovers(self, prefix: str) -> Iterator[Leftover]:
        check_prefix(prefix)
        start = self.root / prefix.rpartition("/")[0]
        for path in sorted(start.rglob(f"{STAGED}*")):
            folder = path.parent.relative_to(self.root).as_posix()
            with suppress(FileNotFoundError):  # published since
                if f"{folder}/".startswith(prefix):
                    yield Leftover(folder, path.name, path.stat().st_mtime)

    def discard(self, leftover: Leftover) -> None:
        (self._path(leftover.key) / leftover.name).unlink(missing_ok=True)

    def local_path(self, key: str) -> Path | None:
        return self._path(key)

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def _staged(self, key: str) -> _Staged:
        return _Staged(self._path(key))

    def _publish(self, staged: Path, target: Path) -> bool:
        _sync(staged)
        try:
            os.link(staged, target)
        except FileExistsError:
            return self._is_mine(staged, target)
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
            raise UsageError(
                f"store {self.uri}: its file system has no hard links, and without them the first writer cannot be "
                "told; use another folder or s3://bucket/prefix"
            ) from error
        _sync(target.parent)
        return True

    def _is_mine(self, staged: Path, target: Path) -> bool:
        """Whether an object that was there already is this call's: over NFS a request whose reply was lost is sent
        again and meets its own success (link(2), BUGS). What is believed to be there from here on, is on the disk.
        """
        _sync(target.parent)
        try:
            return staged.samefile(target)
        except FileNotFoundError:  # deleted since
            return False


class _Staged:
    """A temporary name beside the target, removed whatever happens."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __enter__(self) -> tuple[Path, Path]:
        _make_folder(self.target.parent)
        handle, name = tempfile.mkstemp(prefix=STAGED, dir=self.target.parent)
        os.close(handle)
        os.chmod(name, 0o644)
        self.staged = Path(name)
        return self.staged, self.target

    def __exit__(self, *_: object) -> None:
        self.staged.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each on the disk before anything is in it."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync(folder.parent)


def check_key(key: str) -> str:
    """Return a proper key, such as `runs/a/spec.json`; `ValueError` for one that leaves the store or has two names."""
    if "\0" in key or any(name in ("", ".", "..") for name in key.split("/")):
        raise ValueError(f"key {key!r} leaves the store or is not in its plainest form")
    return key


def check_prefix(prefix: str) -> None:
    """Refuse a prefix of keys that leaves the store, as `check_key` does."""
    if prefix:
        check_key(prefix.removesuffix("/"))


def _has_objects(folder: Path) -> bool:
    return any(not name.startswith(STAGED) for _, _, names in os.walk(folder) for name in names)


def _status(path: Path) -> os.stat_result:
    """Return the file's status, that of the link itself where links go round: who reads it is told."""
    try:
        return path.stat()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return path.lstat()


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error


def _sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_store(uri: str) -> Store:
    """Return the store at `uri`: `s3://bucket[/prefix]`, `file:///folder` or a folder's path."""
    scheme = urlsplit(uri).scheme
    if scheme == "s3":
        if not urlsplit(uri).netloc:
            raise UsageError(f"store {uri!r} names no bucket; write s3://bucket/prefix")
        from stages.contract.s3 import S3Store

        return S3Store(uri)
    if not uri:
        raise UsageError(f"store {uri!r} names no place; use a folder or s3://bucket/prefix")
    if scheme not in ("", "file"):
        raise UsageError(f"store {uri!r}: unknown scheme {scheme!r}; use a folder or s3://bucket/prefix")
    if scheme == "file" and not uri.startswith("file:///"):
        raise UsageError(f"store {uri!r}: write file:///folder with three slashes")
    return LocalStore(_folder(uri))


def _folder(uri: str) -> Path:
    try:
        root = Path(uri.removeprefix("file://")).expanduser()
    except RuntimeError:
        raise UsageError(f"store {uri!r}: there is no home folder of that name; write the whole path") from None
    if root.exists() and not root.is_dir():
        raise UsageError(f"store {uri!r} is a file; name a folder")
    return root
