"""What Ceph does otherwise than AWS, asked of our fake of it in every run of the tests, and of the real one where it is
installed in `make interop`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from leti_ctl.doctor.storage import probe
from stages.contract.errors import UsageError
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store.multipart import PIECE_BYTES
from stages.contract.store.s3 import S3Store
from tests.interop.ceph import Ceph
from tests.s3 import S3Server


@pytest.fixture(params=["fake", pytest.param("ceph", marks=pytest.mark.interop)])
def server(request: pytest.FixtureRequest) -> Iterator[S3Server | Ceph]:
    if request.param == "ceph":
        yield request.getfixturevalue("ceph")
        return
    fake: S3Server = request.getfixturevalue("s3_server")
    fake.ceph = True
    yield fake


def opened(server: S3Server | Ceph, more: str = "", *, is_versioned: bool = False) -> S3Store:
    return S3Store(f"s3://{server.make_bucket(is_versioned=is_versioned)}/leti?endpoint_url={server.url}{more}")


@pytest.fixture
def store(server: S3Server | Ceph) -> Iterator[S3Store]:
    made = opened(server)
    yield made
    made.client.close()


@pytest.fixture
def versioned(server: S3Server | Ceph) -> Iterator[S3Store]:
    made = opened(server, is_versioned=True)
    yield made
    made.client.close()


@pytest.fixture
def large(tmp_path: Path) -> Path:
    (tmp_path / "large").write_bytes(os.urandom(PIECE_BYTES + 17))
    return tmp_path / "large"


def test_the_first_writer_wins(store: S3Store) -> None:
    assert store.put_if_absent("key", b"first") and not store.put_if_absent("key", b"second")
    assert Run(store, "r").create(RunSpec())
    assert probe(store, "doctor/probe").level == "ok"


def test_it_knows_no_checksums_and_gets_md5(store: S3Store, large: Path) -> None:
    store.upload("large", large)
    assert store.sums is False
    with pytest.raises(store.client.exceptions.ClientError, match="BadDigest"):
        store.client.put_object(Bucket=store.bucket, Key="key", Body=b"altered", ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==")
    assert b"".join(store.stream("large")) == large.read_bytes()


def test_an_upload_that_is_gone_when_it_is_completed_is_begun_again(store: S3Store, large: Path) -> None:
    aborted: list[Any] = []

    def abort(params: Any, **_: Any) -> None:
        if not aborted:
            found = store.client.list_multipart_uploads(Bucket=store.bucket)["Uploads"]
            aborted.extend(found)
            store.client.abort_multipart_upload(Bucket=store.bucket, Key=found[0]["Key"], UploadId=found[0]["UploadId"])

    store.client.meta.events.register("before-call.s3.CompleteMultipartUpload", abort)
    store.upload("large", large)
    assert len(aborted) == 1 and b"".join(store.stream("large")) == large.read_bytes()
    assert "Uploads" not in store.client.list_multipart_uploads(Bucket=store.bucket)


def test_a_bucket_with_versions_takes_no_run(versioned: S3Store) -> None:
    with pytest.raises(UsageError, match="keeps versions, and its server lets every writer win"):
        Run(versioned, "r").create(RunSpec())
    assert list(versioned.list("")) == []


def test_versions_that_are_kept_from_some_day_on_are_noticed(versioned: S3Store, server: S3Server | Ceph) -> None:
    status: Any = {"Status": "Suspended"}
    versioned.client.put_bucket_versioning(Bucket=versioned.bucket, VersioningConfiguration=status)
    assert versioned.put_if_absent("record", b"first") and not versioned.put_if_absent("record", b"second")
    status["Status"] = "Enabled"
    versioned.client.put_bucket_versioning(Bucket=versioned.bucket, VersioningConfiguration=status)
    with pytest.raises(UsageError, match="keeps versions, and its server lets every writer win"):
        versioned.put_if_absent("record", b"third")
    assert versioned.get("record") == b"first"


def test_doctor_refuses_a_bucket_with_versions(versioned: S3Store) -> None:
    with pytest.raises(UsageError, match=r"add \?settle="):
        probe(versioned, "doctor/probe")


def test_writers_that_wait_agree_in_a_bucket_with_versions(server: S3Server | Ceph) -> None:
    store = opened(server, "&settle=1", is_versioned=True)
    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(lambda number: store.put_if_absent("key", b"%d" % number), range(4)))
    assert sum(won) == 1 and store.get("key") == b"%d" % won.index(True)
    assert "wait for one another" in probe(store, "doctor/probe").found
    store.client.close()
