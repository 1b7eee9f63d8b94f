"""An S3 server for tests: moto over real HTTP, one lock where S3 is atomic and moto is not, and faults to order."""

from __future__ import annotations

import io
import itertools
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import boto3
from moto.core import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import make_server

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclass
class Fault:
    """Answers the next `times` requests of `method` on paths that contain `path` with an S3 error."""

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

    def make_bucket(self) -> str:
        """Return the name of a new, empty bucket."""
        name = f"bucket-{next(self._names)}"
        client = boto3.client("s3", endpoint_url=self.url)
        client.create_bucket(Bucket=name)
        client.close()
        return name

    def fill(self, bucket: str, keys: Iterable[str]) -> None:
        """Put empty objects into a bucket past HTTP, for tests that need very many."""
        for key in keys:
            s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(bucket, key, b"")

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        if len(body) < length:
            return []  # the client died in mid-sentence; S3 drops such a request, moto would store what came
        environ["wsgi.input"] = io.BytesIO(body)
        self.requests.append(f"{method} {path}")
        fault = next((f for f in self.faults if f.times and f.method == method and f.path in path), None)
        if fault is None:
            return self._carry_out(environ, start_response)
        fault.times -= 1
        if fault.cut:
            reply = b"".join(self._carry_out(environ, start_response))
            return [reply[: len(reply) // 2]]
        if fault.carried_out:
            list(self._carry_out(environ, lambda *_: None))
        start_response(fault.status, [("Content-Type", "application/xml")])
        return [f"<Error><Code>{fault.code}</Code><Message>ordered by a test</Message></Error>".encode()]

    def _carry_out(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not self.conditional:
            environ.pop("HTTP_IF_NONE_MATCH", None)
        # moto looks whether the key exists and then writes; S3 does both at once.
        with self._lock:
            return list(self._moto(environ, start_response))


class _Quiet(MotoRequestHandler):
    def log_request(self, *_: object, **__: object) -> None:
        """Keep the test's output for the test."""
