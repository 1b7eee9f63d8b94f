"""A store in a folder of this machine, or of a network file system that has `link`.

Objects are staged under another name, synced and linked to their own, so that nobody sees half of one.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from stages.contract.errors import UsageError
from stages.contract.store.verbs import CHUNK_BYTES, Entry, Leftover, Moved, Store, check_key, check_prefix

STAGED = ".staged-"
"""How files begin that are not objects yet."""
NO_HARD_LINKS = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


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
