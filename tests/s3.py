"""An S3 server for tests: moto over real HTTP, one lock where S3 is atomic and moto is not, and faults to order."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import itertools
import threading
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs

from moto.core import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import make_server

ACCOUNT_SECRET = "testing"
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclass
class Fault:
    """Answers the next `times` requests of `method` whose path and query contain `path` with an S3 error."""

    method: str
    path: str
    status: str = "500 Internal Server Error"
    code: str = "InternalError"
    times: int = 1
    carried_out: bool = False
    """True does what was asked and loses the reply; False does nothing."""
    cut: bool = False
    """True does what was asked and hangs up in the middle of the reply."""


@dataclass
class S3Server:
    """A context manager; `url` is its endpoint."""

    requests: list[str] = field(default_factory=list)
    """`METHOD path` of every request."""
    faults: list[Fault] = field(default_factory=list)
    conditional: bool = True
    """False ignores If-None-Match, as older S3-compatible servers do."""
    checksums: bool = True
    """False does not know SHA-256 checksums, as older S3-compatible servers do not."""
    ceph: bool = False
    """True does as Ceph 16 does: no SHA-256 checksums, no conditions in a bucket with versions, and other errors for an
    upload that is not there. Real Ceph is asked the same questions by `tests/interop/test_ceph.py`."""
    google: bool = False
    """True has Google's condition for writes, and its rule that headers of both dialects do not mix."""

    def __enter__(self) -> S3Server:
        self._lock = threading.Lock()
        self._names = itertools.count()
        self._moto: Application = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self.url = f"http://127.0.0.1:{self._server.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def reset(self) -> None:
        """Do as a new server does, but for the buckets that are there."""
        self.requests, self.faults = [], []
        self.conditional = self.checksums = True
        self.ceph = self.google = False

    def make_bucket(self, *, is_versioned: bool = False) -> str:
        """Return the name of a new, empty bucket, made past HTTP."""
        name = f"bucket-{next(self._names)}"
        made = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].create_bucket(name, "us-east-1")
        made.versioning_status = "Enabled" if is_versioned else None
        return name

    def fill(self, bucket: str, keys: Iterable[str]) -> None:
        """Put empty objects into a bucket past HTTP, for tests that need very many."""
        for key in keys:
            self.put(bucket, key, b"")

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Put an object into a bucket past HTTP."""
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(bucket, key, data)

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        if len(body) < length:
            return []  # the client died in mid-sentence; S3 drops such a request, moto would store what came
        environ["wsgi.input"] = io.BytesIO(body)
        self.requests.append(f"{method} {path}")
        target = f"{path}?{environ['QUERY_STRING']}"
        fault = next((f for f in self.faults if f.times and f.method == method and f.path in target), None)
        if fault is None:
            return self._carry_out(environ, start_response)
        fault.times -= 1
        if fault.cut:
            reply = b"".join(self._carry_out(environ, start_response))
            return [reply[: len(reply) // 2]]
        if fault.carried_out:
            list(self._carry_out(environ, lambda *_: None))
        return _refuse(start_response, fault.status, fault.code)

    def _carry_out(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not self.conditional or self.google:
            environ.pop("HTTP_IF_NONE_MATCH", None)
        if self.ceph and (refusal := _as_ceph(environ)):
            return _refuse(start_response, *refusal)
        if not self.checksums or self.ceph:
            for name in [name for name in environ if name.startswith(("HTTP_X_AMZ_CHECKSUM", "HTTP_X_AMZ_SDK"))]:
                del environ[name]
        if self.google and (fault := _as_google(environ)):
            return _refuse(start_response, *fault)
        if altered := _altered(environ):
            return _refuse(start_response, "400 Bad Request", altered)
        if _asks_for_a_lost_upload(environ):
            return _refuse(start_response, "404 Not Found", "NoSuchUpload")
        # moto looks whether the key exists and then writes; S3 does both at once.
        with self._lock:
            return list(self._moto(environ, start_response))


def _refuse(start_response: Callable[..., Any], status: str, code: str) -> list[bytes]:
    start_response(status, [("Content-Type", "application/xml")])
    return [f"<Error><Code>{code}</Code><Message>ordered by a test</Message></Error>".encode()]


def _asks_for_a_lost_upload(environ: dict[str, Any]) -> bool:
    """Say whether the request is of an upload that is not there, which moto answers with a fault of its own."""
    wanted = parse_qs(environ["QUERY_STRING"]).get("uploadId")
    bucket = environ["PATH_INFO"].strip("/").partition("/")[0]
    known = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets.get(bucket)
    return bool(wanted) and known is not None and wanted[0] not in known.multiparts


def _altered(environ: dict[str, Any]) -> str | None:
    """Return the error S3 has for a body that is not the one its headers vouch for; moto takes any."""
    body: bytes = environ["wsgi.input"].getvalue()
    claims = {
        "HTTP_X_AMZ_CHECKSUM_SHA256": base64.b64encode(hashlib.sha256(body).digest()).decode(),
        "HTTP_X_AMZ_CHECKSUM_CRC32": base64.b64encode(zlib.crc32(body).to_bytes(4)).decode(),
        "HTTP_CONTENT_MD5": base64.b64encode(hashlib.md5(body).digest()).decode(),
    }
    is_upload = environ["REQUEST_METHOD"] == "PUT"
    return (
        "BadDigest" if is_upload and any(environ.get(name, value) != value for name, value in claims.items()) else None
    )


def _as_ceph(environ: dict[str, Any]) -> tuple[str, str] | None:
    """Take from a request what Ceph does not look at, or return how Ceph refuses it."""
    bucket = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets.get(environ["PATH_INFO"].split("/")[1])
    upload = parse_qs(environ["QUERY_STRING"]).get("uploadId")
    if upload or (bucket and bucket.versioning_status == "Enabled"):
        environ.pop("HTTP_IF_NONE_MATCH", None)
    if upload and bucket and upload[0] not in bucket.multiparts:
        refusals = {"POST": ("500 Internal Server Error", "InternalError"), "GET": ("404 Not Found", "NoSuchKey")}
        return refusals.get(environ["REQUEST_METHOD"])
    return None


def _as_google(environ: dict[str, Any]) -> tuple[str, str] | None:
    """Put a request in Google's dialect into Amazon's, or return how Google refuses it."""
    theirs = [name for name in environ if name.startswith("HTTP_X_GOOG_")]
    if not theirs:
        return None
    if any(name.startswith("HTTP_X_AMZ_") for name in environ):
        return "400 Bad Request", "ExcessHeaderValues"
    if environ["HTTP_AUTHORIZATION"] != _google_signature(environ):
        return "403 Forbidden", "SignatureDoesNotMatch"
    for name in theirs:
        environ[name.replace("GOOG", "AMZ")] = environ.pop(name)
    if environ.pop("HTTP_X_AMZ_IF_GENERATION_MATCH", None) == "0":
        environ["HTTP_IF_NONE_MATCH"] = "*"
    scope = "Credential=testing/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
    environ["HTTP_AUTHORIZATION"] = f"AWS4-HMAC-SHA256 {scope}"
    return None


def _google_signature(environ: dict[str, Any]) -> str:
    """Sign what came as the caller must have signed it: https://cloud.google.com/storage/docs/authentication."""
    given = environ["HTTP_AUTHORIZATION"]
    credential, names, _ = (item.partition("=")[2] for item in given.partition(" ")[2].split(", "))
    lines = [f"{name}:{environ['HTTP_' + name.upper().replace('-', '_')]}" for name in names.split(";")]
    payload = hashlib.sha256(environ["wsgi.input"].getvalue()).hexdigest()
    request = ["PUT", environ["RAW_URI"], "", *lines, "", names, payload]
    access, scope = credential.split("/", 1)
    digest = hashlib.sha256("\n".join(request).encode()).hexdigest()
    key = b"GOOG4" + ACCOUNT_SECRET.encode()
    for word in scope.split("/"):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    text = f"GOOG4-HMAC-SHA256\n{environ['HTTP_X_GOOG_DATE']}\n{scope}\n{digest}"
    proof = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    return f"GOOG4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={names}, Signature={proof}"


class _Quiet(MotoRequestHandler):
    def log_request(self, *_: object, **__: object) -> None:
        """Keep the test's output for the test."""
