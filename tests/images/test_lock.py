"""The lock's look-ups, against a registry and an index on the loopback."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType

import pytest

from tests.conftest import ROOT

INDEX = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
DIGEST = f"sha256:{hashlib.sha256(INDEX).hexdigest()}"
PAGE = "".join(
    f'<a href="/whl/cpu/torch-2.13.0%2Bcpu-{tag}.whl#sha256={digit * 64}">x</a>\n'
    for digit, tag in [
        ("1", "cp311-cp311-manylinux_2_28_x86_64"),
        ("2", "cp311-cp311-manylinux_2_28_aarch64"),
        ("3", "cp312-cp312-manylinux_2_28_x86_64"),
        ("4", "cp311-cp311-win_amd64"),
    ]
)


class Registry(BaseHTTPRequestHandler):
    """A registry that wants a token, with one repository; and a package index."""

    announced = DIGEST

    def do_GET(self) -> None:
        host = f"http://{self.headers['Host']}"
        if self.path.startswith("/token?"):
            assert "scope=repository%3Alibrary%2Fpython%3Apull" in self.path
            self.answer(200, b'{"token": "opensesame"}')
        elif self.path == "/whl/cpu/torch/":
            self.answer(200, PAGE.encode())
        elif self.headers.get("Authorization") != "Bearer opensesame":
            scope = "repository:library/python:pull"
            challenge = f'Bearer realm="{host}/token",service="registry",scope="{scope}"'
            self.answer(401, b"{}", {"WWW-Authenticate": challenge})
        elif self.path == "/v2/library/python/manifests/3.11.15-slim":
            assert "application/vnd.oci.image.index.v1+json" in self.headers["Accept"]
            self.answer(200, INDEX, {"Docker-Content-Digest": self.announced})
        else:
            self.answer(404, b"{}")

    def answer(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def host() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def lock() -> ModuleType:
    """images/lock.py, which is a script and in no package."""
    spec = importlib.util.spec_from_file_location("lock", ROOT / "images" / "lock.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_tag_gets_the_digest_of_what_the_registry_sends(lock: ModuleType, host: str) -> None:
    image = lock.Image.parse(f"{host}/library/python:3.11.15-slim")
    assert str(lock.look_up(image)) == f"{host}/library/python:3.11.15-slim@{DIGEST}"
    old = image._replace(digest="sha256:" + "0" * 64)
    assert lock.look_up(old).digest == DIGEST


def test_a_digest_that_is_not_of_what_was_sent_is_refused(
    lock: ModuleType, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Registry, "announced", "sha256:" + "0" * 64)
    with pytest.raises(lock.LockError, match="announces sha256:0000"):
        lock.look_up(lock.Image.parse(f"{host}/library/python:3.11.15-slim"))


def test_a_tag_that_is_not_there_is_said(lock: ModuleType, host: str) -> None:
    with pytest.raises(lock.LockError, match=r"manifests/3\.11\.99-slim: HTTP Error 404"):
        lock.look_up(lock.Image.parse(f"{host}/library/python:3.11.99-slim"))


@pytest.mark.parametrize("reference", ["python", "docker.io/library/python", "docker.io/x:1@sha256:12"])
def test_a_base_without_a_tag_is_refused(lock: ModuleType, reference: str) -> None:
    with pytest.raises(lock.LockError, match="write registry/path:tag"):
        lock.Image.parse(reference)


def test_wheels_get_the_hashes_of_their_index_for_this_python_on_linux(lock: ModuleType, host: str) -> None:
    text = f"# why\n--index-url http://{host}/whl/cpu\ntorch==2.13.0\n"
    locked = lock.look_up_wheels(text)
    hashes = [f"--hash=sha256:{digit * 64}" for digit in "12"]
    assert locked == text[:-1] + "".join(f" \\\n    {one}" for one in hashes) + "\n"
    assert lock.look_up_wheels(locked) == locked
    with pytest.raises(lock.LockError, match=r"no wheel of torch 2\.12\.0"):
        lock.look_up_wheels(text.replace("2.13", "2.12"))
