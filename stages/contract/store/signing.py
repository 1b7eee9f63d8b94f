"""AWS's signature, version 4, for requests that boto3 does not sign, or signs by a clock that is wrong.

A server refuses a request whose time is far from its own. Where it does, its answer says what time it has, and from
then on requests are signed by that: this machine's clock may be as it is.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

SIGNED = re.compile(
    r"AWS4-HMAC-SHA256 Credential=[^/]+/\d{8}/(?P<region>[\w-]+)/s3/aws4_request, ?SignedHeaders=(?P<names>[^,]+),"
)
LEAST_SKEW = timedelta(minutes=1)
"""Less is no reason to be refused."""


class Request(NamedTuple):
    """What of a request is signed beside its headers."""

    method: str
    path: str
    query: str
    """In canonical form: names sorted, values quoted."""
    digest: str
    """SHA-256 of the body, or what stands in its place."""


class Clock:
    """The server's time, as far as it is known."""

    def __init__(self) -> None:
        self.ahead = timedelta()
        """The server's clock before this machine's."""

    def stamp(self) -> str:
        """Return the time as a signature has it."""
        return (datetime.now(UTC) + self.ahead).strftime("%Y%m%dT%H%M%SZ")

    def learn(self, date: str) -> bool:
        """Set it by an answer's Date; return whether that makes a difference."""
        try:
            ahead = parsedate_to_datetime(date) - datetime.now(UTC)
        except (TypeError, ValueError):
            return False
        changes = abs(ahead - self.ahead) > LEAST_SKEW
        if changes:
            self.ahead = ahead
        return changes


def authorization(request: Request, headers: Mapping[str, str], keys: Any, *, region: str, stamp: str) -> str:
    """Return the header that vouches for a request with these headers, `host` among them, names in lower case."""
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = f"{request.method}\n{request.path}\n{request.query}\n{lines}\n{names}\n{request.digest}"
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    proof = hmac.digest(_key(keys.secret_key, scope), text.encode(), "sha256").hex()
    return f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, SignedHeaders={names}, Signature={proof}"


def sign_again(request: Any, keys: Any, stamp: str) -> None:
    """Sign a request of boto3's as of another time, in place; one that is not signed so stays as it is."""
    found = SIGNED.match(_text(request.headers.get("Authorization", "")))
    if not found:
        return
    _replace(request.headers, "X-Amz-Date", stamp)
    parts = urlsplit(request.url)
    signed = {name: _text(request.headers.get(name, parts.netloc)) for name in found["names"].split(";")}
    pairs = sorted((_quoted(name), _quoted(value)) for name, value in parse_qsl(parts.query, keep_blank_values=True))
    query = "&".join(f"{name}={value}" for name, value in pairs)
    asked = Request(request.method, parts.path or "/", query, signed["x-amz-content-sha256"])
    proof = authorization(asked, signed, keys, region=found["region"], stamp=stamp)
    _replace(request.headers, "Authorization", proof)


def _replace(headers: Any, name: str, value: str) -> None:
    del headers[name]
    headers[name] = value


def _quoted(text: str) -> str:
    return quote(text, safe="~")


def _text(value: str | bytes) -> str:
    return " ".join((value.decode() if isinstance(value, bytes) else value).split())


@lru_cache(maxsize=8)
def _key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for word in scope.split("/"):
        key = hmac.digest(key, word.encode(), "sha256")
    return key
