"""`S3Store.put_if_absent` in every interleaving of two writers, request by request, on a network that fails.

The requests are boto3's own; only the socket is not there. A reply may be lost, a request may arrive after its sender
has given up, or twice, and S3 may answer 409 while another writes the key.
"""

from __future__ import annotations

import io
import json
import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectionClosedError

from stages.contract.errors import StoreError
from stages.contract.store import Store
from stages.contract.store.s3 import S3Store
from tests.faults.explore import Ended, Explorer, Memory, Objects, Op, Replayed, State, Violation, Weather, Work

KEY = "runs/r/record.json"
ANSWERED = {"ETag": '"5"', "x-amz-request-id": "5"}
"""What tells an answer of S3 from one of a proxy on the way."""
ERROR = "<Error><Code>{0}</Code><Message>{0}</Message></Error>"


class Raw(io.BytesIO):
    """A body as urllib3 gives it."""

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self.read()


class Bucket:
    """S3 on the answers of an explorer: an object there is its metadata's writer, a line end and its bytes."""

    def __init__(self) -> None:
        self.store = S3Store("s3://bucket?endpoint_url=http://127.0.0.1:9&addressing=path")
        self.store.client.meta.events.register_first("before-send.s3", self._answer)
        self.store.credentials = None  # all by boto3, nothing past it
        self.replayed: Replayed = Memory({})

    def act(self, replayed: Store) -> S3Store:
        """Return the store, which asks the given one from here on."""
        assert isinstance(replayed, Replayed)
        self.replayed, self.store.sums = replayed, True
        return self.store

    def _answer(self, request: Any, **_: Any) -> AWSResponse:
        try:
            status, headers, body = self._do(request)
        except StoreError:
            raise ConnectionClosedError(endpoint_url=request.url) from None
        except BlockingIOError:
            status, headers, body = 409, {}, ERROR.format("ConditionalRequestConflict")
        return AWSResponse(request.url, status, headers, Raw(body.encode()))

    def _do(self, request: Any) -> tuple[int, dict[str, str], str]:
        if request.method == "GET":
            try:
                writer, _, found = self.replayed.get(KEY).decode().partition("\n")
            except KeyError:
                return 404, {}, ERROR.format("NoSuchKey")
            return 200, {"x-amz-meta-writer": writer, "content-length": str(len(found)), **ANSWERED}, found
        assert request.method == "PUT" and request.headers["If-None-Match"] is not None
        text = request.headers["x-amz-meta-writer"]
        body = request.body.read() if hasattr(request.body, "read") else request.body
        data = (text if isinstance(text, bytes) else text.encode()) + b"\n" + body
        checksum = request.headers["x-amz-checksum-sha256"]
        told = checksum.decode() if isinstance(checksum, bytes) else checksum
        headers = {"x-amz-checksum-sha256": told, **ANSWERED}
        if self.replayed.put_if_absent(KEY, data):
            return 200, headers, ""
        return 412, {}, ERROR.format("PreconditionFailed")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    made = Bucket()
    yield made
    made.store.client.close()


def writer(bucket: Bucket, name: str, monkeypatch: pytest.MonkeyPatch) -> Work:
    """One who writes its own bytes; its token is its name, the same whenever it is run again."""

    def work(replayed: Store) -> bool:
        with monkeypatch.context() as patch:
            patch.setattr(secrets, "token_hex", lambda _: name)
            return bucket.act(replayed).put_if_absent(KEY, json.dumps(name).encode())

    return work


def check(state: State, before: State | None, ends: Sequence[Ended | None]) -> None:
    stands = state.objects.get(KEY)
    if before is not None and KEY in before.objects:
        assert stands == before.objects[KEY], "I2: the record has changed"
    for name, end in zip(("a", "b"), ends, strict=True):
        if end and end.error:
            assert isinstance(end.error, StoreError)
        elif end:
            assert stands is not None, "I6: told of a record that is not there"
            mine = stands.partition(b"\n")[0] == name.encode()
            assert end.result == mine, f"I6: {name} is told {end.result}"


def explore(works: dict[str, Work], weather: Weather) -> int:
    found = Explorer(works, check, _goes_on, weather).explore()
    print(f"{found.schedules} schedules through {found.states} states", flush=True)
    return found.schedules


def _goes_on(objects: Objects) -> None:
    """Whatever is there, another try is told so."""
    store = Memory(objects)
    assert store.put_if_absent(KEY, b"late\n") == (KEY not in objects)


@pytest.mark.slow
def test_each_writer_is_told_the_truth_whatever_the_network_does(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = {name: writer(bucket, name, monkeypatch) for name in "ab"}
    assert explore(works, Weather(faults=3, conflicts=True)) > 10_000


@pytest.mark.slow
def test_a_writer_that_believes_every_412_is_found(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without asking whose object is there, a lost reply makes a winner believe that it has lost."""

    def gullible(work: Work) -> Work:
        class Believing(Replayed):
            def __init__(self, inner: Store) -> None:
                super().__init__(())
                self.inner = inner

            def _ask(self, op: Op) -> Any:
                if op.verb == "get":
                    return b"another\n"
                assert isinstance(self.inner, Replayed)
                return self.inner._ask(op)

        return lambda store: work(Believing(store))

    works = {name: gullible(writer(bucket, name, monkeypatch)) for name in "ab"}
    with pytest.raises(Violation, match=r"I6: a is told False; after\n  1\. a: put_if_absent .* \(its reply is lost\)"):
        explore(works, Weather(faults=1))
