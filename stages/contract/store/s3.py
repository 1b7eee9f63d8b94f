"""Objects in S3 and what speaks its language: AWS, Google Cloud Storage, MinIO, Ceph.

Integrity. Every body that is written carries one of S3's additional checksums, which the server verifies before it
takes the object or piece: SHA-256 where the object goes up whole, which is verified with it again when it is read;
CRC32 where it goes up in pieces, since its SHA-256 is taken once, for its name and part record, and verified by whoever
reads it. A server that does not answer with that checksum does not know it; it gets Content-MD5, which all verify.

Large objects go up and come down in pieces of `PIECE_BYTES`, `AHEAD` of them at once; memory is bounded by their
product. A process that is killed in the middle of an upload leaves pieces that no listing of objects shows: `leti-ctl
gc` finds those of a run; give the bucket a lifecycle rule that aborts incomplete multipart uploads after some days.

Conditional writes: `If-None-Match: *`, on Google its own condition (see `gcs.py`). `Run.create` refuses a server that
ignores both, since nothing else there tells the first writer from the second; with `?settle=SECONDS` its writers agree
by waiting for one another (see `claims.py`), and no listing shows their claims.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from botocore.exceptions import ClientError

from stages.contract.errors import StoreError
from stages.contract.store import retry
from stages.contract.store.claims import SUFFIX, Claims
from stages.contract.store.client import connect
from stages.contract.store.crt import Crt
from stages.contract.store.listing import Page, page_query, read_page
from stages.contract.store.multipart import PIECE_BYTES, Multipart, md5, unfinished
from stages.contract.store.options import parse
from stages.contract.store.pieces import Ranged, refuse_encoded
from stages.contract.store.retry import WrongAnswer
from stages.contract.store.signing import Clock
from stages.contract.store.verbs import Entry, Leftover, Moved, Store, check_key, check_prefix
from stages.contract.store.versions import Versions
from stages.contract.store.wire import Body, Wire

T = TypeVar("T")
CONFLICT_TRIES = 5
LOST = ("PreconditionFailed", "412")
CONFLICT = ("ConditionalRequestConflict", "409")
UNKNOWN_HEADER = ("InvalidArgument", "InvalidRequest", "NotImplemented", "501")


class S3Store(Store):
    """A bucket prefix. Credentials, region, profile and endpoint are found the way boto3 finds them.

    `s3://bucket/prefix?endpoint_url=http://host:port&addressing=path` says in the URI what is not in the environment;
    `options.OPTIONS` lists what can be said.
    """

    def __init__(self, uri: str) -> None:
        options = parse(uri)
        self.uri, self.bucket, self.root = uri, options.bucket, options.root
        self.clock = Clock()
        connection = connect(options, self.clock)
        self.client, self.session, self.credentials = connection.client, connection.session, connection.credentials
        self.is_google = connection.is_google
        self.sums = not self.is_google
        """Whether the server is known or hoped to verify additional checksums."""
        self.claims = Claims(self, options.settle) if options.settle else None
        self.versions = Versions(self)
        self.has_answered = False
        self.wire = Wire(self.clock, options.timeout)
        self.crt = Crt(self) if options.transfer else None
        for name in ("GetObject", "PutObject"):
            self.client.meta.events.register(f"before-send.s3.{name}", self.wire.watch)

    def stream(self, key: str) -> Iterator[bytes]:
        return Ranged(self, key, self._full(key)).stream()

    def get(self, key: str) -> bytes:
        full = self._full(key)
        quick = self.wire.send("GET", full, {"x-amz-checksum-mode": "ENABLED"} if self.sums else {}, self.credentials)
        if quick and quick.is_whole:
            return quick.body

        def read() -> bytes:
            answer = self.client.get_object(Bucket=self.bucket, Key=full, **self._verified())
            self.wire.learn(full)
            with closing(answer["Body"]) as body:
                refuse_encoded(answer)
                if "ContentRange" in answer:
                    raise WrongAnswer("a part came where the whole was asked for")
                return body.read()

        return self.ask(key, read)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        if self.claims:
            return self.claims.put_if_absent(key, data)
        writer = secrets.token_hex(16)
        write = lambda: self._put(key, data, Metadata={"writer": writer}, IfNoneMatch="*")  # noqa: E731
        for attempt in range(CONFLICT_TRIES):
            try:
                self.versions.write(key, write)
                return True
            except ClientError:
                # A lost reply makes the next try meet our own success, so ask whose object is there. After a
                # conflict there may be none: the other writer can still fail.
                if (winner := self.writer(key)) is not None:
                    return winner == writer
                time.sleep(retry.pause(attempt))
        raise StoreError(f"store {self.uri}: {key} is being written by another; try again")

    def upload(self, key: str, path: Path, moved: Moved = lambda _: None) -> None:
        size = path.stat().st_size
        if size > PIECE_BYTES:
            if self.crt and self.crt.upload(self._full(key), path, moved):
                return
            Multipart(self, key, self._full(key)).upload(path, size, moved)
            return
        data = path.read_bytes()
        if not self._put_quickly(key, data):
            self._put(key, data)
        moved(size)

    def scan(self, prefix: str) -> Iterator[Entry]:
        check_prefix(prefix)
        more: str | None = None
        last = ""
        while True:
            page = self._quick_page(prefix, more)
            if not page or not page.is_sound(self.root + prefix, last):
                page = self._page_of_entries(prefix, more, last)
            for entry in page.entries:
                last = entry.key
                if not entry.key.endswith(SUFFIX):
                    yield entry._replace(key=entry.key.removeprefix(self.root))
            if (more := page.more) is None:
                return

    def folders(self, prefix: str) -> Iterator[str]:
        check_prefix(prefix)
        start, more = self.root + prefix, {"Delimiter": "/"}

        def read() -> tuple[list[str], str | None]:
            page = self._page(prefix, more)
            names = [item["Prefix"].removeprefix(start).rstrip("/") for item in page.get("CommonPrefixes", ())]
            return names, page["NextContinuationToken"] if page.get("IsTruncated") else None

        while more:
            names, token = self.ask(prefix, read)
            yield from names
            more = {"Delimiter": "/", "ContinuationToken": token} if token else {}

    def size(self, key: str) -> int | None:
        # Not HEAD: its answers carry no body, so a missing bucket would look like a missing key.
        full = self._full(key)
        page = self.ask(key, lambda: self._page(key, {"MaxKeys": 1}))
        return next((item["Size"] for item in page.get("Contents", ()) if item["Key"] == full), None)

    def delete(self, key: str) -> None:
        where: Any = {"Bucket": self.bucket, "Key": self._full(key)}
        with suppress(KeyError):  # what Google says of an object that is not there
            self.ask(key, lambda: self.client.delete_object(**where))

    def leftovers(self, prefix: str) -> Iterator[Leftover]:
        check_prefix(prefix)
        for found in unfinished(self, self.root + prefix):
            yield found._replace(key=found.key.removeprefix(self.root))

    def discard(self, leftover: Leftover) -> None:
        where: Any = {"Bucket": self.bucket, "Key": self._full(leftover.key), "UploadId": leftover.name}
        with suppress(ClientError):
            self.ask(leftover.key, lambda: self.client.abort_multipart_upload(**where), passing=("NoSuchUpload", "404"))

    def ask(self, key: str, send: Callable[[], T], *, passing: tuple[str, ...] = ()) -> T:
        """Return what a request returns, sent again while that may help; errors of a `passing` code stay boto3's."""
        explain = lambda error: retry.explain(error, self.uri, key)  # noqa: E731

        def sent() -> T:
            try:
                return send()
            except WrongAnswer:
                self.client.close()  # its connections: on one of them answers and requests are out of step
                raise

        answer = retry.ask(sent, explain, passing=passing, is_known=self.has_answered)
        self.has_answered = True
        return answer

    def _full(self, key: str) -> str:
        return self.root + check_key(key)

    def _quick_page(self, prefix: str, more: str | None) -> Page | None:
        query = page_query(self.root + prefix, more)
        answer = self.wire.send("GET", "", {}, self.credentials, query=query)
        return read_page(answer.body) if answer else None

    def _page_of_entries(self, prefix: str, more: str | None, last: str) -> Page:
        token = {} if more is None else {"ContinuationToken": more}

        def read() -> Page:
            told = self._page(prefix, token)
            found = told.get("Contents", ())
            entries = [Entry(item["Key"], item["Size"], item["LastModified"].timestamp()) for item in found]
            page = Page(entries, told["NextContinuationToken"] if told.get("IsTruncated") else None)
            if not page.is_sound(self.root + prefix, last):
                raise WrongAnswer("a listing names keys of another prefix, or not in their order")
            return page

        return self.ask(prefix, read)

    def _page(self, prefix: str, more: Any) -> Any:
        page = self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.root + prefix, **more)
        if unquote(page.get("Prefix", self.root + prefix)) != unquote(self.root + prefix):
            raise WrongAnswer("a listing of another prefix")
        return page

    def _verified(self) -> Any:
        return {"ChecksumMode": "ENABLED"} if self.sums else {}

    def _checksum(self, data: bytes) -> Any:
        """Return the parameters by which the server verifies a body."""
        if self.sums:
            digest = b64encode(hashlib.sha256(data).digest()).decode()
            return {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": digest}
        return md5(data)

    def _put_quickly(self, key: str, data: bytes) -> bool:
        """Write an object without boto3 if all goes well and the server says that it has verified the checksum."""
        if not self.sums:
            return False
        digest = hashlib.sha256(data).digest()
        checksum = b64encode(digest).decode()
        headers = {"x-amz-checksum-sha256": checksum, "x-amz-sdk-checksum-algorithm": "SHA256"}
        answer = self.wire.send("PUT", self._full(key), headers, self.credentials, Body(data, digest.hex()))
        return answer is not None and answer.headers.get("x-amz-checksum-sha256") == checksum

    def _put(self, key: str, data: bytes, **more: Any) -> Any:
        full, hoped = self._full(key), self.sums

        def send() -> Any:
            given = self._checksum(data)
            answer = self.client.put_object(Bucket=self.bucket, Key=full, Body=data, **given, **more)
            if (sum := given.get("ChecksumSHA256")) != answer.get("ChecksumSHA256", sum):
                raise WrongAnswer("the checksum is another: this answers another request")
            return answer

        unknown = UNKNOWN_HEADER if self.sums else ()
        lost = (*LOST, *CONFLICT) if "IfNoneMatch" in more else ()
        try:
            answer = self.ask(key, send, passing=(*lost, *unknown))
        except ClientError as error:
            if retry.code(error) not in unknown:
                raise
            self.sums = False
            answer = self.ask(key, send, passing=lost)
        self.wire.learn(full)
        if hoped and "ChecksumSHA256" not in answer:
            self._distrust(key, data)
        return answer

    def _distrust(self, key: str, data: bytes) -> None:
        """Give up on SHA-256 checksums: the server has said nothing of the one it was sent. Prove this one object."""
        self.sums = False
        with suppress(KeyError):
            if b"".join(self.stream(key)) == data:
                return
        raise StoreError(f"store {self.uri}: {key} is not what was written; try again")

    def put(self, key: str, data: bytes, writer: str) -> None:
        """Write a small object over any that is there; `writer` is what `writer` returns of it."""
        self._put(key, data, Metadata={"writer": writer})

    def writer(self, key: str) -> str | None:
        """Return who wrote the object, "" where it does not say, or None when there is none."""
        full = self._full(key)

        def read() -> str:
            # Not HEAD: its refusals carry no body that says why, a clock that is wrong for one.
            answer = self.client.get_object(Bucket=self.bucket, Key=full)
            with closing(answer["Body"]) as body:
                body.read()
            return answer["Metadata"].get("writer", "")

        try:
            return self.ask(key, read)
        except KeyError:
            return None
