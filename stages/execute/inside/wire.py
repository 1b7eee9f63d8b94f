"""Frames between the processes of the sandbox: a JSON message and a block of bytes, their lengths before them."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

HEADER = struct.Struct("<II")
LARGEST = 8 * 1024 * 1024
"""Bytes of one frame. A peer that announces more is not listened to: it may be a candidate."""


class Closed(Exception):
    """The peer has gone."""


class Malformed(Exception):
    """The peer sent something that is not a frame. From a candidate this is its failure, never ours."""


class Overflow(Exception):
    """The peer wrote more beside its frames than it may."""


def dump(message: object) -> bytes:
    """JSON. Raises ValueError for an int that is too long for it."""
    return json.dumps(message, separators=(",", ":")).encode()


def pack(message: object, blob: bytes = b"") -> bytes:
    """One frame. Raises Malformed when it would be larger than `LARGEST`, ValueError for an int too long for JSON."""
    text = dump(message)
    if len(text) + len(blob) > LARGEST:
        raise Malformed(f"a frame of {len(text) + len(blob)} bytes is over the limit of {LARGEST}")
    return HEADER.pack(len(text), len(blob)) + text + blob


def unpack(text: bytes) -> Any:
    """The message of a frame. Raises Malformed."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not JSON: {type(error).__name__}") from None


def read_exactly(descriptor: int, size: int) -> bytes:
    """Never more than asked for: a successor of this process may go on with the same pipe. Raises Closed."""
    pieces = []
    while size:
        piece = os.read(descriptor, min(size, 1 << 20))
        if not piece:
            raise Closed
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def read_frame(descriptor: int) -> tuple[Any, bytes]:
    """The next frame of a pipe. Raises Closed or Malformed."""
    head, tail = HEADER.unpack(read_exactly(descriptor, HEADER.size))
    if head + tail > LARGEST:
        raise Malformed("frame over the limit")
    return unpack(read_exactly(descriptor, head)), read_exactly(descriptor, tail)


def write_frame(descriptor: int, message: object, blob: bytes = b"") -> None:
    """A frame into a pipe. Raises OSError where nobody reads it."""
    view = memoryview(pack(message, blob))
    while view:
        view = view[os.write(descriptor, view) :]


class Channel:
    """Frames over a stream socket that belongs to one reader and one writer.

    `wait`, where given, is called before every read: whoever must look after other descriptors meanwhile does it there.
    """

    def __init__(self, sock: socket.socket, wait: Callable[[], None] | None = None) -> None:
        self.sock = sock
        self.wait = wait
        self.buffer = b""

    def send(self, message: object, blob: bytes = b"") -> None:
        """Raises Closed."""
        try:
            self.sock.sendall(pack(message, blob))
        except OSError:
            raise Closed from None

    def receive(self) -> tuple[Any, bytes]:
        """The next frame. Raises Closed, Malformed, or what `wait` raises."""
        head, tail = HEADER.unpack(self._take(HEADER.size))
        if head + tail > LARGEST:
            raise Malformed("frame over the limit")
        return unpack(self._take(head)), self._take(tail)

    def _take(self, size: int) -> bytes:
        if len(self.buffer) < size:
            self._fill(size)
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def _fill(self, size: int) -> None:
        pieces, have = [self.buffer], len(self.buffer)
        while have < size:
            if self.wait is not None:
                self.wait()
            try:
                piece = self.sock.recv(max(65536, min(size - have, 1 << 20)))
            except OSError:
                raise Closed from None
            if not piece:
                raise Closed
            pieces.append(piece)
            have += len(piece)
        self.buffer = b"".join(pieces)

    def close(self) -> None:
        """End the conversation."""
        self.sock.close()
