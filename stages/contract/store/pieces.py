"""Objects on their way out of a bucket, in ranges of `PIECE_BYTES`, several at once.

All pieces are of one object: those after the first ask for its ETag. A server may answer with another range than it
was asked for, or with none; what came is compared with what was asked, and asked for again.
"""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from stages.contract.store.multipart import AHEAD, PIECE_BYTES
from stages.contract.store.retry import WrongAnswer, code
from stages.contract.store.verbs import CHUNK_BYTES

if TYPE_CHECKING:
    from stages.contract.store.s3 import S3Store

EMPTY = ("InvalidRange", "416")
"""What a range of an object without bytes is answered with."""


class Piece(NamedTuple):
    """A range of an object."""

    data: bytes
    total: int
    """Bytes of the whole object."""
    etag: str
    """"" where the server does not say."""


class Ranged:
    """The way out of one object, `key` in the store and `full` in the bucket."""

    def __init__(self, store: S3Store, key: str, full: str) -> None:
        self.store, self.key, self.full = store, key, full

    def stream(self) -> Iterator[bytes]:
        """Yield the object in chunks of at most `CHUNK_BYTES`, `AHEAD` pieces on their way."""
        start = 0
        if self.store.crt and (size := self.store.size(self.key) or 0) > PIECE_BYTES:
            for chunk in self.store.crt.stream(self.full):
                start += len(chunk)
                yield chunk
            if start == size:
                return
        first = self._piece(start)
        yield from _chunks(first.data)
        start += len(first.data)
        if first.total <= start:
            return
        starts = iter(range(start, first.total, PIECE_BYTES))
        pool = ThreadPoolExecutor(AHEAD)
        try:
            waiting = deque(pool.submit(self._piece, start, first) for start in itertools.islice(starts, AHEAD))
            while waiting:
                piece = waiting.popleft().result()
                waiting.extend(pool.submit(self._piece, start, first) for start in itertools.islice(starts, 1))
                yield from _chunks(piece.data)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _piece(self, start: int, whole: Piece | None = None) -> Piece:
        """Return up to `PIECE_BYTES` from `start`; a reply that breaks off is gone on with where it stopped."""
        if quick := self._quick(start, whole):
            return quick
        got, seen = bytearray(), whole

        def read() -> None:
            nonlocal seen
            try:
                seen = self._read(start, got, seen)
            except ClientError as error:
                if code(error) in EMPTY and (whole or self.store.size(self.key)):
                    raise WrongAnswer("the server denies that it is so long") from error
                raise

        try:
            self.store.ask(self.key, read, passing=EMPTY)
        except ClientError:
            return Piece(b"", 0, "")
        assert seen is not None
        return Piece(bytes(got), seen.total, seen.etag)

    def _read(self, start: int, got: bytearray, seen: Piece | None) -> Piece:
        """Add to `got` what it lacks of the piece from `start`, as far as the answer reaches; return whose it is."""
        first = start + len(got)
        same: Any = {"IfMatch": seen.etag} if seen and seen.etag else {}
        where: Any = {"Bucket": self.store.bucket, "Key": self.full, **same}
        answer = self.store.client.get_object(Range=f"bytes={first}-{start + PIECE_BYTES - 1}", **where)
        self.store.wire.learn(self.full)
        with closing(answer["Body"]) as body:
            refuse_encoded(answer)
            begin, total = _parse_range(answer.get("ContentRange", f"bytes 0-/{answer['ContentLength']}"))
            if begin != first or (seen and total != seen.total):
                raise WrongAnswer(f"bytes from {first} were asked for, bytes from {begin} of {total} came")
            whose = Piece(b"", total, answer.get("ETag", ""))
            left = min(start + PIECE_BYTES, total) - first
            while left and (chunk := body.read(min(left, CHUNK_BYTES))):
                got.extend(chunk)
                left -= len(chunk)
        if left:
            raise WrongAnswer(f"{left} bytes of a piece are missing")
        return whose

    def _quick(self, start: int, whole: Piece | None) -> Piece | None:
        """Return a piece without boto3, or None where it must see to it."""
        headers = {"Range": f"bytes={start}-{start + PIECE_BYTES - 1}"}
        if whole and whole.etag:
            headers["If-Match"] = whole.etag
        answer = self.store.wire.send("GET", self.full, headers, self.store.credentials)
        if answer is None or "content-range" not in answer.headers:
            return None
        try:
            begin, total = _parse_range(answer.headers["content-range"])
        except WrongAnswer:
            return None
        is_it = begin == start and len(answer.body) == min(PIECE_BYTES, total - start)
        is_same = whole is None or total == whole.total
        return Piece(answer.body, total, answer.headers.get("etag", "")) if is_it and is_same else None


def refuse_encoded(answer: Any) -> None:
    """Refuse what something on the way has compressed: all objects are written as they are."""
    if (form := answer.get("ContentEncoding", "")) not in ("", "identity", "aws-chunked"):
        raise WrongAnswer(f"the object came as {form}, which it was not written as")


def _parse_range(text: str) -> tuple[int, int]:
    """Return the first byte and the size of the whole that a Content-Range names."""
    found = re.fullmatch(r"bytes (\d+)-\d*/(\d+)", text)
    if not found:
        raise WrongAnswer(f"Content-Range {text!r}")
    return int(found[1]), int(found[2])


def _chunks(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]
