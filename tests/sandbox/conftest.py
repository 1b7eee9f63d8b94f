"""A judge for each sandbox this machine has."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.execute.judge import Judge, Limits
from stages.execute.sandbox import SandboxKind

LIMITS = Limits(timeout_seconds=3.0, memory_mib=256)


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The sandbox's root is built anew, so that the building is tested too."""
    folder = tmp_path_factory.mktemp("cache")
    folder.parent.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session", params=["process", "gvisor"])
def kind(request: pytest.FixtureRequest) -> SandboxKind:
    """Each sandbox in turn."""
    if request.param == "gvisor" and shutil.which("runsc") is None:
        pytest.skip("runsc is not installed")
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def judge(kind: SandboxKind) -> Iterator[Judge]:
    """Two workers with small limits."""
    with Judge(limits=LIMITS, sandbox=kind, workers=2) as judge:
        yield judge
