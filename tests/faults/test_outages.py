"""What lasts longer than a request: a server that is away, an upload it has lost, credentials that change."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.contract.errors import UsageError
from stages.contract.store import retry
from stages.contract.store.multipart import PIECE_BYTES
from stages.contract.store.s3 import S3Store
from tests.faults.proxy import LOST_UPLOAD, FaultyS3, Order
from tests.s3 import S3Server

AWAY_SECONDS = 8.0
"""Longer than is waited for in silence."""
SMALL = b"small " * 2000


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultyS3]:
    with FaultyS3(s3_server.url, rate=0) as made:
        yield made


@pytest.fixture
def store(s3_server: S3Server, proxy: FaultyS3) -> Iterator[S3Store]:
    opened = S3Store(f"s3://{s3_server.make_bucket()}/leti?endpoint_url={proxy.url}")
    yield opened
    opened.client.close()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    (tmp_path / "small").write_bytes(SMALL)
    return tmp_path / "small"


@pytest.mark.soak
@pytest.mark.parametrize("how", ["refused", "busy"])
def test_a_server_that_is_away_is_waited_for_and_that_is_said(
    store: S3Store, proxy: FaultyS3, small: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    store.upload("key", small)
    retry.last_word[0] = -retry.QUIET
    back = threading.Timer(AWAY_SECONDS, proxy.__enter__ if how == "refused" else proxy.calm)
    if how == "refused":
        proxy.__exit__(None, None, None)
    else:
        proxy.plan.rate, proxy.plan.kinds = 1.0, {"slow down"}
    back.start()
    with caplog.at_level(logging.WARNING, "leti.store"):
        assert store.get("key") == SMALL
    back.join()
    said = [record.getMessage() for record in caplog.records]
    assert said and all("key" in line and "trying again since" in line and "\n" not in line for line in said)


@pytest.mark.slow
def test_an_upload_that_the_server_has_lost_is_begun_again(store: S3Store, proxy: FaultyS3, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(2 * PIECE_BYTES + 17))
    proxy.place(Order(1, LOST_UPLOAD, frozenset({"PUT"})))
    store.upload("large", tmp_path / "large")
    assert b"".join(store.stream("large")) == (tmp_path / "large").read_bytes()
    assert "Uploads" not in store.client.list_multipart_uploads(Bucket=store.bucket)


@pytest.mark.slow
def test_a_bucket_that_vanishes_is_named(s3_server: S3Server, store: S3Store, small: Path) -> None:
    store.upload("key", small)
    store.delete("key")
    store.client.delete_bucket(Bucket=store.bucket)
    with pytest.raises(UsageError, match=f"no bucket '{store.bucket}'"):
        store.upload("key", small)
    with pytest.raises(UsageError, match=f"no bucket '{store.bucket}'"):
        store.get("key")


PROCESS = """
import datetime, json, pathlib, sys
count = pathlib.Path(sys.argv[1])
number = int(count.read_text()) + 1 if count.exists() else 1
count.write_text(str(number))
ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=60)
print(json.dumps({"Version": 1, "AccessKeyId": f"key{number}", "SecretAccessKey": "s", "SessionToken": "t",
                  "Expiration": ends.isoformat()}))
"""
"""Credentials so near their end that each request asks for fresh ones."""


@pytest.mark.slow
def test_credentials_are_asked_for_anew_by_every_request(
    s3_server: S3Server, proxy: FaultyS3, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "process.py").write_text(PROCESS)
    command = f"{sys.executable} {tmp_path / 'process.py'} {tmp_path / 'count'}"
    (tmp_path / "config").write_text(f"[profile fresh]\nregion = us-east-1\ncredential_process = {command}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    bucket = boto_bucket(s3_server, monkeypatch)
    store = S3Store(f"s3://{bucket}?profile=fresh&endpoint_url={proxy.url}")
    proxy.keys.clear()
    for number in range(4):
        store.upload(f"key{number}", small)
    assert len(proxy.keys) == 4 and len(set(proxy.keys)) == 4
    store.client.close()


def boto_bucket(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a new bucket, made with credentials of its own."""
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "a")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "b")
        return server.make_bucket()


@pytest.mark.soak
def test_a_fork_has_connections_of_its_own(store: S3Store, small: Path) -> None:
    for number in range(4):
        store.upload(f"key{number}", small)
    assert store.get("key0") == SMALL
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        os._exit(0 if all(store.get(f"key{number % 4}") == SMALL for number in range(40)) else 1)
    assert all(store.get(f"key{number % 4}") == SMALL for number in range(40))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
