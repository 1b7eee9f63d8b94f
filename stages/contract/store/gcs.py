"""The one thing Google Cloud Storage does otherwise behind its S3-compatible endpoint: writing only what is not there.

It ignores If-None-Match on writes. Its own condition is the header `x-goog-if-generation-match: 0`, and it refuses
requests that mix `x-goog-` with `x-amz-` headers, which AWS's signature always has. So a conditional write is put into
Google's dialect, with the same HMAC key, just before it is sent: `GOOG4-HMAC-SHA256`, the form of AWS's signature with
other names in it (https://cloud.google.com/storage/docs/authentication/signatures).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest

HOST = "storage.googleapis.com"
CONDITION = "x-goog-if-generation-match"
DROPPED = ("authorization", "if-none-match", "x-amz-", "amz-sdk-", "expect")


def is_google(host: str) -> bool:
    """Whether an endpoint's host is Google's: the global one, a bucket's or a regional one."""
    return host == HOST or host.endswith((f".{HOST}", ".rep.googleapis.com"))


def translate(request: AWSPreparedRequest, access_key: str, secret: str, *, now: datetime | None = None) -> None:
    """Turn a signed `PUT` with `If-None-Match: *` into Google's form of it, in place; other requests stay as they are.

    The object's metadata and Content-MD5 are kept.
    """
    headers: Any = request.headers
    if headers.get("If-None-Match") is None:
        return
    stamp = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    kept = {}
    for name, value in list(headers.items()):
        text, low = value.decode() if isinstance(value, bytes) else str(value), name.lower()
        if low.startswith("x-amz-meta-"):
            kept[low.replace("x-amz-", "x-goog-")] = text
        elif not low.startswith(DROPPED):
            kept[name] = text
        del headers[name]
    payload = hashlib.sha256(_bytes(request.body)).hexdigest()
    kept |= {CONDITION: "0", "x-goog-date": stamp, "x-goog-content-sha256": payload}
    kept["Authorization"] = signature(request.url, kept, access_key=access_key, secret=secret)
    for name, value in kept.items():
        headers[name] = value


def signature(url: str, headers: Mapping[str, str], *, access_key: str, secret: str) -> str:
    """Return the Authorization header of a PUT without a query; it covers the host and every `x-goog-` header."""
    parts = urlsplit(url)
    signed = {name.lower(): " ".join(value.split()) for name, value in headers.items() if _is_signed(name)}
    signed["host"] = parts.netloc
    names = ";".join(sorted(signed))
    lines = [f"{name}:{signed[name]}" for name in sorted(signed)]
    canonical = "\n".join(["PUT", parts.path, "", *lines, "", names, signed["x-goog-content-sha256"]])
    stamp = signed["x-goog-date"]
    scope = f"{stamp[:8]}/auto/storage/goog4_request"
    text = "\n".join(["GOOG4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"GOOG4{secret}".encode()
    for word in scope.split("/"):
        key = hmac.digest(key, word.encode(), "sha256")
    proof = hmac.digest(key, text.encode(), "sha256").hex()
    return f"GOOG4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={names}, Signature={proof}"


def _bytes(body: Any) -> bytes:
    if not hasattr(body, "read"):
        return body or b""
    start = body.tell()
    data: bytes = body.read()
    body.seek(start)
    return data


def _is_signed(name: str) -> bool:
    return name.lower().startswith("x-goog-") or name.lower() in ("content-md5", "content-type")
