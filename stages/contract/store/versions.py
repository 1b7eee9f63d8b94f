"""Buckets that keep versions, on a server that forgets the condition of a write there: Ceph's gateway (16.2) writes
each version under a name of its own, finds nothing under that name, and lets every writer win.

Versioning can be turned on at any time, so that a run which began safely goes on unsafely. The answer to a write tells
whether the bucket keeps versions, and so the first such answer in each process is proven: one request more.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from stages.contract.errors import UsageError

if TYPE_CHECKING:
    from stages.contract.store.s3 import S3Store

PROOFS = 2
"""Writes that win after one that has won: the first may owe it to somebody who has deleted the object."""


class Versions:
    """What is known of the versions of a bucket."""

    def __init__(self, store: S3Store) -> None:
        self.store = store
        self._is_proven = False

    def write(self, key: str, write: Callable[[], Any]) -> None:
        """Write an object by a conditional `write`, once more where its answer is of a bucket with versions.

        `UsageError` when that wins too: then all that was written here is removed again.
        """
        made = [write().get("VersionId", "")]
        if self._is_proven or not made[0]:
            return
        for _ in range(PROOFS):
            try:
                made.append(write().get("VersionId", ""))
            except ClientError:
                self._is_proven = True
                return
        self._take_back(key, made)
        raise UsageError(
            f"store {self.store.uri}: its bucket keeps versions, and its server lets every writer win there (it "
            "ignores If-None-Match); suspend the versioning, or add ?settle=10 to the address (docs/protocol.md)"
        )

    def _take_back(self, key: str, made: list[str]) -> None:
        where: Any = {"Bucket": self.store.bucket, "Key": self.store.root + key}
        for version in reversed([each for each in made if each]):
            with suppress(Exception):
                self.store.client.delete_object(**where, VersionId=version)
