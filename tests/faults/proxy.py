"""A faulty network and a faulty S3: an HTTP proxy in front of the tests' server, with a seeded plan of what goes wrong.

Faults that pass come at random, most of them one at a time, some as storms. Faults that stay (`refuse`) are those that
only somebody can cure: expired credentials, a wrong clock, a bucket nobody may read. One fault can be ordered for a
certain request (`order`), among them to hold the answer until the client has been killed.
"""

from __future__ import annotations

import http.client
import random
import re
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.faults import answers

UPLOADS, READS, ANY = {"PUT", "POST"}, {"GET"}, {"GET", "PUT", "POST", "DELETE", "HEAD"}
KINDS: dict[str, set[str]] = {
    "error 500": ANY,
    "error 503": ANY,
    "slow down": ANY,
    "storm": ANY,
    "reset": ANY,
    "reset in the middle of a body": UPLOADS,
    "lost reply": ANY,
    "lost reply, error instead": UPLOADS,
    "body cut on its way up": {"PUT"},
    "body altered on its way up": {"PUT"},
    "body cut on its way down": READS,
    "body altered on its way down": READS,
    "slow link": UPLOADS | READS,
    "listing that lags": READS,
    "delivered twice": {"PUT", "DELETE"},
    "delivered late": {"PUT"},
    **dict.fromkeys(answers.INSTEAD, ANY),
    **dict.fromkeys(answers.CHANGES, ANY),
    **dict.fromkeys(answers.OF_READS, READS),
    **dict.fromkeys(answers.OF_LISTS, READS),
    **dict.fromkeys(answers.WAYS, ANY),
}
"""Every fault that passes, and the methods it can happen to."""
COSTLY = {"silence": 0.02, "half, then silence": 0.02}
"""How often those are drawn that cost seconds, beside others."""
OF_OBJECTS = {"body altered on its way down", *answers.OF_READS}
OF_LISTS = {"listing that lags", *answers.OF_LISTS}
STORM = 4
"""Requests that a storm refuses, one after the other."""
LAG = 3
"""The newest objects that a lagging listing does not show."""
SILENCE = 30.0
"""Seconds without an answer, where the client waits so long."""
CHANGES = answers.CHANGES | answers.OF_READS | answers.OF_LISTS
LOST_UPLOAD = "lost upload"
"""A piece comes, and the server knows of no upload that it is of."""
HELD_BEFORE, HELD_AFTER = "held before it is done", "held after it is done"
"""A request that gets no answer until its client is dead: the server behind has not seen it, or has."""


class Order(NamedTuple):
    """What happens to one request: the `number`-th, from 0, of those with these methods."""

    number: int
    kind: str
    methods: frozenset[str] = frozenset(ANY)


class Reply(NamedTuple):
    """An answer from the server behind, or one in its stead."""

    status: int
    headers: dict[str, str]
    body: bytes


class Plan:
    """Draws what happens to each request, and counts it."""

    def __init__(self, seed: int, rate: float) -> None:
        self.rate = rate
        self.counts: Counter[str] = Counter()
        self.kinds = set(KINDS)
        """Those that are drawn."""
        self._random, self._lock, self._storm = random.Random(seed), threading.Lock(), 0

    def draw(self, method: str, *, is_object: bool, is_list: bool) -> str | None:
        """Return the kind of fault that happens to a request, or None."""
        with self._lock:
            if self._storm:
                self._storm -= 1
                self.counts["storm"] += 1
                return "storm"
            if self._random.random() >= self.rate:
                return None
            kind = self._random.choice([kind for kind in KINDS if method in KINDS[kind] and kind in self.kinds])
            # Without encryption nothing tells of an altered listing; of an altered object its checksum does.
            if (kind in OF_OBJECTS and not is_object) or (kind in OF_LISTS and not is_list):
                return None
            if self._random.random() >= COSTLY.get(kind, 1):
                return None
            if kind == "storm":
                self._storm = self._random.randrange(STORM)
            self.counts[kind] += 1
            return kind

    def place(self, size: int) -> int:
        """Return where in a body of `size` bytes it happens."""
        with self._lock:
            return self._random.randrange(size)


class FaultyS3:
    """A context manager; `url` is the endpoint of the proxy in front of `server_url`."""

    def __init__(self, server_url: str, seed: int = 0, rate: float = 0.2) -> None:
        self.behind = urlsplit(server_url).netloc
        self.plan = Plan(seed, rate)
        self.refuse: str | None = None
        """Code of the error that every upload is refused with, until it is None again."""
        self.refuse_after = 0
        """Uploads that go well before."""
        self.skew: float | None = None
        """Seconds that the server's clock is before this machine's, where it looks."""
        self.port = 0
        """Entered again, it is where it was."""
        self.keys: list[str] = []
        """Of the access key in each request."""
        self.connections: list[socket.socket] = []
        self.newest: list[str] = []
        self.late: list[tuple[str, str, dict[str, str], bytes]] = []
        """Requests the server has not seen yet, though their client has had an answer."""
        self.held = threading.Event()
        """Set when a request is held."""
        self._let_go, self._lock, self._busy = threading.Event(), threading.Lock(), 0
        self.place(None)

    def place(self, order: Order | None) -> None:
        """Order a fault; requests count from here."""
        self.order, self.seen = order, 0
        self.held.clear()
        self._let_go.clear()

    def calm(self) -> None:
        """Disturb nothing from here on."""
        self.plan.rate = 0

    def settle(self) -> None:
        """Let a held request go, and wait until no request of a dead client is on its way any more."""
        self._let_go.set()
        while self._busy:
            time.sleep(0.001)

    def hold(self) -> None:
        """Keep a request waiting until `settle`."""
        self.held.set()
        self._let_go.wait(60)

    @contextmanager
    def handling(self, method: str) -> Iterator[str | None]:
        """Count a request; give what is ordered to happen to it."""
        with self._lock:
            self._busy += 1
            is_it = False
            if self.order and method in self.order.methods:
                is_it = self.seen == self.order.number
                self.seen += 1
        try:
            yield self.order.kind if self.order and is_it else None
        finally:
            with self._lock:
                self._busy -= 1

    def __enter__(self) -> FaultyS3:
        front = self

        class Bound(_Handler):
            proxy = front

        self._server = _Server(("127.0.0.1", self.port), Bound)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        for connection in self.connections:
            with suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)
        self.connections.clear()

    def take_late(self, target: str) -> list[tuple[str, str, dict[str, str], bytes]]:
        """Return what is to be delivered of a target, now that a later request for it has been."""
        with self._lock:
            due = [request for request in self.late if request[1] == target]
            self.late = [request for request in self.late if request[1] != target]
        return due

    def forward(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Reply:
        """Return what the server behind answers."""
        self.keys += re.findall("Credential=([^/]*)/", headers.get("Authorization", ""))
        with closing(http.client.HTTPConnection(self.behind, timeout=60)) as connection:
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            data = answer.read()
        if method == "PUT" and answer.status == 200 and "?" not in target:
            self.newest = [*self.newest[-LAG + 1 :], target.split("/", 2)[-1]]
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in HOP}
        return Reply(answer.status, kept, data)


HOP = ("connection", "transfer-encoding", "content-length", "server", "keep-alive")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    proxy: FaultyS3

    def setup(self) -> None:
        """Remember the connection, for a server that goes away."""
        super().setup()
        self.proxy.connections.append(self.connection)

    def handle_expect_100(self) -> bool:
        """Ask for the body at once; the client waits."""
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def _any(self) -> None:
        with self.proxy.handling(self.command) as ordered:
            self._handle(ordered)

    def _handle(self, ordered: str | None) -> None:
        proxy, method = self.proxy, self.command
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:  # its client died while it wrote
            self.close_connection = True
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        if proxy.refuse and method in UPLOADS:
            proxy.refuse_after -= 1
            if proxy.refuse_after < 0:
                self._send(_error(403, proxy.refuse))
                return
        if answers.is_skewed(headers, proxy.skew):
            proxy.plan.counts["skewed"] += 1
            self._send(_error(403, "RequestTimeTooSkewed", proxy.skew or 0))
            return
        is_list = "list-type=2" in self.path
        is_object = not is_list and len(self.path.split("/")) > 3
        if (ordered in OF_LISTS and not is_list) or (ordered in OF_OBJECTS and not is_object):
            ordered = None
        kind = ordered or proxy.plan.draw(method, is_object=is_object, is_list=is_list)
        if kind == "body altered on its way up":
            body = self._altered(body)
        if self._before(kind):
            return
        request = (method, self.path, headers, body)
        if kind == "delivered late":
            proxy.late.append(request)
            self._send(_error(503, "ServiceUnavailable"))
            return
        if kind == LOST_UPLOAD:
            empty = {name: value for name, value in headers.items() if name.lower() != "content-length"}
            proxy.forward("DELETE", re.sub(r"partNumber=\d+&", "", self.path), empty, b"")
        reply = proxy.forward(*request)
        if kind == "delivered twice":
            reply = proxy.forward(*request)
        for delayed in proxy.take_late(self.path):
            proxy.forward(*delayed)
        self._after(kind, reply)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any

    def _before(self, kind: str | None) -> bool:
        """Do what goes wrong before the server has seen the request; True where it never does."""
        errors = {"error 500": (500, "InternalError"), "error 503": (503, "ServiceUnavailable")}
        errors |= {"slow down": (503, "SlowDown"), "storm": (503, "SlowDown")}
        errors |= {"body cut on its way up": (400, "IncompleteBody")}
        if kind in errors:
            self._send(_error(*errors[kind]))
        elif kind in answers.INSTEAD:
            status, body = answers.INSTEAD[kind]
            self._send(Reply(status, {"Content-Type": "text/html"}, body))
        elif kind in ("reset", "reset in the middle of a body"):
            self._reset()
        elif kind == HELD_BEFORE:
            self.proxy.hold()
            self._reset()
        else:
            return False
        return True

    def _after(self, kind: str | None, reply: Reply) -> None:
        """Do what goes wrong with the server's answer."""
        if kind == HELD_AFTER:
            self.proxy.hold()
        if kind in (HELD_AFTER, "lost reply"):
            self._reset()
        elif kind == "lost reply, error instead":
            self._send(_error(500, "InternalError"))
        elif kind in answers.WAYS:
            self._write(answers.WAYS[kind], reply)
        elif kind in CHANGES and (kind in answers.CHANGES or reply.status in (200, 206)):
            self._send(CHANGES[kind](reply))
        elif kind == "body cut on its way down" and reply.body:
            self._send(reply, keep=self.proxy.plan.place(len(reply.body)))
            self._reset()
        elif kind == "body altered on its way down" and reply.status in (200, 206):
            self._send(reply._replace(body=self._altered(reply.body)))
        elif kind == "listing that lags":
            self._send(reply._replace(body=answers.unlisted(reply.body, self.proxy.newest)))
        else:
            self._send(reply, slowly=kind == "slow link")

    def _write(self, way: str, reply: Reply) -> None:
        """Send an answer in a way of its own."""
        if way == "silence":
            answers.wait(SILENCE, self._is_left)
        elif way != "nothing":
            head = f"HTTP/1.1 {reply.status} X\r\n".encode()
            body = b"" if self.command == "HEAD" else reply.body
            for data in answers.write(way, head, list(reply.headers.items()), body):
                self.wfile.write(data)
                self.wfile.flush()
        if way in ("stalls", "closes late"):
            answers.wait(SILENCE, self._is_left)
        if way == "closes late":
            self._reset()
        if way not in answers.STAYS:
            self.close_connection = True

    def _is_left(self) -> bool:
        """Whether the client has given up."""
        return bool(select.select([self.connection], [], [], 0)[0])

    def _altered(self, body: bytes) -> bytes:
        if not body:
            return body
        place = self.proxy.plan.place(len(body) * 8)
        changed = bytearray(body)
        changed[place // 8] ^= 1 << place % 8
        return bytes(changed)

    def _send(self, reply: Reply, *, keep: int | None = None, slowly: bool = False) -> None:
        self.send_response_only(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if self.command != "HEAD" or "Content-Length" not in reply.headers:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        body = b"" if self.command == "HEAD" else reply.body[:keep]
        step = max(1, len(body) // 4) if slowly else max(1, len(body))
        for start in range(0, len(body), step):
            self.wfile.write(body[start : start + step])
            if slowly:
                self.wfile.flush()
                time.sleep(0.01)

    def _reset(self) -> None:
        """Close the connection so that the other side sees a reset."""
        self.wfile.flush()
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, *_: object) -> None:
        """Keep the test's output for the test."""


def _error(status: int, code: str, ahead: float = -3600) -> Reply:
    body = f"<Error><Code>{code}</Code><Message>ordered by a test</Message></Error>".encode()
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + ahead))
    return Reply(status, {"Content-Type": "application/xml", "Date": date}, body)
