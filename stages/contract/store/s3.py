"""Objects in S3 and what speaks its language: AWS, Google Cloud Storage, MinIO, Ceph. The home of boto3.

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
import os
import secrets
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from stages.contract.errors import StoreError, UsageError
from stages.contract.store import gcs, retry
from stages.contract.store.claims import SUFFIX, Claims
from stages.contract.store.crt import Crt
from stages.contract.store.listing import Page, page_query, read_page
from stages.contract.store.multipart import PIECE_BYTES, Multipart, md5, unfinished
from stages.contract.store.pieces import Ranged, refuse_encoded
from stages.contract.store.retry import WrongAnswer
from stages.contract.store.signing import Clock, sign_again
from stages.contract.store.verbs import CHUNK_BYTES, Entry, Leftover, Moved, Store, check_key, check_prefix
from stages.contract.store.versions import Versions
from stages.contract.store.wire import TIMEOUT, Body, Wire

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

T = TypeVar("T")
CONNECTIONS = 48
CONFLICT_TRIES = 5
LOST = ("PreconditionFailed", "412")
CONFLICT = ("ConditionalRequestConflict", "409")
UNKNOWN_HEADER = ("InvalidArgument", "InvalidRequest", "NotImplemented", "501")
OPTIONS = {
    "endpoint_url": "http://host:port of an S3-compatible server",
    "addressing": "path or virtual: where the bucket's name goes; left out, boto3 decides",
    "profile": "a profile of the AWS configuration",
    "region": "the bucket's region",
    "dialect": "aws or gcs; left out, the endpoint's host decides",
    "settle": "seconds; for a server without conditional writes, see `claims`",
    "transfer": "crt: large objects by the AWS Common Runtime",
    "timeout": "seconds without a byte after which a request is sent again; 20",
}

_CONNECTING = threading.Lock()
"""Clients are thread-safe; making one from boto3's shared session is not."""


class S3Store(Store):
    """A bucket prefix. Credentials, region, profile and endpoint are found the way boto3 finds them.

    `s3://bucket/prefix?endpoint_url=http://host:port&addressing=path` says in the URI what is not in the environment;
    `OPTIONS` lists what can be said.
    """

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        self.uri = uri
        self.bucket, self.prefix = parts.netloc, parts.path.strip("/")
        self.root = f"{self.prefix}/" if self.prefix else ""
        options = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if parts.fragment or set(options) - set(OPTIONS):
            raise UsageError(f"store {uri!r}: the options are {', '.join(OPTIONS)}; drop the rest")
        self.timeout = self._seconds("timeout", options.get("timeout", f"{TIMEOUT}"))
        self.clock = Clock()
        self.client = self._connect(options)
        self.sums = not self.is_google
        """Whether the server is known or hoped to verify additional checksums."""
        self.claims = Claims(self, self._seconds("settle", options["settle"])) if "settle" in options else None
        self.versions = Versions(self)
        self.has_answered = False
        self.wire = Wire(self.clock, self.timeout)
        self.crt = self._crt(options)
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

    def _crt(self, options: dict[str, str]) -> Crt | None:
        given = options.get("transfer")
        if given not in (None, "crt"):
            raise UsageError(f"store {self.uri}: transfer {given!r}; write crt, or leave it out")
        return Crt(self) if given else None

    def _seconds(self, name: str, given: str) -> float:
        try:
            seconds = float(given)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds <= 3600:
            raise UsageError(f"store {self.uri}: {name} {given!r}; write seconds, such as {name}=10")
        return seconds

    def _connect(self, options: dict[str, str]) -> S3Client:
        style: Any = {"payload_signing_enabled": False, "addressing_style": options.get("addressing", "auto")}
        config = Config(
            connect_timeout=min(10.0, self.timeout),
            read_timeout=self.timeout,
            max_pool_connections=CONNECTIONS,
            tcp_keepalive=True,
            # Requests are repeated here, bodies included; boto3 would repeat those without a body only.
            retries={"total_max_attempts": 1, "mode": "standard"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # The checksum header is signed and vouches for the body; to sign the body itself hashes it twice.
            s3=style,
        )
        try:
            with _CONNECTING:
                profile = options.get("profile")
                if profile is None and boto3.DEFAULT_SESSION is None:
                    boto3.setup_default_session()
                session = boto3.Session(profile_name=profile) if profile else boto3.DEFAULT_SESSION
                assert session is not None
                client = session.client(
                    "s3", config=config, endpoint_url=options.get("endpoint_url"), region_name=options.get("region")
                )
                self.credentials: Any = session.get_credentials()
                self.session: Any = session._session  # botocore's
                self._learn_dialect(client, options)
                return client
        except (BotoCoreError, ValueError) as error:
            text = f"store {self.uri}: {retry.line(error)}; correct the endpoint or the AWS settings"
            raise UsageError(text) from error

    def _learn_dialect(self, client: S3Client, options: dict[str, str]) -> None:
        dialect = options.get("dialect")
        if dialect not in (None, "aws", "gcs"):
            raise UsageError(f"store {self.uri}: dialect {dialect!r}; write aws or gcs")
        host = urlsplit(client.meta.endpoint_url).hostname or ""
        self.is_google = dialect == "gcs" or (dialect is None and gcs.is_google(host))
        client.meta.events.register("before-call.s3", _send_at_once)
        client.meta.events.register("after-call.s3", self._check_clock)
        client.meta.events.register("after-call.s3", retry.check_success)
        client.meta.events.register("before-send.s3", self._sign_by_clock)
        if self.is_google:

            def to_google(request: Any, **_: Any) -> None:
                if self.credentials is not None:
                    keys = self.credentials.get_frozen_credentials()
                    gcs.translate(request, keys.access_key, keys.secret_key)

            client.meta.events.register("before-send.s3.PutObject", to_google)

    def _check_clock(self, http_response: Any, parsed: Any, **_: Any) -> None:
        """Ask again by the server's clock where it refuses this machine's."""
        if parsed.get("Error", {}).get("Code") in retry.SKEWED and self.clock.learn(
            http_response.headers.get("Date", "")
        ):
            raise WrongAnswer("the server's clock is another")

    def _sign_by_clock(self, request: Any, **_: Any) -> None:
        if self.clock.ahead and self.credentials is not None:
            sign_again(request, self.credentials.get_frozen_credentials(), self.clock.stamp())

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


def _send_at_once(params: Any, **_: Any) -> None:
    """Do not ask the server whether it will take a small body: that costs a round trip, and saves nothing."""
    body = params.get("body")
    if isinstance(body, BytesIO) and body.seek(0, os.SEEK_END) <= CHUNK_BYTES:
        params["headers"].pop("Expect", None)
    if isinstance(body, BytesIO):
        body.seek(0)
