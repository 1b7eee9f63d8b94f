"""What a server may do to one request beyond S3's own errors, each as what the proxy does with the answer it has.

A fault here happens to one request at a time; the same request, sent again, is answered as it should be.
"""

from __future__ import annotations

import calendar
import gzip
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.proxy import Reply

HTML = b"<html><body><h1>Bad Gateway</h1>\n<hr>nginx</body></html>"
INSTEAD: dict[str, tuple[int, bytes]] = {
    "error 429": (429, b""),
    "error 500 without a body": (500, b""),
    "error 502 as a web page": (502, HTML),
    "error 504 as a web page": (504, HTML),
    "error that is no XML": (503, b"<Error><Code>Slow"),
    "success as a web page": (200, HTML),
    "success with an error in it": (200, b"<Error><Code>InternalError</Code><Message>late</Message></Error>"),
    "request timeout": (400, b"<Error><Code>RequestTimeout</Code><Message>slow</Message></Error>"),
    "redirection": (307, b"<Error><Code>TemporaryRedirect</Code><Message>elsewhere</Message></Error>"),
    "early hints and no more": (103, b""),
    "success without a body": (200, b""),
    "no content": (204, b""),
    "request timeout of a proxy": (408, b""),
    "status that is none": (999, b""),
    "signature refused once": (403, b"<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>"),
    "time refused once": (403, b"<Error><Code>RequestTimeTooSkewed</Code><Message>no</Message></Error>"),
}
"""Status and body of an answer in the server's stead; the server never sees the request."""

Change = Callable[["Reply"], "Reply"]


def _without(*names: str) -> Change:
    def change(reply: Reply) -> Reply:
        kept = {name: value for name, value in reply.headers.items() if not name.lower().startswith(names)}
        return reply._replace(headers=kept)

    return change


def _with(**headers: str) -> Change:
    made = {name.replace("_", "-"): value for name, value in headers.items()}

    def change(reply: Reply) -> Reply:
        kept = {name: value for name, value in reply.headers.items() if name.lower() not in made}
        return reply._replace(headers={**kept, **{n: v for n, v in made.items() if _has(reply, n)}})

    return change


def _has(reply: Reply, name: str) -> bool:
    return name in {each.lower() for each in reply.headers} or name == "content-encoding"


def _shifted(reply: Reply) -> Reply:
    """The range that begins one byte later."""
    return reply._replace(
        body=reply.body[1:],
        headers={
            name: re.sub(r"bytes (\d+)-", lambda found: f"bytes {int(found[1]) + 1}-", value)
            if name.lower() == "content-range"
            else value
            for name, value in reply.headers.items()
        },
    )


def _denied(reply: Reply) -> Reply:
    return reply._replace(status=404, headers={}, body=b"<Error><Code>NoSuchKey</Code><Message>no</Message></Error>")


def _beyond(reply: Reply) -> Reply:
    return reply._replace(status=416, headers={}, body=b"<Error><Code>InvalidRange</Code><Message>no</Message></Error>")


def _half(reply: Reply) -> Reply:
    """As if a range had been asked for, where none was."""
    if reply.status != 200:
        return reply
    headers = {name: value for name, value in reply.headers.items() if not name.lower().startswith("x-amz-checksum")}
    size = len(reply.body)
    headers["Content-Range"] = f"bytes 0-{size // 2 - 1}/{size}"
    return reply._replace(status=206, headers=headers, body=reply.body[: size // 2])


def _from_the_start(reply: Reply) -> Reply:
    size = len(reply.body)
    return reply._replace(status=206, headers={**reply.headers, "Content-Range": f"bytes 0-{size - 1}/{size}"})


def _without_range(reply: Reply) -> Reply:
    return _without("content-range")(reply)._replace(status=200)


def _compressed(reply: Reply) -> Reply:
    return reply._replace(headers={**reply.headers, "Content-Encoding": "gzip"}, body=gzip.compress(reply.body))


def _cut_listing(reply: Reply) -> Reply:
    return reply._replace(body=reply.body[: len(reply.body) // 2])


def _doubled_listing(reply: Reply) -> Reply:
    twice = re.sub(rb"(<Contents>.*?</Contents>)", rb"\1\1", reply.body, flags=re.S)
    return reply._replace(body=twice)


def _shuffled_listing(reply: Reply) -> Reply:
    rows = re.findall(rb"<Contents>.*?</Contents>", reply.body, flags=re.S)
    return reply._replace(body=reply.body.replace(b"".join(rows), b"".join(reversed(rows)))) if rows else reply


def _endless_listing(reply: Reply) -> Reply:
    """More is said to come, and not how to ask for it."""
    return reply._replace(body=reply.body.replace(b"<IsTruncated>false", b"<IsTruncated>true"))


def _undated_listing(reply: Reply) -> Reply:
    return reply._replace(body=re.sub(rb"<LastModified>[^<]*", b"<LastModified>2026-13-45Tx", reply.body))


def _other_listing(reply: Reply) -> Reply:
    """The first key is of another prefix: a bit of it flipped on the way."""
    return reply._replace(body=re.sub(rb"<Contents><Key>.", b"<Contents><Key>\x7e", reply.body, count=1))


CHANGES: dict[str, Change] = {
    "no ETag": _without("etag"),
    "another ETag": _with(etag='"0123456789abcdef0123456789abcdef"'),
    "no checksums": _without("x-amz-checksum"),
    "another checksum": _with(x_amz_checksum_sha256="A" * 43 + "=", x_amz_checksum_crc32="AAAAAA=="),
    "a date that is none": _with(last_modified="yesterday"),
    "a compressed answer": _compressed,
}
"""Success, its headers not as they were."""
OF_READS: dict[str, Change] = {
    "range shifted": _shifted,
    "range without numbers": _with(content_range="bytes 0-1/*"),
    "range of nothing": _beyond,
    "object not there yet": _denied,
    "half where the whole was asked for": _half,
    "range from the start": _from_the_start,
    "range as if it were the whole": _without_range,
}
"""What happens to the reading of an object."""
OF_LISTS: dict[str, Change] = {
    "listing cut": _cut_listing,
    "listing with its rows twice": _doubled_listing,
    "listing out of order": _shuffled_listing,
    "listing without a next page": _endless_listing,
    "listing with dates that are none": _undated_listing,
    "listing of another prefix": _other_listing,
}
WAYS = {
    "no length, in chunks": "chunked",
    "no length, to the end": "close-delimited",
    "connection closed and said": "closes",
    "connection closed and not said": "hangs up",
    "closed without a word": "nothing",
    "too long": "long",
    "two answers": "twice",
    "headers twice": "doubled",
    "byte by byte": "drip",
    "silence": "silence",
    "half, then silence": "stalls",
    "in chunks, with trailers": "trailers",
    "in chunks that break off": "unended",
    "a length too short by one": "short",
    "a length too long by one": "lacking",
    "asked to go on first": "continues",
    "early hints first": "hints",
    "lines without returns": "bare",
    "a header over two lines": "folded",
    "no HTTP at all": "garbage",
    "closed as the next request comes": "closes late",
}
"""How an answer gets on its way."""
STAYS = ("chunked", "trailers", "doubled", "drip", "short", "continues", "hints", "bare", "folded")
"""Ways after which the connection is kept."""


def write(way: str, head: bytes, headers: list[tuple[str, str]], body: bytes) -> list[bytes]:
    """Return what goes over the connection, in the pieces it goes in."""
    if way == "chunked":
        framed = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in _parts(body)) + b"0\r\n\r\n"
        return [head + _lines([*headers, ("transfer-encoding", "chunked")]) + framed]
    if way == "close-delimited":
        return [head.replace(b"HTTP/1.1", b"HTTP/1.0") + _lines(headers) + body]
    if way in ("trailers", "unended"):
        framed = b"".join(b"%x;a=b\r\n%s\r\n" % (len(part), part) for part in _parts(body))
        end = b"0\r\nx-amz-checksum-crc32: AAAAAA==\r\n\r\n" if way == "trailers" else b""
        return [head + _lines([*headers, ("transfer-encoding", "chunked")]) + framed + end]
    if way in ("short", "lacking"):
        size = max(0, len(body) + (1 if way == "lacking" else -1))
        return [head + _lines([*headers, ("Content-Length", str(size))]) + body]
    sized = [*headers, ("Content-Length", str(len(body)))]
    if way == "closes":
        return [head + _lines([*sized, ("Connection", "close")]) + body]
    if way == "doubled":
        return [head + _lines([*sized, *((name.lower(), value) for name, value in sized)]) + body]
    whole = head + _lines(sized) + body
    if way == "long":
        return [whole + b"and more than was said\r\n"]
    if way in _BEFORE:
        return [_BEFORE[way] + whole]
    if way == "bare":
        return [(head + _lines(sized)).replace(b"\r\n", b"\n") + body]
    if way == "folded":
        return [head + _lines([*sized, ("X-Folded", "over\r\n two lines")]) + body]
    if way == "garbage":
        return [b"\x16\x03\x01\x02 what a server of another protocol says\r\n\r\n"]
    if way == "stalls":
        return [whole[: len(whole) - max(1, len(body) // 2)]]
    if way == "twice":
        return [whole + whole]
    if way == "drip":
        return [bytes([byte]) for byte in whole[:400]] + [whole[400:]]
    return [whole]


_BEFORE = {
    "continues": b"HTTP/1.1 100 Continue\r\n\r\n" * 2,
    "hints": b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n",
}


def _lines(headers: list[tuple[str, str]]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers).encode("latin-1") + b"\r\n"


def _parts(body: bytes) -> list[bytes]:
    return [body[start : start + 1000] for start in range(0, len(body), 1000)]


def wait(seconds: float, until: Callable[[], bool]) -> None:
    """Say nothing until the client gives up, or so long."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and not until():
        time.sleep(0.01)


def is_skewed(headers: dict[str, str], ahead: float | None) -> bool:
    """Whether a request was signed too far from a clock that is so many seconds before this machine's."""
    stamp = {name.lower(): value for name, value in headers.items()}.get("x-amz-date")
    if ahead is None or stamp is None:
        return False
    return abs(calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ")) - time.time() - ahead) > 900


def unlisted(listing: bytes, keys: list[str]) -> bytes:
    """Return a listing that does not show these keys yet."""
    for key in keys:
        listing = re.sub(
            rb"<Contents><Key>" + re.escape(key.encode()) + rb"</Key>.*?</Contents>", b"", listing, flags=re.S
        )
    return listing
