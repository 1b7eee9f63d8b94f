"""One suite for every store, then what is particular to a folder and to S3 (moto's server, over HTTP)."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest

from stages.contract.errors import LetiError, StoreError, UsageError
from stages.contract.store import CHUNK_BYTES, LocalStore, S3Store, Store, open_store
from tests.s3 import Fault, S3Server

VERBS: dict[str, Callable[[Store, str, Path], Any]] = {
    "get": lambda store, key, _: store.get(key),
    "put_if_absent": lambda store, key, _: store.put_if_absent(key, b"data"),
    "upload": lambda store, key, path: store.upload(key, path),
    "list": lambda store, key, _: list(store.list(key)),
    "size": lambda store, key, _: store.size(key),
    "delete": lambda store, key, _: store.delete(key),
}
each_verb = pytest.mark.parametrize("verb", VERBS)


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "folder":
        yield LocalStore(tmp_path / "store")
        return
    opened = open_store(request.getfixturevalue("s3_uri"))
    assert isinstance(opened, S3Store)
    yield opened
    opened.client.close()


@pytest.fixture
def s3(s3_uri: str) -> Iterator[S3Store]:
    opened = S3Store(s3_uri)
    yield opened
    opened.client.close()


@pytest.fixture
def faults(s3_server: S3Server) -> Iterator[list[Fault]]:
    yield s3_server.faults
    s3_server.faults.clear()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(3 * CHUNK_BYTES + 17))
    return path


def test_what_was_written_is_read(store: Store) -> None:
    assert store.put_if_absent("runs/a/part.json", b"{}")
    assert store.get("runs/a/part.json") == b"{}"
    assert store.size("runs/a/part.json") == 2


def test_the_first_writer_wins_for_ever(store: Store) -> None:
    assert store.put_if_absent("key", b"first")
    assert not store.put_if_absent("key", b"second")
    assert store.get("key") == b"first"


def test_a_second_writer_of_the_same_bytes_has_lost_too(store: Store) -> None:
    assert store.put_if_absent("key", b"data")
    assert not store.put_if_absent("key", b"data")


def test_of_many_concurrent_writers_one_wins_and_the_others_know(store: Store) -> None:
    together = threading.Barrier(16)

    def write(number: int) -> bool:
        together.wait()
        return store.put_if_absent("key", b"%d" % (number // 2))

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(write, range(16)))
    assert sum(won) == 1
    assert store.get("key") == b"%d" % (won.index(True) // 2)


def test_nothing_is_missing_quietly(store: Store) -> None:
    store.put_if_absent("folder/key", b"data")
    for key in ("nothing", "folder", "folder/key/below"):
        with pytest.raises(KeyError):
            store.get(key)
        with pytest.raises(KeyError):
            list(store.stream(key))
        assert store.size(key) is None
        store.delete(key)
    assert store.get("folder/key") == b"data"


def test_a_file_is_streamed_in_bounded_chunks(store: Store, file: Path) -> None:
    store.upload("data/object", file)
    chunks = list(store.stream("data/object"))
    assert b"".join(chunks) == file.read_bytes()
    assert max(map(len, chunks)) <= CHUNK_BYTES
    assert store.size("data/object") == file.stat().st_size


def test_an_empty_file_is_an_object(store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    store.upload("empty", tmp_path / "empty")
    assert store.get("empty") == b""
    assert store.size("empty") == 0
    assert list(store.list("")) == ["empty"]


@pytest.mark.parametrize("damage", [b"", b"short", b"\0" * (3 * CHUNK_BYTES + 17)])
def test_uploading_again_heals_a_damaged_object(store: Store, file: Path, damage: bytes) -> None:
    store.put_if_absent("data/object", damage)
    store.upload("data/object", file)
    assert store.get("data/object") == file.read_bytes()


def test_a_reader_never_sees_half_an_object(store: Store, file: Path) -> None:
    whole, sizes = file.stat().st_size, set()
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(lambda: [store.upload("object", file) for _ in range(3)])
        while not writing.done():
            sizes.add(store.size("object"))
        writing.result()
    assert sizes <= {None, whole}


def test_keys_come_sorted_and_by_any_prefix(store: Store) -> None:
    keys = ["a", "b/1", "b/10", "b/2", "b-c", "bc/d/e", "ü/1", "\U0001f642"]
    for key in reversed(keys):
        store.put_if_absent(key, b"")
    assert list(store.list("")) == sorted(keys)
    assert list(store.list("b")) == sorted(key for key in keys if key.startswith("b"))
    assert list(store.list("b/1")) == ["b/1", "b/10"]
    assert list(store.list("b/")) == ["b/1", "b/10", "b/2"]
    assert list(store.list("nothing/")) == []


def test_any_name_is_a_key(store: Store) -> None:
    for key in ("a b", "a+b", "a%2Fb", "a?b=c", "a#b", "ü/雪.json", "a&b;c"):
        assert store.put_if_absent(key, b"data")
        assert store.get(key) == b"data"
        assert list(store.list("")) == [key]
        store.delete(key)
        assert list(store.list("")) == []


@each_verb
def test_a_key_that_leaves_the_store_is_refused(store: Store, file: Path, verb: str) -> None:
    for key in ("../outside", "a/../../outside", "/etc/passwd", "a//b", "./a", "a\0b"):
        with pytest.raises(ValueError, match="leaves the store"):
            VERBS[verb](store, key, file)


def test_a_store_can_be_opened_again_by_its_uri(store: Store) -> None:
    store.put_if_absent("key", b"data")
    assert open_store(store.uri).get("key") == b"data"


# A folder


def test_leftovers_of_killed_writers_are_no_objects(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put_if_absent("parts/a.json", b"a")
    (tmp_path / "parts/.staged-x1").write_bytes(b"half")
    assert list(store.list("parts/")) == ["parts/a.json"]
    assert store.put_if_absent("parts/b.json", b"b")


def test_writing_leaves_nothing_beside_the_object(tmp_path: Path, file: Path) -> None:
    store = LocalStore(tmp_path / "store")
    store.put_if_absent("a", b"1")
    store.put_if_absent("a", b"2")
    store.upload("b", file)
    store.upload("b", file)
    assert sorted(path.name for path in store.root.iterdir()) == ["a", "b"]


def test_objects_are_readable_by_others(tmp_path: Path, file: Path) -> None:
    store = LocalStore(tmp_path / "store")
    store.put_if_absent("a", b"1")
    store.upload("b", file)
    assert {path.stat().st_mode & 0o777 for path in store.root.iterdir()} == {0o644}


def test_a_new_store_needs_no_folder_until_it_is_written(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "not/yet")
    assert list(store.list("")) == []
    assert store.size("key") is None
    assert not store.root.exists()
    store.put_if_absent("key", b"")
    assert list(store.list("")) == ["key"]


def test_a_folder_that_cannot_be_listed_is_no_empty_folder(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put_if_absent("runs/a/spec.json", b"{}")
    user = os.geteuid()
    (tmp_path / "runs").chmod(0)
    if user == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(PermissionError):
            list(store.list("runs/"))
    finally:
        os.seteuid(user)
        (tmp_path / "runs").chmod(0o755)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("", "names no place"),
        ("s3://", "names no bucket"),
        ("s3:///prefix", "names no bucket"),
        ("gs://bucket", "unknown scheme 'gs'"),
        ("file:relative", "write file:///folder"),
        ("~nobody-of-that-name/store", "no home folder"),
        (__file__, "is a file; name a folder"),
    ],
)
def test_a_uri_that_is_no_store_is_refused_in_one_line(uri: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        open_store(uri)
    assert repr(uri) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_named_by_path_or_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for uri in (str(tmp_path / "s"), f"file://{tmp_path}/s", "s", "./s", "~/s"):
        store = open_store(uri)
        assert isinstance(store, LocalStore)
        assert store.root.resolve() == (tmp_path / "s").resolve()


# S3


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


def test_a_large_file_goes_up_in_parts(s3: S3Store, s3_server: S3Server, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(os.urandom(9 * CHUNK_BYTES))
    s3_server.requests.clear()
    s3.upload("large", large)
    assert sum("large" in request for request in s3_server.requests) > 2
    assert s3.get("large") == large.read_bytes()


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


def test_half_an_object_is_never_taken_for_the_whole(s3: S3Store, faults: list[Fault], file: Path) -> None:
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
