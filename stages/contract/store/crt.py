"""Large objects by the AWS Common Runtime, for whoever asks for it with `?transfer=crt`: `pip install leti[crt]`.

It moves the plain case, as `wire.py` does for small objects: it repeats what fails by itself, and where it gives up,
the way of `multipart.py` and `pieces.py` goes on, from the byte that is lacking. Its pieces carry CRC32, which the
server verifies; whoever reads an object holds it against its SHA-256.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Full, Queue
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from stages.contract.errors import UsageError
from stages.contract.store.multipart import PIECE_BYTES
from stages.contract.store.verbs import CHUNK_BYTES, Moved

if TYPE_CHECKING:
    from stages.contract.store.s3 import S3Store

AHEAD_CHUNKS = 48
"""Chunks of one object that wait for their reader."""
POLL_SECONDS = 0.5
"""Between two looks whether the reader is still there."""


class Crt:
    """The Common Runtime's transfers for one store; made when the first large object comes."""

    def __init__(self, store: S3Store) -> None:
        try:
            importlib.import_module("awscrt.s3")
            own: type[Exception] = importlib.import_module("awscrt.exceptions").AwsCrtError
        except ImportError:
            text = "transfer=crt needs the package awscrt; run `pip install 'leti[crt]'`, or leave the option out"
            raise UsageError(f"store {store.uri}: {text}") from None
        self.store = store
        self.faults = (own, BotoCoreError, ClientError, RuntimeError, OSError)
        self._manager: Any = None
        self._process, self._lock = 0, threading.Lock()

    def upload(self, full: str, path: Path, moved: Moved) -> bool:
        """Write a file, or return False where the usual way must see to it."""
        progress = _Progress(moved)
        try:
            self._get_manager().upload(str(path), self.store.bucket, full, {}, [progress]).result()
        except self.faults:
            moved(-progress.bytes)
            return False
        return True

    def stream(self, full: str) -> Iterator[bytes]:
        """Yield the object's bytes in chunks, as far as they come; what is lacking is the usual way's."""
        pipe = _Pipe()
        try:
            transfer = self._get_manager().download(self.store.bucket, full, pipe, {}, [pipe])
        except self.faults:
            return
        try:
            yield from pipe.read()
        finally:
            pipe.is_left.set()
            transfer.cancel()

    def _get_manager(self) -> Any:
        with self._lock:
            if self._process != os.getpid():  # its threads do not come along with a fork
                self._manager, self._process = self._make_manager(), os.getpid()
            return self._manager

    def _make_manager(self) -> Any:
        from s3transfer import crt

        client = self.store.client
        credentials = crt.BotocoreCRTCredentialsWrapper(self.store.credentials)
        made = crt.create_s3_crt_client(
            client.meta.region_name or "us-east-1",
            credentials.to_crt_credentials_provider(),
            part_size=PIECE_BYTES,
            use_ssl=urlsplit(client.meta.endpoint_url).scheme == "https",
            verify=os.environ.get("AWS_CA_BUNDLE") or None,
        )
        how = {"region_name": client.meta.region_name, "endpoint_url": client.meta.endpoint_url}
        serializer = crt.BotocoreCRTRequestSerializer(self.store.session, {**how, "config": client.meta.config})
        return crt.CRTTransferManager(made, serializer)


class _Progress:
    """A subscriber that tells how many bytes more have been moved."""

    def __init__(self, moved: Moved) -> None:
        self.moved, self.bytes = moved, 0

    def on_progress(self, future: Any, bytes_transferred: int, **_: Any) -> None:
        self.bytes += bytes_transferred
        self.moved(bytes_transferred)


class _Pipe:
    """From the runtime's thread, which writes in order, to the reader; full, it holds the thread up."""

    def __init__(self) -> None:
        self.is_left = threading.Event()
        self._waiting: Queue[bytes | None] = Queue(AHEAD_CHUNKS)

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), CHUNK_BYTES):
            self._put(bytes(data[start : start + CHUNK_BYTES]))

    def on_done(self, future: Any, **_: Any) -> None:
        self._put(None)

    def read(self) -> Iterator[bytes]:
        while (chunk := self._waiting.get()) is not None:
            yield chunk

    def _put(self, chunk: bytes | None) -> None:
        while not self.is_left.is_set():
            try:
                self._waiting.put(chunk, timeout=POLL_SECONDS)
            except Full:
                continue
            return
