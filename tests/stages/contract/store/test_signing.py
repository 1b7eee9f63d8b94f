"""Requests signed by the server's clock."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from stages.contract.errors import UsageError
from stages.contract.store.multipart import PIECE_BYTES
from stages.contract.store.s3 import S3Store
from stages.contract.store.signing import Clock, sign_again
from tests.faults.proxy import FaultyS3
from tests.s3 import S3Server
from tests.stages.contract.verbs import VERBS


def test_signed_again_as_of_the_same_time_a_request_is_as_boto3_has_it(s3_uri: str, tmp_path: Path) -> None:
    store, seen = S3Store(s3_uri), []

    def check(request: Any, **_: Any) -> None:
        before = {name: _text(value) for name, value in request.headers.items()}
        sign_again(request, store.credentials.get_frozen_credentials(), before["X-Amz-Date"])
        assert {name: _text(value) for name, value in request.headers.items()} == before
        seen.append(request.method)

    store.client.meta.events.register("before-send.s3", check)
    (tmp_path / "file").write_bytes(b"data")
    (tmp_path / "large").write_bytes(os.urandom(PIECE_BYTES + 1))
    for name in ("file", "large"):
        for verb in ("upload", "put_if_absent", "get", "list", "size", "delete"):
            VERBS[verb](store, "a key/of ~ many+signs", tmp_path / name)
    assert set(seen) >= {"GET", "PUT", "POST", "DELETE"}
    store.client.close()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


@pytest.mark.parametrize("ahead", [timedelta(hours=2), timedelta(days=-3)])
def test_a_clock_is_set_by_the_servers(ahead: timedelta) -> None:
    clock = Clock()
    date = format_datetime(datetime.now(UTC) + ahead)
    assert clock.learn(date) and not clock.learn(date)
    told = datetime.strptime(clock.stamp(), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert abs(told - datetime.now(UTC) - ahead) < timedelta(minutes=10)


@pytest.mark.parametrize("date", ["", "yesterday", format_datetime(datetime.now(UTC))], ids=["none", "no date", "now"])
def test_no_news_sets_no_clock(date: str) -> None:
    clock = Clock()
    assert not clock.learn(date) or abs(clock.ahead) < timedelta(hours=1)


@pytest.mark.slow
def test_a_wrong_clock_is_met_once_and_then_no_more(s3_server: S3Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")
    with FaultyS3(s3_server.url, rate=0) as proxy:
        store = S3Store(f"s3://{s3_server.make_bucket()}?endpoint_url={proxy.url}")
        proxy.skew = 7200.0
        assert store.put_if_absent("record", b"mine")
        for number in range(3):
            store.upload(f"key{number}", tmp_path / "file")
            assert store.get(f"key{number}") == b"data"
        assert proxy.plan.counts["skewed"] == 1
        proxy.skew = -time.time()  # no clock is right for that server: it is said
        proxy.refuse = "RequestTimeTooSkewed"
        with pytest.raises(UsageError, match="set this machine's clock"):
            store.put_if_absent("other", b"mine")
        store.client.close()
