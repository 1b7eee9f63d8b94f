"""What the tests of faults on real stages share; both take seconds to make."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.victims import Victims
from tests.faults.world import World, make_world


@pytest.fixture(scope="session")
def victims(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victims]:
    """A process that starts stages."""
    with Victims(tmp_path_factory.mktemp("victims")) as made:
        yield made


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, victims: Victims) -> World:
    """An undisturbed run."""
    return make_world(tmp_path_factory.mktemp("world"), victims)
