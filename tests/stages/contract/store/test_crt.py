"""Large objects by the AWS Common Runtime: the same bytes, under the same faults."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.contract.errors import UsageError
from stages.contract.store.multipart import PIECE_BYTES
from stages.contract.store.s3 import S3Store
from tests.faults.proxy import FaultyS3, Order
from tests.s3 import S3Server

SIZE = 3 * PIECE_BYTES + 17
STRIDE = 4
SURVIVED = (
    "error 500",
    "slow down",
    "reset",
    "lost reply",
    "body cut on its way down",
    "connection closed and not said",
    "success as a web page",
)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture
def runtime(s3_server: S3Server) -> Iterator[S3Store]:
    pytest.importorskip("awscrt")
    store = S3Store(f"s3://{s3_server.make_bucket()}/leti?transfer=crt&endpoint_url={s3_server.url}")
    yield store
    store.client.close()


@pytest.mark.slow
def test_it_moves_large_objects_by_itself(runtime: S3Store, large: Path) -> None:
    moved: list[int] = []
    assert runtime.crt and runtime.crt.upload("leti/large", large, moved.append)
    assert sum(moved) == SIZE
    assert b"".join(runtime.crt.stream("leti/large")) == large.read_bytes()


@pytest.mark.slow
def test_what_it_cannot_do_is_left_to_the_usual_way(s3_server: S3Server, large: Path) -> None:
    pytest.importorskip("awscrt")
    store = S3Store(f"s3://no-such-bucket?transfer=crt&endpoint_url={s3_server.url}")
    moved: list[int] = []
    assert store.crt and not store.crt.upload("large", large, moved.append)
    assert sum(moved) == 0 and list(store.crt.stream("large")) == []
    with pytest.raises(UsageError, match="no bucket 'no-such-bucket'"):
        store.upload("large", large)
    store.client.close()


@pytest.mark.slow
def test_a_reader_that_leaves_holds_nothing_up(runtime: S3Store, large: Path) -> None:
    runtime.upload("large", large)
    for _ in range(3):
        next(runtime.stream("large"))
    assert b"".join(runtime.stream("large")) == large.read_bytes()


@pytest.mark.soak
@pytest.mark.parametrize("kind", SURVIVED)
def test_large_objects_come_and_go_under_faults(s3_server: S3Server, large: Path, kind: str) -> None:
    pytest.importorskip("awscrt")
    with FaultyS3(s3_server.url, rate=0) as proxy:
        for number in itertools.count(0, STRIDE):
            proxy.place(Order(number, kind))
            store = S3Store(f"s3://{s3_server.make_bucket()}?transfer=crt&timeout=2&endpoint_url={proxy.url}")
            store.upload("large", large)
            assert b"".join(store.stream("large")) == large.read_bytes()
            store.client.close()
            if proxy.seen <= number:
                break


def test_without_its_package_that_is_said(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "awscrt", None)
    monkeypatch.delitem(sys.modules, "awscrt.s3", raising=False)
    mark = "&" if "?" in s3_uri else "?"
    with pytest.raises(UsageError, match=r"pip install 'leti\[crt\]'"):
        S3Store(f"{s3_uri}{mark}transfer=crt")


def test_another_way_of_transfer_is_refused(s3_uri: str) -> None:
    mark = "&" if "?" in s3_uri else "?"
    with pytest.raises(UsageError, match="transfer 'fast'; write crt"):
        S3Store(f"{s3_uri}{mark}transfer=fast")
