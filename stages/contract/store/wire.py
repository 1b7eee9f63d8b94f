"""Small objects without boto3's machinery, which takes ten times the processor time of moving them.

Only the plain case is here: a GET or PUT like one that boto3 has just sent with success, on a connection of
its own, answered with success. Whatever else happens, a refusal, a redirection, a broken connection, a proxy on
the way, `Wire.send` answers None, and the caller asks boto3, which knows what to do. So nothing goes this way that may
not be done twice.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import select
import ssl
import urllib.request
import weakref
from collections import deque
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError
from botocore.httpsession import get_cert_path

from stages.contract.store.signing import SIGNED, Clock, Request, authorization

IDLE = 48
"""Connections kept for the next request."""
TIMEOUT = 20.0
"""Seconds without a byte, either way."""
SENT_BYTES = 256 << 10
"""Of a body at once; `TIMEOUT` holds for each, and between two of them an early refusal is seen."""


class Answer(NamedTuple):
    """What came."""

    status: int
    headers: Mapping[str, str]
    """By name in lower case."""
    body: bytes


UNSIGNED = "UNSIGNED-PAYLOAD"


Data = bytes | memoryview


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
        self._base = ""
        self._region = ""
        self._idle: deque[http.client.HTTPConnection] = deque()
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
        if not self._base and found and url.endswith(_quoted(key)) and not _has_proxy(url):
            self._region, self._base = found["region"], url.removesuffix(_quoted(key))

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
        if not self._base or credentials is None:
            return None
        target = urlsplit(self._base + _quoted(key))
        line = (method, target.netloc, f"{target.path}?{query}" if query else target.path)
        connection = self._connection(target.scheme, target.netloc)
        try:
            signed = self._signed(line, headers, body.sha256, credentials)
            found = _exchange(connection, method, line[2], signed, body.data)
        except (OSError, RuntimeError, http.client.HTTPException, BotoCoreError):
            found = None  # of them RuntimeError: fresh credentials that have expired
        if found and len(self._idle) < IDLE:
            self._idle.append(connection)
        else:
            connection.close()
        # What was to be a range and is not may be gigabytes: `_exchange` has not read it.
        return found if found and found.status in (200, 206) else None

    def _connection(self, scheme: str, place: str) -> http.client.HTTPConnection:
        if self._process != os.getpid():  # a fork's connections are its parent's as well
            self._process, self._idle = os.getpid(), deque()
            weakref.finalize(self, _close, self._idle)
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if not _has_news(connection):
                return connection
            connection.close()
        if scheme == "https":
            return http.client.HTTPSConnection(place, timeout=self.timeout, context=_trust())
        return http.client.HTTPConnection(place, timeout=self.timeout)

    def _signed(
        self, line: tuple[str, str, str], headers: Mapping[str, str], digest: str, credentials: Credentials
    ) -> dict[str, str]:
        """Return the headers with AWS's signature, version 4."""
        method, place, asked = line
        path, _, query = asked.partition("?")
        keys = credentials.get_frozen_credentials()
        stamp = self.clock.stamp()
        mine = {"host": place, "x-amz-content-sha256": digest, "x-amz-date": stamp}
        if keys.token:
            mine["x-amz-security-token"] = keys.token
        mine |= {name: value for name, value in headers.items() if name.startswith("x-amz-")}
        request = Request(method, path, query, digest)
        return {
            **headers,
            **mine,
            "Authorization": authorization(request, mine, keys, region=self._region, stamp=stamp),
        }


def _exchange(
    connection: http.client.HTTPConnection, method: str, target: str, headers: Mapping[str, str], data: Data
) -> Answer | None:
    """Return the answer if it is plain and came whole, its length said before; else the connection is spent."""
    connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.putheader("Accept-Encoding", "identity")
    if method == "PUT":
        connection.putheader("Content-Length", str(len(data)))
    connection.endheaders(bytes(data) if len(data) <= SENT_BYTES else None)
    if len(data) > SENT_BYTES and not _send_all(connection, memoryview(data)):
        return None
    answer = connection.getresponse()
    found = {name.lower(): value for name, value in answer.getheaders()}
    is_plain = found.get("content-encoding", "identity") in ("identity", "aws-chunked")
    is_bounded = answer.length is not None or answer.chunked  # else it ends nobody knows where
    is_range = answer.status != 200 or "Range" not in headers
    if answer.status < 200 or not (is_plain and is_bounded and is_range):
        return None
    return Answer(answer.status, found, answer.read())


def _send_all(connection: http.client.HTTPConnection, data: memoryview) -> bool:
    """Send a body; False where an answer came before its end."""
    for start in range(0, len(data), SENT_BYTES):
        if start and _has_news(connection):
            return False
        connection.send(data[start : start + SENT_BYTES])
    return True


def _has_news(connection: http.client.HTTPConnection) -> bool:
    """Whether something came that was not asked for: the end of the connection, or an answer too many."""
    if connection.sock is None:
        return False
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _close(idle: deque[http.client.HTTPConnection]) -> None:
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
