"""An API server for each test that asks for one, and the ways in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kube.api import ApiServer


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@pytest.fixture
def client(api: ApiServer, tmp_path: Path) -> Iterator[Any]:
    """The Kubernetes client, configured from a kubeconfig file."""
    kubernetes = pytest.importorskip("kubernetes")
    kubernetes.config.load_kube_config(str(api.write_kubeconfig(tmp_path / "config")))
    with kubernetes.client.ApiClient() as made:
        yield made
