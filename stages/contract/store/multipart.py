"""Large objects on their way into a bucket, in pieces, several at once.

An object appears when its upload is completed, whole, and never before. Pieces of one that is not are listed nowhere
but among the uploads of the bucket.
"""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from botocore.exceptions import ClientError

from stages.contract.store import retry
from stages.contract.store.verbs import Leftover, Moved
from stages.contract.store.wire import UNSIGNED, Body

if TYPE_CHECKING:
    from stages.contract.store.s3 import S3Store

PIECE_BYTES = 8 << 20
AHEAD = 6
"""Pieces of one object that are on their way at once."""
UPLOAD_TRIES = 3
"""Of a whole upload, where the server has lost it or what was sent of it."""
LOST = ("NoSuchUpload", "NoSuchKey", "InvalidPart", "InvalidPartOrder", "InvalidRequest")
"""Of them the second is what Ceph says of the pieces of an upload that it has not; the last comes where some pieces
have a checksum and some have none: the server has stopped to answer with it.
"""
MOST_PIECES = 10_000
"""Of one upload: a limit of S3. Objects above 80 GB go up in larger pieces."""


class Multipart:
    """The upload of one object, `key` in the store and `full` in the bucket."""

    def __init__(self, store: S3Store, key: str, full: str) -> None:
        self.store, self.key = store, key
        self.where: Any = {"Bucket": store.bucket, "Key": full}

    def upload(self, path: Path, size: int, moved: Moved) -> None:
        """Write a file of `size` bytes; whatever fails, nothing is left of it."""
        for tries_left in reversed(range(UPLOAD_TRIES)):
            try:
                self._upload(path, size, moved)
            except ClientError as error:
                if not tries_left:
                    raise retry.explain(error, self.store.uri, self.key) from error
            else:
                return

    def _upload(self, path: Path, size: int, moved: Moved) -> None:
        client = self.store.client
        self.where.pop("UploadId", None)
        how: Any = {"ChecksumAlgorithm": "CRC32"} if self.store.sums else {}
        begin = lambda: client.create_multipart_upload(**self.where, **how)["UploadId"]  # noqa: E731
        self.where["UploadId"] = self.store.ask(self.key, begin)
        try:
            self._complete(self._send_all(path, size, moved), path, size)
        except BaseException:
            with suppress(Exception):
                client.abort_multipart_upload(**self.where)
            raise

    def _send_all(self, path: Path, size: int, moved: Moved) -> list[Any]:
        """Send every piece; return what completing the upload takes."""
        step = max(PIECE_BYTES, -(-size // MOST_PIECES))
        buffers: SimpleQueue[bytearray] = SimpleQueue()  # used again: fresh memory costs as much as hashing
        for _ in range(AHEAD):
            buffers.put(bytearray(step))
        with ThreadPoolExecutor(AHEAD) as pool, open(path, "rb") as file:

            def send(number: int) -> Any:
                buffer = buffers.get()
                try:
                    count = os.preadv(file.fileno(), [buffer], number * step)
                    sent = self._send(number + 1, memoryview(buffer)[:count])
                    moved(count)
                    return sent
                finally:
                    buffers.put(buffer)

            return list(pool.map(send, range(-(-size // step))))

    def _send(self, number: int, data: memoryview) -> Any:
        if not self.store.sums:
            return {"PartNumber": number, "ETag": self._send_by_boto(number, data, md5(data))["ETag"]}
        checksum = b64encode(zlib.crc32(data).to_bytes(4)).decode()
        known = {"PartNumber": number, "ChecksumCRC32": checksum}
        if etag := self._send_quickly(number, data, checksum):
            return {**known, "ETag": etag}
        how = {"ChecksumAlgorithm": "CRC32", "ChecksumCRC32": checksum}
        answer = self._send_by_boto(number, data, how)
        if answer.get("ChecksumCRC32") != checksum:  # unknown to the server; one of other bytes comes to the same
            self.store.sums = False
            return self._send(number, data)
        return {**known, "ETag": answer["ETag"]}

    def _send_quickly(self, number: int, data: memoryview, checksum: str) -> str | None:
        """Return the ETag of a piece sent without boto3, or None where it must see to it."""
        headers = {"x-amz-checksum-crc32": checksum, "x-amz-sdk-checksum-algorithm": "CRC32"}
        query = f"partNumber={number}&uploadId={quote(self.where['UploadId'], safe='~')}"
        body = Body(data, UNSIGNED)
        answer = self.store.wire.send("PUT", self.where["Key"], headers, self.store.credentials, body, query=query)
        is_verified = answer is not None and answer.headers.get("x-amz-checksum-crc32") == checksum
        return answer.headers.get("etag") if answer and is_verified else None

    def _send_by_boto(self, number: int, data: memoryview, how: Any) -> Any:
        body = bytes(data)
        where = {**self.where, "PartNumber": number}
        send = lambda: self.store.client.upload_part(**where, Body=body, **how)  # noqa: E731
        return self.store.ask(self.key, send, passing=LOST)

    def _complete(self, pieces: list[Any], path: Path, size: int) -> None:
        try:
            self.store.ask(self.key, lambda: self._send_complete(pieces), passing=LOST)
        except ClientError:
            # The reply to a completion that succeeded can be lost, and then there is no such upload any more.
            if not self._is_there(pieces, path, size):
                raise

    def _is_there(self, pieces: list[Any], path: Path, size: int) -> bool:
        """Whether the object is what was sent: by what the server keeps of its pieces, or else byte for byte."""
        how: Any = {"ChecksumMode": "ENABLED"} if self.store.sums else {}

        def look() -> Any:
            # Not HEAD: its refusals carry no body that says why.
            answer = self.store.client.get_object(Bucket=self.where["Bucket"], Key=self.where["Key"], **how)
            answer["Body"].close()
            return answer

        try:
            found = self.store.ask(self.key, look)
            if found.get("ContentLength", size) != size:
                return False
            said = (found["ETag"].strip('"'), found.get("ChecksumCRC32"))
            return said[0] == _etag(pieces) or said[1] == _crc32(pieces) or self._is_equal(path)
        except KeyError:
            return False

    def _is_equal(self, path: Path) -> bool:
        """Whether the object's bytes are the file's."""
        with open(path, "rb") as file:
            return all(file.read(len(chunk)) == chunk for chunk in self.store.stream(self.key)) and not file.read(1)

    def _send_complete(self, pieces: list[Any]) -> Any:
        whole: Any = {"Parts": pieces}
        try:
            return self.store.client.complete_multipart_upload(**self.where, MultipartUpload=whole)
        except ClientError as error:
            if retry.code(error) == "InternalError":
                self._check_presence()
            raise

    def _check_presence(self) -> None:
        """Raise that the upload is gone, if it is: Ceph (16.2) calls it an internal error to complete one, for ever."""
        try:
            self.store.client.list_parts(**self.where, MaxParts=1)
        except ClientError as error:
            if retry.code(error) in LOST:
                raise


def _etag(pieces: list[Any]) -> str:
    """Return the ETag that most servers give an object in pieces: the MD5 of its pieces' MD5s, which are their ETags.

    "" where theirs are something else, as under some kinds of encryption.
    """
    tags = [piece["ETag"].strip('"') for piece in pieces]
    if not all(re.fullmatch("[0-9a-f]{32}", tag) for tag in tags):
        return ""
    whole = hashlib.md5(bytes.fromhex("".join(tags)), usedforsecurity=False).hexdigest()
    return f"{whole}-{len(pieces)}"


def _crc32(pieces: list[Any]) -> str:
    """Return the checksum of a whole in pieces: that of its pieces' checksums; "" where they have none."""
    if not all("ChecksumCRC32" in piece for piece in pieces):
        return ""
    whole = zlib.crc32(b"".join(b64decode(piece["ChecksumCRC32"]) for piece in pieces))
    return f"{b64encode(whole.to_bytes(4)).decode()}-{len(pieces)}"


def unfinished(store: S3Store, prefix: str) -> Iterator[Leftover]:
    """Yield the uploads of keys that start with `prefix`, keys as the bucket has them, that are not completed."""
    more: Any = {}
    while more is not None:
        where = {"Bucket": store.bucket, "Prefix": prefix, **more}
        page: Any = store.ask(prefix, lambda where=where: store.client.list_multipart_uploads(**where))  # type: ignore[misc]
        for item in page.get("Uploads", ()):
            yield Leftover(item["Key"], item["UploadId"], item["Initiated"].timestamp())
        markers = ("KeyMarker", "UploadIdMarker")
        more = {name: page[f"Next{name}"] for name in markers} if page.get("IsTruncated") else None


def md5(data: bytes | memoryview) -> Any:
    """Return the parameter by which every server verifies a body."""
    return {"ContentMD5": b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()}
