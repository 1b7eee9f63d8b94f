"""Played runs for the report's tests: made once, only read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from leti_ctl.report.collect import collect
from stages.contract.run import Run
from tests.leti_ctl.report.made import Scene, play

SCENES = (
    Scene("textual", iterations=2, problems=3, samples=4),
    Scene("binary", iterations=2, problems=3, samples=4, reach=0.2, changes={"build": {"textual_feedback": False}}),
    Scene("textual-7", iterations=2, problems=3, samples=4, seed=7),
)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Three finished runs in one store: two that differ in the seed, one without textual feedback."""
    folder = tmp_path_factory.mktemp("played")
    return [play(folder, scene) for scene in SCENES]


@pytest.fixture(scope="session")
def store(runs: list[Run]) -> Path:
    """Their store."""
    return Path(runs[0].store.uri)


@pytest.fixture(scope="session")
def data(runs: list[Run]) -> dict[str, Any]:
    """The report's data about all three."""
    return collect(runs)
