"""What is particular to S3: requests, faults, dialects (moto's server, over HTTP)."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from stages.contract.errors import LetiError, StoreError, UsageError
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import CHUNK_BYTES, open_store
from stages.contract.store.s3 import PIECE_BYTES, S3Store
from tests.s3 import Fault, S3Server
from tests.stages.contract.verbs import VERBS, each_verb


def test_s3_keys_lie_below_the_prefix(s3: S3Store) -> None:
    s3.put_if_absent("runs/a", b"")
    found = s3.client.list_objects_v2(Bucket=s3.bucket)["Contents"]
    assert [item["Key"] for item in found] == ["leti/runs/a"]


def test_the_endpoint_can_come_from_the_environment(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    store = S3Store(f"s3://{s3_server.make_bucket()}")
    assert store.put_if_absent("key", b"data")
    assert list(store.list("")) == ["key"]
    store.client.close()


def test_a_listing_goes_over_pages(s3: S3Store, s3_server: S3Server) -> None:
    keys = [f"parts/{number:05d}" for number in range(2005)]
    s3_server.fill(s3.bucket, [s3.root + key for key in keys])
    assert list(s3.list("parts/")) == keys


def test_a_listing_is_the_same_whoever_asks(s3: S3Store, s3_server: S3Server) -> None:
    keys = sorted(["odd/a b+c&d<e>~%41.json", "odd/umlaut-ä", *(f"odd/{number:05d}" for number in range(1500))])
    s3_server.fill(s3.bucket, [s3.root + key for key in keys])
    by_boto3 = list(s3.scan("odd/"))
    s3.get(keys[0])  # from here on the plain requests go without boto3
    assert s3._quick_page("odd/", None) is not None
    assert list(s3.scan("odd/")) == by_boto3
    assert [entry.key for entry in by_boto3] == keys
    assert list(s3.scan("nothing/")) == []


def test_a_large_file_goes_up_in_parts(s3: S3Store, s3_server: S3Server, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(os.urandom(9 * CHUNK_BYTES))
    s3_server.requests.clear()
    s3.upload("large", large)
    assert sum("large" in request for request in s3_server.requests) > 2
    assert s3.get("large") == large.read_bytes()


def test_large_objects_come_in_pieces_that_are_of_one_object(s3: S3Store, s3_server: S3Server, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(os.urandom(2 * PIECE_BYTES))
    s3.upload("large", large)
    reader = s3.stream("large")
    next(reader)
    large.write_bytes(os.urandom(2 * PIECE_BYTES))
    s3.upload("large", large)
    with pytest.raises(StoreError, match="large"):
        list(reader)


def test_a_piece_whose_reply_is_lost_is_sent_again(s3: S3Store, faults: list[Fault], tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(2 * PIECE_BYTES))
    for method in ("PUT", "POST"):
        faults.append(Fault(method, "/large", carried_out=True))
    s3.upload("large", tmp_path / "large")
    assert b"".join(s3.stream("large")) == (tmp_path / "large").read_bytes()


def test_a_completion_whose_reply_is_lost_has_succeeded(s3: S3Store, faults: list[Fault], tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(2 * PIECE_BYTES))
    faults.append(Fault("POST", "uploadId=", carried_out=True))
    s3.upload("large", tmp_path / "large")
    assert faults[0].times == 0 and s3.size("large") == 2 * PIECE_BYTES


GONE = {"status": "404 Not Found", "code": "NoSuchUpload"}


@pytest.mark.parametrize("sums", [True, False])
def test_what_another_left_is_not_taken_for_an_upload_that_is_gone(
    s3: S3Store, s3_server: S3Server, faults: list[Fault], tmp_path: Path, sums: bool
) -> None:
    (tmp_path / "large").write_bytes(os.urandom(PIECE_BYTES + 17))
    s3_server.put(s3.bucket, "leti/large", os.urandom(PIECE_BYTES + 17))
    s3.sums = sums
    faults.append(Fault("POST", "uploadId=", **GONE))
    s3_server.requests.clear()
    s3.upload("large", tmp_path / "large")
    assert sum(line.startswith("PUT") for line in s3_server.requests) == 4  # both pieces again
    assert b"".join(s3.stream("large")) == (tmp_path / "large").read_bytes()


@pytest.mark.parametrize("sums", [True, False])
def test_an_upload_that_is_gone_since_it_is_complete_is_known_by_what_the_server_keeps(
    s3: S3Store, s3_server: S3Server, faults: list[Fault], tmp_path: Path, sums: bool
) -> None:
    (tmp_path / "large").write_bytes(os.urandom(PIECE_BYTES + 17))
    s3.sums = sums
    s3.upload("large", tmp_path / "large")
    faults.append(Fault("POST", "uploadId=", **GONE))
    s3_server.requests.clear()
    s3.upload("large", tmp_path / "large")
    assert sum(line.startswith("PUT") for line in s3_server.requests) == 2
    assert sum(line.startswith("GET") for line in s3_server.requests) == 1  # looked at, not read


def test_where_the_server_keeps_nothing_of_the_pieces_the_object_is_read(
    s3: S3Store, s3_server: S3Server, faults: list[Fault], tmp_path: Path
) -> None:
    (tmp_path / "large").write_bytes(os.urandom(PIECE_BYTES + 17))
    s3_server.put(s3.bucket, "leti/large", (tmp_path / "large").read_bytes())
    faults.append(Fault("POST", "uploadId=", **GONE))
    s3_server.requests.clear()
    s3.upload("large", tmp_path / "large")
    assert sum(line.startswith("PUT") for line in s3_server.requests) == 2
    assert sum(line.startswith("GET") for line in s3_server.requests) > 1


def test_an_upload_that_fails_leaves_no_pieces(s3: S3Store, faults: list[Fault], tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(2 * PIECE_BYTES))
    faults.append(Fault("PUT", "/large", "403 Forbidden", "AccessDenied", times=9))
    with pytest.raises(UsageError, match="AccessDenied"):
        s3.upload("large", tmp_path / "large")
    assert "Uploads" not in s3.client.list_multipart_uploads(Bucket=s3.bucket)


def test_a_server_without_checksums_is_found_out_and_sent_md5(s3: S3Store, s3_server: S3Server, file: Path) -> None:
    s3_server.checksums = False
    s3.upload("object", file)
    s3.upload("object", file)
    assert s3.sums is False and s3.get("object") == file.read_bytes()


@pytest.mark.parametrize("code", ["NotImplemented", "InvalidArgument"])
def test_a_server_that_refuses_checksums_is_sent_md5(s3: S3Store, faults: list[Fault], file: Path, code: str) -> None:
    faults.append(Fault("PUT", "/object", "400 Bad Request", code))
    s3.upload("object", file)
    assert s3.sums is False and s3.get("object") == file.read_bytes()


def test_a_store_that_ignores_conditions_takes_no_run(s3_uri: str, s3_server: S3Server) -> None:
    s3_server.conditional = False
    with pytest.raises(UsageError, match="the first writer does not win"):
        Run(open_store(s3_uri), "r").create(RunSpec())


def test_google_in_amazons_dialect_takes_no_run(s3_uri: str, s3_server: S3Server) -> None:
    s3_server.google = True
    with pytest.raises(UsageError, match="the first writer does not win"):
        Run(open_store(s3_uri), "r").create(RunSpec())


@pytest.mark.parametrize(
    ("options", "host"),
    [
        ("", "https://bucket.s3.amazonaws.com/leti/key"),
        ("?region=eu-west-1&addressing=virtual", "https://bucket.s3.eu-west-1.amazonaws.com/leti/key"),
        ("?region=eu-west-1&addressing=path", "https://s3.eu-west-1.amazonaws.com/bucket/leti/key"),
        ("?profile=team&addressing=virtual", "https://bucket.s3.ap-south-1.amazonaws.com/leti/key"),
        ("?endpoint_url=https://storage.googleapis.com", "https://storage.googleapis.com/bucket/leti/key"),
    ],
)
def test_the_uri_says_where_objects_are(
    options: str, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(
        "[profile team]\nregion = ap-south-1\naws_access_key_id = a\naws_secret_access_key = b\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    if "profile" in options:
        monkeypatch.delenv("AWS_DEFAULT_REGION")
    store = S3Store(f"s3://bucket/leti{options}")
    url = store.client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "leti/key"})
    assert url.partition("?")[0] == host
    assert store.is_google == ("googleapis" in host)
    store.client.close()


@pytest.mark.parametrize(
    ("code", "message", "tries"),
    [
        ("ExpiredToken", "have expired, renew them and resume", 1),
        ("RequestTimeTooSkewed", "the server's; set this machine's clock and resume", 4),
        ("AccessDenied", "check the credentials and the policy", 1),
    ],
)
def test_what_only_the_user_can_cure_is_said_soon(
    s3: S3Store, s3_server: S3Server, faults: list[Fault], code: str, message: str, tries: int
) -> None:
    faults.append(Fault("PUT", "/key", "403 Forbidden", code, times=9))
    s3_server.requests.clear()
    with pytest.raises(UsageError, match=message):
        s3.put_if_absent("key", b"")
    assert s3_server.requests.count(f"PUT /{s3.bucket}/leti/key") == tries


@pytest.mark.parametrize(("code", "message"), [("ExpiredToken", "renew them"), ("RequestTimeTooSkewed", "s clock")])
def test_why_a_first_look_for_the_writer_is_refused_is_told(
    s3_uri: str, faults: list[Fault], code: str, message: str
) -> None:
    faults.extend(Fault(method, "/key", "403 Forbidden", code, times=9) for method in ("HEAD", "GET"))
    store = S3Store(f"{s3_uri}&settle=1")
    with pytest.raises(UsageError, match=message):
        store.put_if_absent("key", b"")
    store.client.close()


def test_a_lost_reply_is_met_as_ones_own_success(s3: S3Store, faults: list[Fault]) -> None:
    faults.append(Fault("PUT", "/key", carried_out=True))
    assert s3.put_if_absent("key", b"mine")
    assert not s3.put_if_absent("key", b"theirs")


def test_a_lost_reply_after_anothers_success_is_a_loss(s3: S3Store, faults: list[Fault]) -> None:
    s3.put_if_absent("key", b"mine")
    faults.append(Fault("PUT", "/key", carried_out=True))
    assert not s3.put_if_absent("key", b"mine")


def test_a_conflict_with_a_writer_who_fails_is_tried_again(s3: S3Store, faults: list[Fault]) -> None:
    faults.append(Fault("PUT", "/key", "409 Conflict", "ConditionalRequestConflict", times=2))
    assert s3.put_if_absent("key", b"mine")
    assert s3.get("key") == b"mine"


def test_a_conflict_with_a_writer_who_succeeds_is_a_loss(s3: S3Store, faults: list[Fault]) -> None:
    s3.put_if_absent("key", b"theirs")
    faults.append(Fault("PUT", "/key", "409 Conflict", "ConditionalRequestConflict"))
    assert not s3.put_if_absent("key", b"mine")


def test_a_conflict_without_end_is_worth_another_try_later(s3: S3Store, faults: list[Fault]) -> None:
    faults.append(Fault("PUT", "/key", "409 Conflict", "ConditionalRequestConflict", times=99))
    with pytest.raises(StoreError, match="key is being written by another; try again"):
        s3.put_if_absent("key", b"mine")


def test_a_reply_that_breaks_off_is_gone_on_with(
    s3: S3Store, s3_server: S3Server, faults: list[Fault], file: Path
) -> None:
    s3.upload("object", file)
    faults.append(Fault("GET", "/object", times=2, cut=True))
    s3_server.requests.clear()
    assert s3.get("object") == file.read_bytes()
    assert len(s3_server.requests) == 3


def test_half_an_object_is_never_taken_for_the_whole(
    s3: S3Store, faults: list[Fault], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    s3.upload("object", file)
    faults.append(Fault("GET", "/object", times=99, cut=True))
    with pytest.raises(StoreError, match="object") as caught:
        s3.get("object")
    assert one_line(caught.value)


@each_verb
def test_a_busy_server_is_asked_again(s3: S3Store, faults: list[Fault], file: Path, verb: str) -> None:
    s3.put_if_absent("key", b"data")
    method = {"put_if_absent": "PUT", "upload": "PUT", "delete": "DELETE"}.get(verb, "GET")
    faults.append(Fault(method, f"/{s3.bucket}", "503 Slow Down", "SlowDown"))
    VERBS[verb](s3, "key", file)
    assert faults[0].times == 0


def test_an_error_says_nothing_of_retries_that_were_not_boto3s(
    s3: S3Store, faults: list[Fault], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    faults.append(Fault("GET", "/key", "503 Slow Down", "SlowDown", times=2))
    with pytest.raises(StoreError, match="SlowDown") as caught:
        s3.get("key")
    assert "retries" not in str(caught.value)


@each_verb
@pytest.mark.parametrize(("status", "code"), [("403 Forbidden", "AccessDenied"), ("400 Bad", "ExpiredToken")])
def test_a_refused_account_is_one_line_the_user_can_act_on(
    s3: S3Store, faults: list[Fault], file: Path, verb: str, status: str, code: str
) -> None:
    for method in ("GET", "PUT", "DELETE"):
        faults.append(Fault(method, f"/{s3.bucket}", status, code))
    with pytest.raises(UsageError, match="check the credentials and the policy") as caught:
        VERBS[verb](s3, "key", file)
    assert one_line(caught.value)


def test_what_a_server_lacks_is_named(s3: S3Store, faults: list[Fault]) -> None:
    faults.append(Fault("GET", "uploads", "501 Not Implemented", "NotImplemented"))
    with pytest.raises(UsageError, match="calling the ListMultipartUploads operation"):
        list(s3.leftovers(""))


@each_verb
def test_a_missing_bucket_is_named(s3_server: S3Server, file: Path, verb: str) -> None:
    store = S3Store(f"s3://no-such-bucket/leti?endpoint_url={s3_server.url}")
    with pytest.raises(UsageError, match="no bucket 'no-such-bucket'; create it or correct --store") as caught:
        VERBS[verb](store, "key", file)
    assert one_line(caught.value)
    store.client.close()


@each_verb
def test_an_unreachable_server_is_worth_another_try(file: Path, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        store = S3Store(f"s3://bucket/leti?endpoint_url=http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(StoreError, match="Could not connect") as caught:
            VERBS[verb](store, "key", file)
        assert one_line(caught.value)
        assert "s3://bucket/leti" in str(caught.value)
        store.client.close()


@pytest.mark.parametrize(
    ("uri", "environment"),
    [
        ("s3://bucket?endpoint_url=nonsense", {}),
        ("s3://bucket", {"AWS_PROFILE": "nobody"}),
        ("s3://a$b", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}),
        ("s3://bucket?endpoint=http://127.0.0.1:9", {}),
    ],
)
def test_a_wrong_setting_is_no_fault_of_the_server(
    uri: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"AWS_MAX_ATTEMPTS": "1", **environment}.items():
        monkeypatch.setenv(name, value)
    boto3.DEFAULT_SESSION = None
    with pytest.raises(UsageError) as caught:
        open_store(uri).get("key")
    assert one_line(caught.value)
    assert uri.partition("?")[0] in str(caught.value)


def test_missing_credentials_are_named(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    boto3.DEFAULT_SESSION = None
    with pytest.raises(UsageError, match="set AWS credentials or a profile") as caught:
        open_store(s3_uri).get("key")
    assert one_line(caught.value)


@pytest.fixture(autouse=True, scope="module")
def account_found_anew() -> Iterator[None]:
    """boto3 keeps the account it found first."""
    yield
    boto3.DEFAULT_SESSION = None


def one_line(error: LetiError) -> bool:
    return "\n" not in str(error) and len(str(error)) < 300
