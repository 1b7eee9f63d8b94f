"""The seam between the stage and whatever writes solutions: requests go in, completions come out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypedDict

from stages.contract.records import FinishReason
from stages.contract.spec import RunSpec, Sampling


class Request(NamedTuple):
    """One problem's prompt and how many solutions are wanted: one per seed."""

    problem_id: str
    prompt: str
    reward_token: str
    """The special token before the prompt, or the empty string."""
    seeds: tuple[int, ...]


class Completion(NamedTuple):
    """One solution."""

    text: str
    token_ids: tuple[int, ...]
    """Without the end-of-sequence token."""
    finish_reason: FinishReason


class Completed(NamedTuple):
    """A request's completions, in the order of its seeds."""

    num_prompt_tokens: int
    completions: list[Completion]


Progress = Callable[[int, int], None]
"""Called now and then with the number of finished samples and of tokens so far."""


class Engine(Protocol):
    """Writes solutions. A completion depends on its prompt, its seed and the sampling, not on its neighbours."""

    counters: dict[str, float]
    """What the engine measured, units in the names."""

    def generate(self, requests: Sequence[Request], sampling: Sampling, progress: Progress) -> Iterator[Completed]:
        """Yield one answer per request, in order."""
        ...


class Settings(TypedDict):
    """What engines with a model are made with, beside its folder."""

    batch_size: int
    dtype: Literal["float32", "bfloat16"]


def load_engine(spec: RunSpec, checkpoint: Path) -> Engine:
    """Return the engine that the spec names, with the checkpoint's model."""
    if spec.generate.engine == "scripted":
        from stages.generate.scripted import ScriptedEngine

        assert spec.generate.script is not None, "the spec refuses a scripted engine without a script"
        return ScriptedEngine(Path(spec.generate.script), checkpoint)
    # torch and transformers take seconds to import; the scripted engine does without.
    settings: Settings = {"batch_size": spec.generate.batch_size, "dtype": spec.model.dtype}
    if spec.generate.engine == "vllm":
        from stages.generate.paged import VllmEngine

        return VllmEngine(checkpoint, **settings)
    if spec.generate.engine == "static":
        from stages.generate.static import StaticEngine

        return StaticEngine(checkpoint, **settings)
    from stages.generate.transformer import TransformersEngine

    return TransformersEngine(checkpoint, **settings)
