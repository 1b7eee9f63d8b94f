"""What the tests of the contract share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import CHUNK_BYTES, LocalStore, Store, open_store
from stages.contract.store.s3 import S3Store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(3 * CHUNK_BYTES + 17))
    return path


@pytest.fixture(params=["folder", "s3"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Run]:
    """A new run in either store."""
    store: Store = LocalStore(tmp_path / "store")
    if request.param == "s3":
        store = open_store(request.getfixturevalue("s3_uri"))
    made = Run(store, "r1")
    made.create(RunSpec())
    yield made
    if isinstance(store, S3Store):
        store.client.close()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder as a model has one."""
    root = tmp_path / "model"
    (root / "tokenizer").mkdir(parents=True)
    (root / "config.json").write_text("{}")
    (root / "model.safetensors").write_bytes(os.urandom(5000))
    (root / "tokenizer/vocab.json").write_text('{"a": 0}')
    return root
