"""The object store: local folder and S3 behind one small interface. The only home of boto3.

Keys are `/`-separated and relative to the store's root. Two kinds of write, and no third:

- `put_if_absent` for small records: the first writer wins, for ever, and later ones learn that they lost;
- `upload` for data whose key carries its SHA-256: writing it twice writes the same bytes, so no condition is needed.

Not here: listing order beyond lexicographic, renames, partial writes. A reader never sees half an object.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import tempfile
import textwrap
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from stages.contract.errors import StoreError, UsageError

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

CHUNK_BYTES = 1 << 20
CONFLICT_TRIES = 5
STREAM_TRIES = 4
LOST = ("PreconditionFailed", "412")
CONFLICT = ("ConditionalRequestConflict", "409")
REFUSED = (
    "AccessDenied",
    "403",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
)
WRONG_ADDRESS = ("AuthorizationHeaderMalformed", "InvalidBucketName", "PermanentRedirect")
NO_HARD_LINKS = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)

_CONNECTING = threading.Lock()
"""Clients are thread-safe; making one from boto3's shared session is not."""


class Entry(NamedTuple):
    """What a listing tells of an object."""

    key: str
    size: int
    """Bytes."""
    modified: float
    """Seconds since the epoch, by the store's clock."""


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
    def upload(self, key: str, path: Path) -> None:
        """Write a file under a key that names its content; replaces a damaged object of that key."""

    @abstractmethod
    def scan(self, prefix: str) -> Iterator[Entry]:
        """Yield every object whose key starts with `prefix`, in lexicographic order of the keys."""

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys that start with `prefix`, in lexicographic order."""
        return (entry.key for entry in self.scan(prefix))

    @abstractmethod
    def size(self, key: str) -> int | None:
        """Return the object's size in bytes, or None when there is none."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; nothing happens when there is none. For control objects and garbage only."""

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

    def put_if_absent(self, key: str, data: bytes) -> bool:
        with self._staged(key) as (staged, target):
            staged.write_bytes(data)
            return self._publish(staged, target)

    def upload(self, key: str, path: Path) -> None:
        with self._staged(key) as (staged, target):
            shutil.copyfile(path, staged)
            _sync(staged)
            staged.replace(target)
            _sync(target.parent)

    def scan(self, prefix: str) -> Iterator[Entry]:
        _check_prefix(prefix)
        start = self.root / prefix.rpartition("/")[0]
        found: list[str] = []
        for folder, _, names in os.walk(start, onerror=_unless_missing):
            base = Path(folder).relative_to(self.root)
            found += [(base / name).as_posix() for name in names if not name.startswith(".staged-")]
        for key in sorted(key for key in found if key.startswith(prefix)):
            with suppress(FileNotFoundError):  # deleted since
                status = (self.root / key).stat()
                yield Entry(key, status.st_size, status.st_mtime)

    def size(self, key: str) -> int | None:
        path = self._path(key)
        return path.stat().st_size if path.is_file() else None

    def delete(self, key: str) -> None:
        path = self._path(key)
        if path.is_file():
            path.unlink(missing_ok=True)

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
            return False
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
            raise UsageError(
                f"store {self.uri}: its file system has no hard links, and without them the first writer cannot be "
                "told; use another folder or s3://bucket/prefix"
            ) from error
        _sync(target.parent)
        return True


class _Staged:
    """A temporary name beside the target, removed whatever happens."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __enter__(self) -> tuple[Path, Path]:
        self.target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".staged-", dir=self.target.parent)
        os.close(handle)
        os.chmod(name, 0o644)
        self.staged = Path(name)
        return self.staged, self.target

    def __exit__(self, *_: object) -> None:
        self.staged.unlink(missing_ok=True)


class S3Store(Store):
    """A bucket prefix. Credentials, region, profile and endpoint are found the way boto3 finds them.

    `s3://bucket/prefix?endpoint_url=http://host:port` names an S3-compatible server in the URI itself.
    """

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        self.uri = uri
        self.bucket, self.prefix = parts.netloc, parts.path.strip("/")
        self.root = f"{self.prefix}/" if self.prefix else ""
        options = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        endpoint = options.pop("endpoint_url", None)
        if options or parts.fragment:
            raise UsageError(f"store {uri!r}: the only option is ?endpoint_url=http://host:port; drop the rest")
        self.client = self._connect(endpoint)

    def stream(self, key: str) -> Iterator[bytes]:
        from botocore.exceptions import BotoCoreError

        sent, tries = 0, STREAM_TRIES
        while tries:
            # boto3 repeats requests, not replies that break off: a checkpoint's goes on where it stopped.
            start: Any = {"Range": f"bytes={sent}-"} if sent else {}
            with self._explained(key):
                answer = self.client.get_object(Bucket=self.bucket, Key=self._full(key), **start)
                try:
                    with closing(answer["Body"]) as body:
                        for chunk in body.iter_chunks(CHUNK_BYTES):
                            sent += len(chunk)
                            yield chunk
                        return
                except BotoCoreError:
                    tries -= 1
                    if not tries:
                        raise

    def put_if_absent(self, key: str, data: bytes) -> bool:
        from botocore.exceptions import ClientError

        writer = secrets.token_hex(16)
        for attempt in range(CONFLICT_TRIES):
            try:
                with self._explained(key, passing=(*LOST, *CONFLICT)):
                    self.client.put_object(
                        Bucket=self.bucket,
                        Key=self._full(key),
                        Body=data,
                        Metadata={"writer": writer},
                        IfNoneMatch="*",
                    )
                return True
            except ClientError as error:
                # A lost reply makes boto3's own retry meet its own success, so ask whose object is there. After a
                # conflict there may be none: the other writer can still fail.
                if (winner := self._writer(key)) is not None:
                    return winner == writer
                if _code(error) in CONFLICT:
                    time.sleep(0.05 * 2**attempt)
        raise StoreError(f"store {self.uri}: {key} is being written by another; try again")

    def upload(self, key: str, path: Path) -> None:
        with self._explained(key), open(path, "rb") as file:
            self.client.upload_fileobj(file, self.bucket, self._full(key))

    def scan(self, prefix: str) -> Iterator[Entry]:
        _check_prefix(prefix)
        pages = self.client.get_paginator("list_objects_v2")
        with self._explained(prefix):
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.root + prefix):
                for item in page.get("Contents", ()):
                    yield Entry(item["Key"].removeprefix(self.root), item["Size"], item["LastModified"].timestamp())

    def size(self, key: str) -> int | None:
        # Not HEAD: its answers carry no body, so a missing bucket would look like a missing key.
        full = self._full(key)
        with self._explained(key):
            page = self.client.list_objects_v2(Bucket=self.bucket, Prefix=full, MaxKeys=1)
        return next((item["Size"] for item in page.get("Contents", ()) if item["Key"] == full), None)

    def delete(self, key: str) -> None:
        with self._explained(key):
            self.client.delete_object(Bucket=self.bucket, Key=self._full(key))

    def _connect(self, endpoint: str | None) -> S3Client:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        retries: Any = {"mode": "standard"}
        if "AWS_MAX_ATTEMPTS" not in os.environ:
            retries["max_attempts"] = 6
        config = Config(connect_timeout=10, retries=retries)
        try:
            with _CONNECTING:
                return boto3.client("s3", endpoint_url=endpoint, config=config)
        except (BotoCoreError, ValueError) as error:
            raise UsageError(f"store {self.uri}: {_line(error)}; correct the endpoint or the AWS settings") from error

    def _full(self, key: str) -> str:
        return self.root + check_key(key)

    def _writer(self, key: str) -> str | None:
        """Return who wrote the object, "" where it does not say, or None when there is none."""
        try:
            with self._explained(key):
                head = self.client.head_object(Bucket=self.bucket, Key=self._full(key))
        except KeyError:
            return None
        return head["Metadata"].get("writer", "")

    @contextmanager
    def _explained(self, key: str, *, passing: tuple[str, ...] = ()) -> Iterator[None]:
        """Turn boto3's errors into ours, except those whose code is `passing`."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            if _code(error) in passing:
                raise
            raise self._explain(error, key) from error
        except BotoCoreError as error:
            raise self._explain(error, key) from error

    def _explain(self, error: Exception, key: str) -> Exception:
        code, kind = _code(error), type(error).__name__
        if code in ("NoSuchKey", "404"):
            return KeyError(key)
        if code == "NoSuchBucket":
            return UsageError(f"store {self.uri}: no bucket {self.bucket!r}; create it or correct --store")
        if code in REFUSED:
            return UsageError(f"store {self.uri}: {code} on {key!r}; check the credentials and the policy")
        if code in WRONG_ADDRESS or kind == "ParamValidationError":
            return UsageError(f"store {self.uri}: {_line(error)}; correct --store or the AWS region")
        if kind in ("NoCredentialsError", "PartialCredentialsError"):
            return UsageError(f"store {self.uri}: {_line(error)}; set AWS credentials or a profile")
        return StoreError(f"store {self.uri}: {key}: {_line(error)}")


def check_key(key: str) -> str:
    """Return a proper key, such as `runs/a/spec.json`; `ValueError` for one that leaves the store or has two names."""
    if "\0" in key or any(name in ("", ".", "..") for name in key.split("/")):
        raise ValueError(f"key {key!r} leaves the store or is not in its plainest form")
    return key


def _check_prefix(prefix: str) -> None:
    if prefix:
        check_key(prefix.removesuffix("/"))


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


def _code(error: Exception) -> str:
    answer: Any = getattr(error, "response", {})
    return str(answer.get("Error", {}).get("Code", ""))


def _line(error: Exception) -> str:
    return textwrap.shorten(str(error), 160, placeholder=" ...")


def open_store(uri: str) -> Store:
    """Return the store at `uri`: `s3://bucket[/prefix]`, `file:///folder` or a folder's path."""
    scheme = urlsplit(uri).scheme
    if scheme == "s3":
        if not urlsplit(uri).netloc:
            raise UsageError(f"store {uri!r} names no bucket; write s3://bucket/prefix")
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
