"""The object store: `open_store` gives the one at an address, and `Store` is what every one of them can do.

| module | what it is |
|---|---|
| `verbs` | the interface: two kinds of write, a stream, a listing; what a key may be |
| `address` | URIs of stores and of what lies in them |
| `folder` | a folder of this machine |
| `s3` | a bucket; with boto3, which is imported when one is asked for |
| `options`, `client` | what its address says, and the boto3 client that follows from it |
| `gcs`, `claims` | writing only what is not there: on Google's servers, and on those that have no condition for it |
| `versions` | noticing a server that forgets its condition in a bucket with versions |
| `multipart`, `pieces`, `crt` | large objects in, large objects out, and both by the AWS Common Runtime |
| `wire`, `connection`, `signing`, `listing` | small objects and listings without boto3's machinery |
| `retry` | which faults another try may cure, how long to wait, what to tell the user |
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from stages.contract.errors import UsageError
from stages.contract.store.folder import LocalStore
from stages.contract.store.verbs import CHUNK_BYTES, Entry, Leftover, Moved, Store

__all__ = ["CHUNK_BYTES", "Entry", "Leftover", "LocalStore", "Moved", "Store", "open_store"]


def open_store(uri: str) -> Store:
    """Return the store at `uri`: `s3://bucket[/prefix]`, `file:///folder` or a folder's path."""
    scheme = urlsplit(uri).scheme
    if scheme == "s3":
        if not urlsplit(uri).netloc:
            raise UsageError(f"store {uri!r} names no bucket; write s3://bucket/prefix")
        from stages.contract.store.s3 import S3Store

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
