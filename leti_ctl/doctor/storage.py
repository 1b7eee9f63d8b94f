"""The store: reachable, writable, readable, and honest about who wrote first."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator

from leti_ctl.doctor.report import Check, Finding, Subject, fail, ok
from stages.contract.store import Store, open_store

PREFIX = "doctor/"
TELL = "leti's commit protocol needs If-None-Match on PutObject: use AWS S3, GCS, MinIO or Ceph, or add ?settle=10"


def store(subject: Subject) -> Iterator[Finding]:
    """Write a probe, write it again, list, read and delete it."""
    opened = open_store(subject.store_uri)
    folder = opened.local_path("doctor")
    if folder is not None and subject.profile is not None:
        yield fail(f"{opened.uri} is a folder of this machine, which no pod sees", "use --store s3://bucket/prefix")
        return
    is_new = folder is not None and not folder.parent.exists()
    key = f"{PREFIX}probe-{secrets.token_hex(8)}"
    try:
        yield probe(opened, key)
    finally:
        opened.delete(key)
        with contextlib.suppress(OSError):
            for made in (folder, folder.parent)[: 1 + is_new] if folder else ():
                made.rmdir()
    if opened.size(key) is not None:
        yield fail(f"{opened.uri}: {key} is still there after it was deleted", "allow DeleteObject under doctor/")


def probe(opened: Store, key: str) -> Finding:
    """Return what a store makes of a new key; the caller deletes it."""
    first, second = b"first", b"second"
    if not opened.put_if_absent(key, first):
        return fail(f"{opened.uri}: a new key was refused as if it existed", TELL)
    if opened.put_if_absent(key, second) or opened.get(key) != first:
        return fail(f"{opened.uri}: a second conditional write replaced the first", TELL)
    if key not in list(opened.list(PREFIX)):
        return fail(
            f"{opened.uri}: an object that was written is not listed", "allow ListBucket; use a consistent store"
        )
    how = "its writers wait for one another (settle)" if "settle=" in opened.uri else "conditional writes hold"
    return ok(f"{opened.uri}: writable; {how}, the first writer wins")


CHECKS = (Check("store", store, 60.0),)
