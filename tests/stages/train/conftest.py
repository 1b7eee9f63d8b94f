"""One thread: a tiny model gains nothing from more, and threads that wait for each other burn a shared machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Here and in the stages that tests start."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    mine = pytest.MonkeyPatch()
    mine.setenv("LETI_THREADS", "1")
    mine.setenv("OMP_NUM_THREADS", "1")
    yield
    mine.undo()
    torch.set_num_threads(threads)
