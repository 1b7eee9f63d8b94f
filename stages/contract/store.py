"""The object store: local folder and S3 behind one small interface. The only home of boto3.

Keys are `/`-separated and relative to the store's root. Two kinds of write, and no third:

- `put_if_absent` for small records: the first writer wins, for ever, and later ones learn that they lost;
- `upload` for data whose key carries its SHA-256: writing it twice writes the same bytes, so no condition is needed.

Not here: listing order beyond lexicographic, renames, partial writes. A reader never sees half an object.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qs, urlsplit

from stages.contract.errors import StoreError, UsageError

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

CHUNK_BYTES = 1 << 20


class Store(ABC):
    """Verbs every store has. `KeyError` for a missing key, `StoreError` when the store itself fails."""

    uri: str

    @abstractmethod
    def stream(self, key: str) -> Iterator[bytes]:
        """Yield the object in chunks of at most `CHUNK_BYTES`; `KeyError` when there is none."""

    @abstractmethod
    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write a small object unless the key exists; return whether this call wrote it."""

    @abstractmethod
    def upload(self, key: str, path: Path) -> None:
        """Write a file under a key that names its content."""

    @abstractmethod
    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys that start with `prefix`, in lexicographic order."""

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
        if self.size(key) == path.stat().st_size:
            return
        with self._staged(key) as (staged, target):
            shutil.copyfile(path, staged)
            self._publish(staged, target)

    def list(self, prefix: str) -> Iterator[str]:
        start = self.root / prefix.rpartition("/")[0]
        found: list[str] = []
        for folder, _, names in os.walk(start):
            base = Path(folder).relative_to(self.root)
            found += [key for name in names if (key := (base / name).as_posix()).startswith(prefix)]
        yield from sorted(key for key in found if not Path(key).name.startswith(".staged-"))

    def size(self, key: str) -> int | None:
        try:
            return self._path(key).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def local_path(self, key: str) -> Path | None:
        return self._path(key)

    def _path(self, key: str) -> Path:
        path = self.root / key
        if ".." in Path(key).parts or path.is_absolute() != self.root.is_absolute() or key.startswith("/"):
            raise ValueError(f"key {key!r} leaves the store")
        return path

    def _staged(self, key: str) -> _Staged:
        return _Staged(self._path(key))

    @staticmethod
    def _publish(staged: Path, target: Path) -> bool:
        with open(staged, "rb") as file:
            os.fsync(file.fileno())
        try:
            os.link(staged, target)
        except FileExistsError:
            return False
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
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
        import boto3
        from botocore.config import Config

        parts = urlsplit(uri)
        self.uri = uri
        self.bucket, self.prefix = parts.netloc, parts.path.strip("/")
        self.root = f"{self.prefix}/" if self.prefix else ""
        endpoint = parse_qs(parts.query).get("endpoint_url", [None])[0]
        retries: Any = {"mode": "standard", "max_attempts": 6}
        self.client: S3Client = boto3.client("s3", endpoint_url=endpoint, config=Config(retries=retries))

    def stream(self, key: str) -> Iterator[bytes]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            body = self.client.get_object(Bucket=self.bucket, Key=self.root + key)["Body"]
            yield from body.iter_chunks(CHUNK_BYTES)
        except (ClientError, BotoCoreError) as error:
            self._refuse(error, key)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self.client.put_object(Bucket=self.bucket, Key=self.root + key, Body=data, IfNoneMatch="*")
        except ClientError as error:
            # 409: another conditional write of this key is in flight and may still fail, so ask who won.
            if error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict", "412", "409"):
                return self._lost_to_another(key, data)
            self._refuse(error, key)
        except BotoCoreError as error:
            self._refuse(error, key)
        return True

    def upload(self, key: str, path: Path) -> None:
        from boto3.exceptions import S3UploadFailedError
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self.client.upload_file(str(path), self.bucket, self.root + key)
        except (ClientError, BotoCoreError, S3UploadFailedError) as error:
            self._refuse(error, key)

    def list(self, prefix: str) -> Iterator[str]:
        from botocore.exceptions import BotoCoreError, ClientError

        pages = self.client.get_paginator("list_objects_v2")
        try:
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.root + prefix):
                yield from (item["Key"].removeprefix(self.root) for item in page.get("Contents", ()))
        except (ClientError, BotoCoreError) as error:
            self._refuse(error, prefix)

    def size(self, key: str) -> int | None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return self.client.head_object(Bucket=self.bucket, Key=self.root + key)["ContentLength"]
        except ClientError as error:
            if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
                return None
            self._refuse(error, key)
        except BotoCoreError as error:
            self._refuse(error, key)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=self.root + key)

    def _lost_to_another(self, key: str, data: bytes) -> bool:
        """Whether the object that is there is this writer's own: a lost reply makes a retry meet its own success."""
        try:
            return self.get(key) == data
        except KeyError:
            raise StoreError(f"{self.uri}: {key} is being written by another; try again") from None

    def _refuse(self, error: Exception, key: str) -> NoReturn:
        code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
        if code in ("NoSuchKey", "404"):
            raise KeyError(key) from None
        if code == "NoSuchBucket":
            raise UsageError(f"store {self.uri}: no bucket {self.bucket!r}; create it or correct --store") from error
        if code in ("AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch"):
            raise UsageError(f"store {self.uri}: {code} on {key}; check the credentials and the policy") from error
        if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"):
            raise UsageError(f"store {self.uri}: {error}; set AWS credentials or a profile") from error
        raise StoreError(f"store {self.uri}: {key}: {error}") from error


def open_store(uri: str) -> Store:
    """Return the store at `uri`: `s3://bucket[/prefix]`, `file:///folder` or a folder's path."""
    scheme = urlsplit(uri).scheme
    if scheme == "s3":
        if not urlsplit(uri).netloc:
            raise UsageError(f"store {uri!r} names no bucket; write s3://bucket/prefix")
        return S3Store(uri)
    if scheme not in ("", "file"):
        raise UsageError(f"store {uri!r}: unknown scheme {scheme!r}; use a folder or s3://bucket/prefix")
    root = Path(uri.removeprefix("file://")).expanduser()
    if root.exists() and not root.is_dir():
        raise UsageError(f"store {uri!r} is a file; name a folder")
    return LocalStore(root)
