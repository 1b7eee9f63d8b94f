"""Answers as they come over a connection: whole ones are read, however they are cut; all others are refused."""

from __future__ import annotations

import itertools
import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.contract.store.connection import (
    HEAD_BYTES,
    HEADERS,
    INTERIM,
    SENT_BYTES,
    Answer,
    Connection,
    Garbled,
    Incoming,
    parse_head,
)

NAMES = st.text("abcXYZ019-_!~", min_size=1, max_size=12).map(lambda name: f"x-{name}")
VALUES = st.text("".join(map(chr, (*range(33, 127), *range(160, 256)))), max_size=20)
FIELDS = st.dictionaries(NAMES.map(str.lower), VALUES, max_size=6)
BODIES = st.binary(max_size=200)
CUTS = st.lists(st.integers(1, 40), max_size=30)


class Trickle:
    """A source of bytes that gives them in pieces of these sizes, and then as many as are asked for."""

    def __init__(self, data: bytes, cuts: list[int]) -> None:
        self.data, self.cuts = data, iter(cuts)

    def recv(self, size: int, /) -> bytes:
        count = min(size, next(self.cuts, size))
        given, self.data = self.data[:count], self.data[count:]
        return given

    def recv_into(self, buffer: memoryview, /) -> int:
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def spell(fields: dict[str, str], status: int = 200) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def chunked(body: bytes, sizes: list[int], trailer: bytes = b"") -> bytes:
    found, place, sizes = b"", 0, [*sizes, len(body)]
    for size in sizes:
        if part := body[place : place + size]:
            found += b"%x;name=value\r\n%s\r\n" % (len(part), part)
        place += size
    return found + b"0\r\n" + trailer + b"\r\n"


def read(data: bytes, cuts: list[int], method: str = "GET") -> tuple[Answer, bytes]:
    """Return the first answer, and what is left behind it."""
    source = Trickle(data, cuts)
    incoming = Incoming(source)
    head = incoming.head()
    body = incoming.body(head.length(method))
    return Answer(head.status, head.headers, body), incoming.ahead + source.data


@given(FIELDS, BODIES, CUTS, st.integers(200, 599))
def test_an_answer_is_the_same_however_it_is_cut(
    fields: dict[str, str], body: bytes, cuts: list[int], status: int
) -> None:
    has_body = status not in (204, 304)
    data = spell({**fields, "Content-Length": f"{len(body)}"}, status) + (body if has_body else b"")
    answer, rest = read(data, cuts)
    assert (answer.status, answer.body, rest) == (status, body if has_body else b"", b"")
    assert answer.headers == {**fields, "content-length": f"{len(body)}"}


@given(BODIES, st.lists(st.integers(1, 50), max_size=8), CUTS, st.sampled_from([b"", b"x-sum: 1\r\n"]))
def test_an_answer_in_chunks_is_put_together(body: bytes, sizes: list[int], cuts: list[int], trailer: bytes) -> None:
    data = spell({"Transfer-Encoding": "Chunked"}) + chunked(body, sizes, trailer)
    assert read(data + b"next", cuts) == (Answer(200, {"transfer-encoding": "Chunked"}, body), b"next")


@given(st.lists(st.sampled_from([100, 102, 103]), max_size=INTERIM), BODIES, CUTS)
def test_words_before_the_answer_are_passed_over(before: list[int], body: bytes, cuts: list[int]) -> None:
    data = b"".join(spell({"x-note": "soon"}, status) for status in before)
    answer, rest = read(data + spell({"Content-Length": f"{len(body)}"}) + body, cuts)
    assert (answer.status, answer.body, rest) == (200, body, b"")


@given(st.sampled_from([("HEAD", 200), ("HEAD", 404), ("GET", 204), ("GET", 304)]), CUTS)
def test_some_answers_have_no_body_whatever_they_say(what: tuple[str, int], cuts: list[int]) -> None:
    method, status = what
    answer, rest = read(spell({"Content-Length": "7"}, status) + b"HTTP/1.1 next", cuts, method)
    assert (answer.status, answer.body, rest) == (status, b"", b"HTTP/1.1 next")


@given(BODIES, st.lists(st.integers(1, 50), max_size=8), CUTS, st.booleans(), st.data())
def test_an_answer_that_breaks_off_is_refused(
    body: bytes, sizes: list[int], cuts: list[int], in_chunks: bool, data: st.DataObject
) -> None:
    sized = spell({"Content-Length": f"{len(body)}"}) + body
    whole = spell({"Transfer-Encoding": "chunked"}) + chunked(body, sizes) if in_chunks else sized
    with pytest.raises(Garbled):
        read(whole[: data.draw(st.integers(0, len(whole) - 1))], cuts)


@given(st.binary(max_size=300), CUTS)
def test_noise_is_refused_and_nothing_worse(noise: bytes, cuts: list[int]) -> None:
    for before in (b"", b"HTTP/1.1 200 OK\r\n", spell({"Transfer-Encoding": "chunked"})):
        try:
            answer, _ = read(before + noise, cuts)
        except Garbled:
            continue
        assert len(answer.body) <= len(noise)


@given(FIELDS, BODIES, st.data())
def test_a_byte_of_the_head_that_is_altered_changes_no_more_than_its_line(
    fields: dict[str, str], body: bytes, data: st.DataObject
) -> None:
    head = spell({**fields, "Content-Length": f"{len(body)}"})
    changed = bytearray(head)
    changed[data.draw(st.integers(0, len(head) - 1))] = data.draw(st.integers(0, 255))
    try:
        answer, _ = read(bytes(changed) + body, [])
    except Garbled:
        return
    names = {name for name, value in answer.headers.items() if fields.get(name) != value}
    assert len(names - {"content-length"}) <= 1
    assert body.startswith(answer.body)


LENGTH = "Content-Length: 2\r\n"
HOSTILE = {
    "no length": "HTTP/1.1 200 OK\r\nServer: x\r\n\r\nab",
    "two lengths that differ": f"HTTP/1.1 200 OK\r\n{LENGTH}Content-Length: 1\r\n\r\nab",
    "two lengths that agree": f"HTTP/1.1 200 OK\r\n{LENGTH}content-length: 2\r\n\r\nab",
    "a list of lengths": "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nab",
    "a length and chunks": f"HTTP/1.1 200 OK\r\n{LENGTH}Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    "two codings": "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    "a negative length": "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nab",
    "a length with a sign": "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab",
    "a length with digits of another script": "HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\nab",
    "a length beyond all": f"HTTP/1.1 200 OK\r\nContent-Length: {'9' * 40}\r\n\r\nab",
    "a length that is a lie": "HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999\r\n\r\nab",
    "an empty length": "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nab",
    "a folded line": f"HTTP/1.1 200 OK\r\nETag: a\r\n b\r\n{LENGTH}\r\nab",
    "a space before the colon": "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nab",
    "a line without a colon": f"HTTP/1.1 200 OK\r\nnonsense\r\n{LENGTH}\r\nab",
    "a name that is none": f"HTTP/1.1 200 OK\r\n: x\r\n{LENGTH}\r\nab",
    "a NUL in a value": f"HTTP/1.1 200 OK\r\nETag: a\0b\r\n{LENGTH}\r\nab",
    "a lone line feed": f"HTTP/1.1 200 OK\r\nETag: a\nx: b\r\n{LENGTH}\r\nab",
    "a lone carriage return": f"HTTP/1.1 200 OK\r\nETag: a\rx: b\r\n{LENGTH}\r\nab",
    "lines of another system": "HTTP/1.1 200 OK\nContent-Length: 2\n\nab",
    "two ETags": f'HTTP/1.1 200 OK\r\nETag: "a"\r\nETag: "b"\r\n{LENGTH}\r\nab',
    "two checksums": f"HTTP/1.1 200 OK\r\nx-amz-checksum-crc32: a\r\nX-Amz-Checksum-CRC32: b\r\n{LENGTH}\r\nab",
    "another protocol": f"SSH-2.0 200 OK\r\n{LENGTH}\r\nab",
    "another version": f"HTTP/2.0 200 OK\r\n{LENGTH}\r\nab",
    "a status of two digits": f"HTTP/1.1 20 OK\r\n{LENGTH}\r\nab",
    "a status of four": f"HTTP/1.1 2000 OK\r\n{LENGTH}\r\nab",
    "a status below all": f"HTTP/1.1 099 OK\r\n{LENGTH}\r\nab",
    "another protocol is switched to": "HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    "words before it without end": "HTTP/1.1 103 Early Hints\r\n\r\n" * (INTERIM + 2),
    "a head without end": "HTTP/1.1 200 OK\r\n" + "x: y\r\n" * HEAD_BYTES,
    "a line without end": "HTTP/1.1 200 OK\r\nx: " + "y" * 2 * HEAD_BYTES,
    "too many headers": "HTTP/1.1 200 OK\r\n" + "".join(f"x{n}: y\r\n" for n in range(HEADERS + 1)) + "\r\n",
    "a chunk of no size": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\nab\r\n0\r\n\r\n",
    "a chunk of a negative size": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nab\r\n0\r\n\r\n",
    "a chunk of a Python number": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nab\r\n0\r\n\r\n",
    "a chunk longer than it says": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    "a chunk shorter than it says": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab\r\n0\r\n\r\n",
    "trailers without end": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + "x: y\r\n" * (HEADERS + 1),
    "a trailer that is none": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nnonsense\r\n\r\n",
    "nothing": "",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_no_plain_answer_is_refused(what: str) -> None:
    for cuts in ([], [1] * 400):
        with pytest.raises(Garbled):
            read(HOSTILE[what].encode("latin-1"), cuts)


def test_a_server_that_closes_says_so() -> None:
    assert parse_head(b"HTTP/1.1 200 OK\r\nConnection: keep-alive, Close").is_last
    assert parse_head(b"HTTP/1.0 200 OK").is_last
    assert not parse_head(b"HTTP/1.1 200").is_last


def test_headers_that_may_come_twice_are_put_together() -> None:
    head = parse_head(b'HTTP/1.1 200 OK\r\nVary: Origin\r\nETag:\t"a" \r\nvary: Accept-Encoding')
    assert head.headers == {"vary": "Origin, Accept-Encoding", "etag": '"a"'}


class Server:
    """Answers the n-th connection with what `answers[n]` says to each of its requests, and then hangs up."""

    def __init__(self, *answers: list[bytes]) -> None:
        self.answers = answers
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.asked: list[bytes] = []
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Server:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.join(60)
        self.listener.close()

    def _serve(self) -> None:
        for each in self.answers:
            accepted, _ = self.listener.accept()
            with accepted:
                for answer in each:
                    self.asked.append(_request(accepted))
                    accepted.sendall(answer)


def _request(accepted: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += accepted.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[16:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length: ")), 0)
    while len(body) < length:
        body += accepted.recv(65536)
    return head + b"\r\n\r\n" + body


SAID = spell({"Content-Length": "2"}) + b"ab"


@pytest.fixture
def connect() -> Iterator[Callable[[Server], Connection]]:
    made: list[Connection] = []

    def connected(server: Server) -> Connection:
        made.append(Connection("http", server.place, 60.0))
        return made[-1]

    yield connected
    for connection in made:
        connection.close()


def test_a_connection_serves_one_request_after_the_other(connect: Callable[[Server], Connection]) -> None:
    large = os.urandom(SENT_BYTES * 2 + 5)
    with Server([SAID, SAID, SAID]) as server:
        connection = connect(server)
        for body in (b"", b"small", large):
            answer = connection.exchange("PUT", "/key", {"host": server.place}, memoryview(body))
            assert answer and answer.body == b"ab"
    heads = [asked.partition(b"\r\n\r\n") for asked in server.asked]
    assert [body for _, _, body in heads] == [b"", b"small", large]
    assert heads[1][0].decode() == f"PUT /key HTTP/1.1\r\nhost: {server.place}\r\nContent-Length: 5"


def test_a_connection_that_ended_is_seen_before_it_is_used(connect: Callable[[Server], Connection]) -> None:
    with Server([SAID]) as server:
        connection = connect(server)
        assert not connection.is_spent()
        assert connection.exchange("GET", "/", {})
        server.thread.join(60)
        assert connection.is_spent()


def test_a_connection_that_the_server_closes_is_opened_again(connect: Callable[[Server], Connection]) -> None:
    with Server([spell({"Content-Length": "0", "Connection": "close"})], [SAID]) as server:
        connection = connect(server)
        bodies = [answer.body for _ in range(2) if (answer := connection.exchange("GET", "/", {}))]
    assert bodies == [b"", b"ab"]


@pytest.mark.parametrize("answer", [SAID + b"more", SAID + SAID, SAID[:-1], b""])
def test_an_answer_too_long_or_too_short_is_refused(connect: Callable[[Server], Connection], answer: bytes) -> None:
    with Server([answer]) as server, pytest.raises(Garbled):
        connect(server).exchange("GET", "/", {})


@pytest.mark.parametrize(
    ("headers", "asked"), [({"Content-Encoding": "gzip"}, {}), ({}, {"Range": "bytes=0-1"})], ids=["encoded", "whole"]
)
def test_what_is_not_an_answer_to_the_request_is_not_read(
    connect: Callable[[Server], Connection], headers: dict[str, str], asked: dict[str, str]
) -> None:
    with Server([spell({**headers, "Content-Length": f"{1 << 50}"})]) as server:
        assert connect(server).exchange("GET", "/", asked) is None


@pytest.mark.parametrize("value", ["a\r\nx: b", "a\nb", "a\rb", "ä"])
def test_no_header_is_sent_that_would_be_two(connect: Callable[[Server], Connection], value: str) -> None:
    with Server() as server, pytest.raises(Garbled):
        connect(server).exchange("GET", "/", {"x-amz-security-token": value})


def test_bodies_larger_than_memory_is_given_at_once_are_whole() -> None:
    body = os.urandom(1 << 20) * 33
    cuts = list(itertools.islice(itertools.cycle([65536, 1 << 22]), 40))
    for data in (spell({"Content-Length": f"{len(body)}"}) + body, spell({"Transfer-Encoding": "chunked"})):
        data = data if data.endswith(body) else data + chunked(body, [17 << 20])
        answer, rest = read(data, cuts)
        assert answer.body == body and rest == b""
