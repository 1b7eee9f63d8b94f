"""What every store promises, asked of each: a folder, S3 (moto's server, over HTTP), Google's dialect of it, and a
server without checksums. Then what is particular to a folder; `test_s3.py` has what is particular to S3.

The stores differ in two things only, and no caller sees them: a folder's large objects come from one reader and S3's
from several, and a folder keeps the time of the last upload where S3 keeps that of its own clock.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stages.contract.errors import UsageError
from stages.contract.store import CHUNK_BYTES, LocalStore, Store, open_store
from stages.contract.store.s3 import PIECE_BYTES, S3Store
from tests.s3 import S3Server
from tests.stages.contract.verbs import VERBS, each_verb

FOREIGN = pytest.param("foreign", marks=pytest.mark.interop)


@pytest.fixture(params=["folder", "s3", "s3 without checksums", "google", FOREIGN])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "folder":
        yield LocalStore(tmp_path / "store")
        return
    if request.param == "foreign":
        found = open_store(request.getfixturevalue("foreign"))
        yield found
        if isinstance(found, S3Store):
            found.client.close()
        return
    server: S3Server = request.getfixturevalue("s3_server")
    server.checksums, server.google = request.param == "s3", request.param == "google"
    dialect = "&dialect=gcs" if server.google else ""
    opened = S3Store(request.getfixturevalue("s3_uri") + dialect)
    yield opened
    opened.client.close()
    server.checksums, server.google = True, False


def test_what_was_written_is_read(store: Store) -> None:
    assert store.put_if_absent("runs/a/part.json", b"{}")
    assert store.get("runs/a/part.json") == b"{}"
    assert store.size("runs/a/part.json") == 2


def test_folders_are_told_without_what_is_in_them(store: Store) -> None:
    for key in ("runs/a/b/c", "runs/a/d", "runs/a-b/c", "runs/file", "runner/x/y"):
        store.put_if_absent(key, b"")
    assert sorted(store.folders("runs/")) == ["a", "a-b"]
    assert sorted(store.folders("")) == ["runner", "runs"]
    assert list(store.folders("runs/a/b/")) == list(store.folders("none/")) == []


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


def test_a_large_file_goes_and_comes_in_pieces(store: Store, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(PIECE_BYTES + 5))
    store.upload("large", tmp_path / "large")
    assert store.size("large") == PIECE_BYTES + 5
    chunks = list(store.stream("large"))
    assert b"".join(chunks) == (tmp_path / "large").read_bytes()
    assert max(map(len, chunks)) <= CHUNK_BYTES


def test_a_file_of_exactly_one_piece_is_whole(store: Store, tmp_path: Path) -> None:
    (tmp_path / "piece").write_bytes(os.urandom(PIECE_BYTES))
    store.upload("piece", tmp_path / "piece")
    assert store.get("piece") == b"".join(store.stream("piece")) == (tmp_path / "piece").read_bytes()


def test_a_reader_may_stop_early(store: Store, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(PIECE_BYTES + 5))
    store.upload("large", tmp_path / "large")
    reader = store.stream("large")
    assert next(reader) == (tmp_path / "large").read_bytes()[:CHUNK_BYTES]
    reader.close()  # type: ignore[attr-defined]


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
        pytest.param(__file__, "is a file; name a folder", id="a file"),
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


def test_a_folder_is_on_the_disk_before_anything_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a machine that loses power could keep a record whose data are in a folder that is gone."""
    synced: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{handle}").removeprefix(f"{tmp_path}").lstrip("/"))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    LocalStore(tmp_path / "store").put_if_absent("runs/a/parts/0.json", b"{}")
    folders = ["", "store", "store/runs", "store/runs/a", "store/runs/a/parts"]
    assert [name for name in synced if ".staged-" not in name] == folders
    assert ".staged-" in synced[4] and len(synced) == 6


def test_a_link_that_meets_its_own_success_has_won(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As over NFS, where the reply to the first try was lost."""
    real = os.link

    def twice(*names: Path) -> None:
        real(*names)
        real(*names)

    monkeypatch.setattr(os, "link", twice)
    store = LocalStore(tmp_path)
    assert store.put_if_absent("a", b"1") and not store.put_if_absent("a", b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
