"""Overlays applied by the real kubectl to an API server that refuses unknown fields."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kube.api import ApiServer
from tests.kube.kinds import KINDS, NAMESPACES
from tests.manifests.tree import CLUSTER_WIDE, MANIFESTS, OVERLAYS, kubectl, overlay

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as running:
        running.install_argo()
        running.objects.delete(NAMESPACES, "", "leti")
        yield running


def apply(server: ApiServer, folder: Path, *options: str) -> str:
    environment = {**os.environ, "KUBECONFIG": str(server.write_kubeconfig(folder / "kubeconfig")), "HOME": str(folder)}
    command = [kubectl(), "apply", "--validate=strict", *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_is_applied_whole(name: str, server: ApiServer, tmp_path: Path) -> None:
    told = apply(server, tmp_path, "-k", str(MANIFESTS / "overlays" / name))
    assert len(told.splitlines()) == len(overlay(name))
    kinds = {kind.kind: kind for kind in KINDS}
    for each in overlay(name):
        where = "" if each["kind"] in CLUSTER_WIDE else "leti"
        assert server.objects.get(kinds[each["kind"]], where, each["metadata"]["name"])


def test_applying_it_again_changes_nothing(server: ApiServer, tmp_path: Path) -> None:
    first, second = (apply(server, tmp_path, "-k", str(MANIFESTS / "overlays/kind")) for _ in range(2))
    told = {line.rpartition(" ")[0]: line.rpartition(" ")[2] for line in second.splitlines()}
    assert len(told) == len(first.splitlines())
    # kubectl cannot tell that stringData has become data.
    assert {state for name, state in told.items() if not name.startswith("secret/")} == {"unchanged"}


def test_the_controller_settings_are_applied_by_themselves(server: ApiServer, tmp_path: Path) -> None:
    path = MANIFESTS / "controller/workflow-controller-configmap.yaml"
    assert "workflow-controller-configmap" in apply(server, tmp_path, "-f", str(path))
