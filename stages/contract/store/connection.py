"""A connection to a server, and of HTTP/1.1 what S3 answers with: a head, a body whose end is known, nothing else.

`http.client` reads headers by the rules of e-mail, which takes longer than all else that a small object needs, and
forgives what it should not. Here an answer is taken as RFC 9112 has it or refused: a refused one costs another request,
a misread one an object. A connection that an answer was refused on is never used again.
"""

from __future__ import annotations

import hashlib
import select
import socket
import ssl
import string
import sys
from base64 import b64encode
from collections.abc import Mapping
from io import BytesIO
from typing import NamedTuple, Protocol

Data = bytes | memoryview

READ_BYTES = 64 << 10
"""Asked for at once where nobody knows yet how many come: a small object with its head."""
SENT_BYTES = 256 << 10
"""Of a body at once; the timeout holds for each, and between two of them an early refusal is seen."""
HEAD_BYTES = 32 << 10
"""Of status and headers at most: S3's own limit for those that users choose is 8 KiB."""
HEADERS = 128
INTERIM = 8
"""Answers of the kind 1xx before the one that was asked for, at most."""
GROWTH_BYTES = 16 << 20
"""Memory given to a body at once: no more is lost to a length that is a lie."""
ONCE = ("connection", "content-encoding", "content-length", "content-range", "etag", "transfer-encoding")
"""Headers that decide something: of two, nobody can tell which is meant."""
CHECKSUMS = "x-amz-checksum-"
TOKEN = f"!#$%&'*+-.^_`|~{string.digits}{string.ascii_letters}".encode()
CONTROL = bytes({*range(32), 127} - {ord("\t")})


class Garbled(Exception):
    """An answer that is not what it should be, or not whole. Asked again, the server may do better."""


class Answer(NamedTuple):
    """What came."""

    status: int
    headers: Mapping[str, str]
    """By name in lower case."""
    body: bytes

    @property
    def is_whole(self) -> bool:
        """Whether it is S3's, of a whole object, and its body the one its checksum is of, where it came with one."""
        if self.status != 200 or "etag" not in self.headers:
            return False
        given = self.headers.get("x-amz-checksum-sha256", "-")
        return "-" in given or given == b64encode(hashlib.sha256(self.body).digest()).decode()


class Head(NamedTuple):
    """An answer's status and headers."""

    status: int
    headers: dict[str, str]
    is_last: bool
    """Whether the server closes the connection behind it."""

    def length(self, method: str) -> int | None:
        """Return how many bytes the body has that follows; None where it comes in chunks."""
        if method == "HEAD" or self.status < 200 or self.status in (204, 304):
            return 0
        coding, length = self.headers.get("transfer-encoding"), self.headers.get("content-length")
        if coding is not None:
            if coding.lower() != "chunked" or length is not None:
                raise Garbled(f"Transfer-Encoding {coding!r}, Content-Length {length!r}")
            return None
        if length is None or not _is_number(length, string.digits):
            raise Garbled(f"Content-Length {length!r}")
        return int(length)


class Source(Protocol):
    """What bytes come from: a socket."""

    def recv(self, size: int, /) -> bytes:
        """Return some bytes, at most `size`; none at the end."""
        ...

    def recv_into(self, buffer: memoryview, /) -> int:
        """Put some bytes into the buffer; return how many, 0 at the end."""
        ...


class Incoming:
    """The bytes of a connection, read answer by answer. `Garbled` for all that is not one, and where it breaks off."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.ahead = b""
        """What came behind that which was read."""

    def head(self) -> Head:
        """Return the next answer's, without those of the kind 1xx before it."""
        for _ in range(INTERIM + 1):
            head = parse_head(self._until(b"\r\n\r\n", HEAD_BYTES))
            if head.status >= 200:
                return head
            if head.status == 101:
                break
        raise Garbled(f"status {head.status}, which nobody asked for")

    def body(self, length: int | None) -> bytes:
        """Return the body of a head that was just read; `length` is what the head says of it."""
        if length is None:
            return self._chunked()
        if length <= len(self.ahead):
            body, self.ahead = self.ahead[:length], self.ahead[length:]
            return body
        if length <= GROWTH_BYTES:
            return self._bytes(length)
        parts = [self._bytes(min(GROWTH_BYTES, length - start)) for start in range(0, length, GROWTH_BYTES)]
        return b"".join(parts)

    def _chunked(self) -> bytes:
        parts = []
        while size := self._size():
            parts += [self._bytes(min(GROWTH_BYTES, size - start)) for start in range(0, size, GROWTH_BYTES)]
            if self._bytes(2) != b"\r\n":
                raise Garbled("a chunk longer than it says")
        for _ in range(HEADERS):  # trailers: they say nothing that is needed
            if not (line := self._until(b"\r\n", HEAD_BYTES)):
                return b"".join(parts)
            _field(line)
        raise Garbled("trailers without end")

    def _size(self) -> int:
        """Return how long the next chunk is."""
        size = self._until(b"\r\n", HEAD_BYTES).partition(b";")[0].rstrip(b" \t").decode("latin-1")
        if not _is_number(size, string.hexdigits):
            raise Garbled(f"a chunk of {size!r}")
        return int(size, 16)

    def _until(self, end: bytes, limit: int) -> bytes:
        """Return what comes before `end`, and drop that."""
        data = self.ahead
        while (place := data.find(end)) < 0:
            # A server that ends its lines in another way would be waited for until the timeout.
            if len(data) > limit or data.count(b"\n") != data.count(b"\r\n"):
                break
            data += self._some()
        if not 0 <= place <= limit:
            raise Garbled(f"no end within {limit} bytes")
        self.ahead = data[place + len(end) :]
        return data[:place]

    def _bytes(self, count: int) -> bytes:
        """Return exactly so many bytes, and copy none of those that are still to come."""
        whole = BytesIO(bytes(count))
        with whole.getbuffer() as view:
            place = min(count, len(self.ahead))
            view[:place] = self.ahead[:place]
            self.ahead = self.ahead[place:]
            while place < count:
                got = self._source.recv_into(view[place:])
                if not got:
                    raise Garbled(f"{count - place} bytes are missing")
                place += got
        return whole.getvalue()

    def _some(self) -> bytes:
        if data := self._source.recv(READ_BYTES):
            return data
        raise Garbled("the connection ended in the middle of an answer")


class Connection:
    """A connection of one thread at a time, opened when it is first used."""

    def __init__(self, scheme: str, place: str, timeout: float, trust: ssl.SSLContext | None = None) -> None:
        host, _, port = place.rpartition(":") if place[-1:].isdigit() and ":" in place else (place, "", "")
        self._address = host.strip("[]"), int(port or (443 if scheme == "https" else 80))
        self._timeout, self._trust = timeout, trust
        self._socket: socket.socket | None = None

    def exchange(self, method: str, target: str, headers: Mapping[str, str], data: Data = b"") -> Answer | None:
        """Send a request; return the answer where it is one to it, and else None: the connection is spent.

        Raises `OSError` and `Garbled`, and then it is spent as well.
        """
        opened = self._socket = self._socket or self._open()
        if method == "PUT":
            headers = {**headers, "Content-Length": f"{len(data)}"}
        if not self._send(opened, _spell(method, target, headers), data):
            return None
        incoming = Incoming(opened)
        head = incoming.head()
        # What was to be a range and is not may be gigabytes: it is not read.
        is_range = head.status != 200 or "Range" not in headers
        if head.headers.get("content-encoding", "identity") not in ("identity", "aws-chunked") or not is_range:
            return None
        answer = Answer(head.status, head.headers, incoming.body(head.length(method)))
        if incoming.ahead:
            raise Garbled("more than one answer, or a longer one than it says")
        if head.is_last:
            self.close()
        return answer

    def is_spent(self) -> bool:
        """Whether something came that was not asked for: the end of the connection, or an answer too many."""
        if self._socket is None:
            return False
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        return _has_news(self._socket)

    def close(self) -> None:
        """Close it; used again, it is opened again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open(self) -> socket.socket:
        plain = socket.create_connection(self._address, self._timeout)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._trust is None:
                return plain
            return self._trust.wrap_socket(plain, server_hostname=self._address[0])
        except BaseException:
            plain.close()
            raise

    def _send(self, opened: socket.socket, head: bytes, data: Data) -> bool:
        """Send a request; False where an answer came before its end."""
        sys.audit("http.client.send", self, head)  # as Python's own client lets a process's requests be watched
        if len(data) <= SENT_BYTES:
            opened.sendall(head + bytes(data) if data else head)
            return True
        opened.sendall(head)
        view = memoryview(data)
        for start in range(0, len(view), SENT_BYTES):
            if start and _has_news(opened):
                return False
            opened.sendall(view[start : start + SENT_BYTES])
        return True


def parse_head(data: bytes) -> Head:
    """Return what status line and headers say, given without the blank line behind them; `Garbled` for any fault."""
    status, *lines = data.split(b"\r\n")
    version, number, _ = (*status.split(b" ", 2), b"")[:3]
    if version not in (b"HTTP/1.1", b"HTTP/1.0") or not (len(number) == 3 and number.isdigit() and number >= b"100"):
        raise Garbled(f"status line {status[:80]!r}")
    if len(lines) > HEADERS or len(status.translate(None, CONTROL)) != len(status):
        raise Garbled(f"{len(lines)} headers, or a status line with control characters")
    headers: dict[str, str] = {}
    for line in lines:
        name, value = _field(line)
        if name in headers:
            if name in ONCE or name.startswith(CHECKSUMS):
                raise Garbled(f"{name} twice")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    is_last = version == b"HTTP/1.0" or "close" in headers.get("connection", "").lower()
    return Head(int(number), headers, is_last)


def _field(line: bytes) -> tuple[str, str]:
    """Return a header's name in lower case and its value; a line that goes on with the one before it is refused."""
    name, colon, value = line.partition(b":")
    if not colon or not name or name.translate(None, TOKEN) or len(value.translate(None, CONTROL)) != len(value):
        raise Garbled(f"header {line[:80]!r}")
    return name.decode().lower(), value.strip(b" \t").decode("latin-1")


def _is_number(text: str, digits: str) -> bool:
    return 0 < len(text) <= 16 and all(each in digits for each in text)


def _spell(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1 or not text.isascii():
        raise Garbled("a header to be sent is not one line of ASCII")
    return text.encode()


def _has_news(opened: socket.socket) -> bool:
    poll = select.poll()
    poll.register(opened, select.POLLIN)
    return bool(poll.poll(0))
