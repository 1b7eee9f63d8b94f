"""An S3 server that is faster than its clients: objects in memory, no checks, one thread per connection.

`python -m benchmarks.store.server [DELAY_MS]` prints its URL and serves until its standard input ends. `DELAY_MS` is
waited before each answer, as long as the network and S3 take for a first byte.
"""

from __future__ import annotations

import secrets
import socket
import sys
import threading
import time
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

Object = list[bytes]
"""The pieces an object came in."""
objects: dict[str, Object] = {}
uploads: dict[str, dict[int, bytes]] = {}
delay = 0.0


def serve(connection: socket.socket) -> None:
    """Answer requests until the client hangs up."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = bytearray()
    with connection:
        while True:
            while (end := buffer.find(b"\r\n\r\n")) < 0:
                chunk = connection.recv(65536)
                if not chunk:
                    return
                buffer += chunk
            first, *lines = buffer[:end].decode("latin-1").split("\r\n")
            del buffer[: end + 4]
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            if "expect" in headers:
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = read_body(connection, buffer, int(headers.get("content-length", 0)))
            if "aws-chunked" in headers.get("content-encoding", ""):
                body = without_frames(body)
            method, target, _ = first.split(" ")
            if delay:
                time.sleep(delay)
            answer(connection, method, target, headers, body)


def read_body(connection: socket.socket, buffer: bytearray, length: int) -> bytes:
    """Take a body of so many bytes off the connection."""
    body = bytearray(length)
    have = min(length, len(buffer))
    body[:have] = buffer[:have]
    del buffer[:have]
    view = memoryview(body)
    while have < length:
        have += connection.recv_into(view[have:])
    return bytes(body) if length < 65536 else body  # type: ignore[return-value]


def without_frames(body: bytes) -> bytes:
    """Return what a body holds that came with its checksum behind it: lines with a size in between."""
    found, place = bytearray(), 0
    while size := int(body[place : (end := body.find(b"\r\n", place))].split(b";")[0], 16):
        found += memoryview(body)[end + 2 : end + 2 + size]
        place = end + 2 + size + 2
    return bytes(found) if len(found) < 65536 else found  # type: ignore[return-value]


def answer(connection: socket.socket, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
    """Do what is asked."""
    path, _, query = target.partition("?")
    key, asked = unquote(path), parse_qs(query, keep_blank_values=True)
    if "list-type" in asked:
        send(connection, 200, {}, [listing(key, asked)])
    elif "uploads" in asked:
        upload = secrets.token_hex(8)
        uploads[upload] = {}
        send(connection, 200, {}, [f"<R><UploadId>{upload}</UploadId></R>".encode()])
    elif method == "PUT":
        put(connection, key, asked, headers, body)
    elif method == "POST":
        pieces = uploads.pop(asked["uploadId"][0])
        objects[key] = [pieces[number] for number in sorted(pieces)]
        send(connection, 200, {}, [b'<R><ETag>"0"</ETag></R>'])
    elif key not in objects:
        send(connection, 404, {}, [b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>"])
    else:
        get(connection, method, key, headers)


def put(connection: socket.socket, key: str, asked: dict[str, list[str]], headers: dict[str, str], body: bytes) -> None:
    """Keep an object or a piece; the checksum is taken at its word."""
    sums = {name: value for name, value in headers.items() if name.startswith("x-amz-checksum")}
    if headers.get("if-none-match") == "*" and key in objects:
        send(connection, 412, {}, [b"<Error><Code>PreconditionFailed</Code><Message>there</Message></Error>"])
        return
    if "partNumber" in asked:
        uploads[asked["uploadId"][0]][int(asked["partNumber"][0])] = body
    else:
        objects[key] = [body]
    send(connection, 200, {"ETag": '"0"', **sums}, [])


def get(connection: socket.socket, method: str, key: str, headers: dict[str, str]) -> None:
    """Send an object or a range of it."""
    pieces = objects[key]
    total = sum(map(len, pieces))
    start, end, status = 0, total, 200
    if "range" in headers and total:
        first, _, last = headers["range"].partition("=")[2].partition("-")
        start, end, status = int(first), min(total, int(last) + 1 if last else total), 206
    stamp = "Thu, 01 Jan 2026 00:00:00 GMT"
    more = {"ETag": '"0"', "Accept-Ranges": "bytes", "Last-Modified": stamp}
    if status == 206:
        more["Content-Range"] = f"bytes {start}-{end - 1}/{total}"
    chosen, position = [], 0
    for piece in pieces:
        low, high = max(start - position, 0), min(end - position, len(piece))
        if low < high:
            chosen.append(memoryview(piece)[low:high])
        position += len(piece)
    send(connection, status, more, chosen, head=method == "HEAD")  # type: ignore[arg-type]


def listing(bucket: str, asked: dict[str, list[str]]) -> bytes:
    """Return one page of a listing."""
    prefix = f"{bucket.rstrip('/')}/{asked.get('prefix', [''])[0]}"
    after = asked.get("continuation-token", [""])[0]
    found = sorted(key for key in list(objects) if key.startswith(prefix) and key > after)
    page, rest = found[:1000], found[1000:]
    rows = []
    for key in page:
        name, size = escape(key[len(bucket.rstrip("/")) + 1 :]), sum(map(len, objects[key]))
        rows.append(
            f"<Contents><Key>{name}</Key><LastModified>2026-01-01T00:00:00Z</LastModified>"
            f"<Size>{size}</Size></Contents>"
        )
    token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if rest else ""
    head = f"<ListBucketResult><IsTruncated>{'true' if rest else 'false'}</IsTruncated>{token}"
    return f"{head}{''.join(rows)}</ListBucketResult>".encode()


def send(
    connection: socket.socket, status: int, headers: dict[str, str], body: list[bytes], *, head: bool = False
) -> None:
    """Send an answer."""
    length = sum(map(len, body))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    start = f"HTTP/1.1 {status} X\r\n{lines}Content-Length: {length}\r\n\r\n".encode()
    if head or not body:
        connection.sendall(start)
    elif length < 65536:
        connection.sendall(start + b"".join(body))
    else:
        connection.sendall(start)
        for piece in body:
            connection.sendall(piece)


def main() -> None:
    """Serve."""
    global delay
    delay = float(sys.argv[1]) / 1000 if len(sys.argv) > 1 else 0.0
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
