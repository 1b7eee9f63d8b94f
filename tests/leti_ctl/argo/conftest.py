"""An API server over real HTTP, and leti-ctl's client connected to it through a kubeconfig."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from leti_ctl.backends.argo.api import connect
from leti_ctl.backends.argo.cluster import Cluster
from tests.kube.api import ApiServer


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    """A cluster with Argo and JobSet installed and no controller at work; KUBECONFIG names it."""
    with ApiServer() as running:
        running.install_argo()
        monkeypatch.setenv("KUBECONFIG", str(running.write_kubeconfig(tmp_path / "kubeconfig")))
        yield running


@pytest.fixture
def cluster(server: ApiServer) -> Cluster:
    api, namespace = connect()
    assert namespace == "leti"
    api.pause = 0.01
    return Cluster(api, namespace)
