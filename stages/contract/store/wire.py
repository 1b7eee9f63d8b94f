"""Small objects without boto3's machinery, which takes ten times the processor time of moving them.

Only the plain case is here: a GET or PUT like one that boto3 has just sent with success, on a connection of
its own, answered with success. Whatever else happens, a refusal, a redirection, a broken connection, a proxy on
the way, `Wire.send` answers None, and the caller asks boto3, which knows what to do. So nothing goes this way that may
not be done twice.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import urllib.request
import weakref
from collections import deque
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import SplitResult, quote, urlsplit

from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError
from botocore.httpsession import get_cert_path

from stages.contract.store.connection import Answer, Connection, Data, Garbled
from stages.contract.store.signing import SIGNED, Clock, Request, authorization

IDLE = 48
"""Connections kept for the next request."""
TIMEOUT = 20.0
"""Seconds without a byte, either way."""
UNSIGNED = "UNSIGNED-PAYLOAD"


class Body(NamedTuple):
    """What is sent."""

    data: Data
    sha256: str
    """In hexadecimal, or `UNSIGNED` where a header that is signed has another checksum."""


EMPTY = Body(b"", hashlib.sha256(b"").hexdigest())


class Wire:
    """The way to one bucket; threads may share it."""

    def __init__(self, clock: Clock, timeout: float = TIMEOUT) -> None:
        self.clock, self.timeout = clock, timeout
        self._process = os.getpid()
        self._base: SplitResult | None = None
        """Of every URL, without the key."""
        self._region = ""
        self._idle: deque[Connection] = deque()
        weakref.finalize(self, _close, self._idle)
        self._last: tuple[str, str] = ("", "")

    def watch(self, request: Any, **_: Any) -> None:
        """Remember how boto3 asks; a handler of its event `before-send`."""
        authorization = request.headers.get("Authorization", b"")
        self._last = (request.url, authorization.decode() if isinstance(authorization, bytes) else authorization)

    def learn(self, key: str) -> None:
        """Take the request for `key` that boto3 has just had answered as the model of those to come."""
        url, authorization = self._last
        found = SIGNED.match(authorization)
        if self._base is None and found and url.endswith(_quoted(key)) and not _has_proxy(url):
            self._region, self._base = found["region"], urlsplit(url.removesuffix(_quoted(key)))

    def send(
        self,
        method: str,
        key: str,
        headers: Mapping[str, str],
        credentials: Credentials | None,
        body: Body = EMPTY,
        *,
        query: str = "",
    ) -> Answer | None:
        """Return the answer to a request with these headers, or None where boto3 must see to it.

        `query` is in its canonical form: names sorted, values quoted.
        """
        base = self._base
        if base is None or credentials is None:
            return None
        request = Request(method, base.path + _quoted(key), query, body.sha256)
        connection, found = self._connection(base.scheme, base.netloc), None
        try:
            signed = self._signed(request, base.netloc, headers, credentials)
            found = connection.exchange(method, f"{request.path}?{query}" if query else request.path, signed, body.data)
        except (OSError, RuntimeError, Garbled, BotoCoreError):
            pass  # of them RuntimeError: fresh credentials that have expired
        finally:
            if found and len(self._idle) < IDLE:
                self._idle.append(connection)
            else:
                connection.close()
        return found if found and found.status in (200, 206) else None

    def _connection(self, scheme: str, place: str) -> Connection:
        if self._process != os.getpid():  # a fork's connections are its parent's as well
            self._process, self._idle = os.getpid(), deque()
            weakref.finalize(self, _close, self._idle)
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if not connection.is_spent():
                return connection
            connection.close()
        return Connection(scheme, place, self.timeout, _trust() if scheme == "https" else None)

    def _signed(
        self, request: Request, host: str, headers: Mapping[str, str], credentials: Credentials
    ) -> dict[str, str]:
        """Return the headers of a request, with AWS's signature, version 4."""
        keys, stamp = credentials.get_frozen_credentials(), self.clock.stamp()
        mine = {"host": host, "x-amz-content-sha256": request.digest, "x-amz-date": stamp}
        if keys.token:
            mine["x-amz-security-token"] = keys.token
        mine |= {name: value for name, value in headers.items() if name.startswith("x-amz-")}
        proof = authorization(request, mine, keys, region=self._region, stamp=stamp)
        return {**headers, **mine, "Authorization": proof, "Accept-Encoding": "identity"}


def _close(idle: deque[Connection]) -> None:
    while idle:
        idle.pop().close()


@lru_cache(maxsize=1)
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or get_cert_path(True))


def _has_proxy(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.hostname or "")


def _quoted(key: str) -> str:
    return quote(key, safe="/~")
