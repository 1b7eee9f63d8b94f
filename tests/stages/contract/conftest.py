"""What the tests of the contract share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stages.contract.store import CHUNK_BYTES


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(3 * CHUNK_BYTES + 17))
    return path
