"""One finished run for all tests that only read it, and a copy for each that harms it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.leti_ctl.audit.made import make_run
from tests.s3 import S3Server


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a finished run."""
    folder = tmp_path_factory.mktemp("audited")
    make_run(folder)
    return folder / "store"


@pytest.fixture
def store(finished: Path) -> Path:
    """The same, to read."""
    return finished


@pytest.fixture
def bucket(finished: Path, s3_server: S3Server, s3_uri: str) -> str:
    """The same in a bucket: the store's URI."""
    name, _, prefix = s3_uri.removeprefix("s3://").partition("?")[0].partition("/")
    for path in finished.rglob("*"):
        if path.is_file():
            s3_server.put(name, f"{prefix}/{path.relative_to(finished).as_posix()}", path.read_bytes())
    return s3_uri


@pytest.fixture
def run_folder(finished: Path, tmp_path: Path) -> Path:
    """The run's folder in a copy of the store."""
    shutil.copytree(finished, tmp_path / "store")
    return tmp_path / "store/runs/made"
