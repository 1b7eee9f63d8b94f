"""Tiny models as checkpoints, and the plain way to run the decoder on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stages.contract.spec import Sampling
from tests.models import codegen, llama, make_model

if TYPE_CHECKING:
    from stages.generate.engine import Completed

PROMPTS = (
    "def add(a, b):",
    '"""\nReturn the sum.\nassert add(1, 2) == 3\n"""',
    "for item in values:\n    print(item)\n" * 4,
    "x",
    "Traceback (most recent call last):",
)
Write = Callable[..., "list[Completed]"]


@pytest.fixture(scope="session", params=[llama, codegen], ids=["llama", "codegen"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model's folder; weights large enough that its distributions are far from flat."""
    return make_model(tmp_path_factory.mktemp("model"), request.param, initializer_range=0.4)


@pytest.fixture
def write(checkpoint: Path) -> Write:
    """`write(Sampling(...), samples=3, batch_size=4, prompts=...)` with seeds that count up."""

    def run(
        sampling: Sampling, *, samples: int = 2, batch_size: int = 4, prompts: tuple[str, ...] = PROMPTS
    ) -> list[Completed]:
        from stages.generate.engine import Request
        from stages.generate.transformer import TransformersEngine

        engine = TransformersEngine(checkpoint, batch_size=batch_size, dtype="float32")
        requests = [
            Request(f"p/{text[:9]}", text, "", tuple(len(text) * 1000 + seed for seed in range(samples)))
            for text in prompts
        ]
        return list(engine.generate(requests, sampling, lambda samples, tokens: None))

    return run
