"""The engine of fixed shapes: the samples of the transformers engine, token for token, by programs of few shapes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stages.contract.spec import GenerateSpec, RunSpec, Sampling
from stages.generate.engine import Request, load_engine
from stages.generate.sampling import Sampler
from stages.generate.static import SMALLEST_BUCKET, StaticDecoder, StaticEngine, bucket
from tests.models import llama, make_model
from tests.stages.generate.conftest import PROMPTS, Write

if TYPE_CHECKING:
    from stages.generate.engine import Completed

LONG = ("def f(x):\n    return x\n" * 12, *PROMPTS)


def write_static(
    checkpoint: Path, sampling: Sampling, *, samples: int = 2, batch_size: int = 4, look_every: int = 1
) -> list[Completed]:
    """The same requests as the `write` fixture's, to the static engine."""

    class Looking(StaticEngine):
        def make_decoder(self, sampling: Sampling) -> StaticDecoder:
            decoder = super().make_decoder(sampling)
            decoder.look_every = look_every
            return decoder

    engine = Looking(checkpoint, batch_size=batch_size, dtype="float32")
    requests = [
        Request(f"p/{text[:9]}", text, "", tuple(len(text) * 1000 + seed for seed in range(samples))) for text in LONG
    ]
    return list(engine.generate(requests, sampling, lambda samples, tokens: None))


@pytest.mark.parametrize(
    ("sampling", "batch_size", "look_every"),
    [
        (Sampling(temperature=1.0, max_new_tokens=24), 4, 1),
        (Sampling(temperature=0.0, max_new_tokens=12), 64, 5),
        (Sampling(temperature=1.5, max_new_tokens=24, top_p=0.8, top_k=40), 5, 8),
        (Sampling(temperature=1.0, max_new_tokens=140, length_mode="total"), 4, 8),
    ],
)
def test_it_writes_what_the_transformers_engine_writes(
    checkpoint: Path, write: Write, sampling: Sampling, batch_size: int, look_every: int
) -> None:
    expected = write(sampling, samples=3, prompts=LONG, batch_size=7)
    found = write_static(checkpoint, sampling, samples=3, batch_size=batch_size, look_every=look_every)
    assert found == expected


class Shapes(TorchDispatchMode):
    """Collects the shapes that every operation is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[Any, ...]] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.add((str(function), *(tuple(one.shape) for one in tree_leaves(args) if isinstance(one, Tensor))))
        return function(*args, **(kwargs or {}))


def test_more_samples_of_other_prompts_need_no_other_shape(tmp_path: Path) -> None:
    engine = StaticEngine(make_model(tmp_path, llama), batch_size=4, dtype="float32")

    def shapes_of(*requests: Request) -> set[tuple[Any, ...]]:
        with Shapes() as shapes:
            list(engine.generate(requests, Sampling(max_new_tokens=8), lambda samples, tokens: None))
        return shapes.seen

    few = shapes_of(Request("one", PROMPTS[0], "", (1, 2, 3, 4)))
    many = shapes_of(*(Request(text, text, "", tuple(range(7))) for text in PROMPTS))
    # A prompt comes as a list of its own length; of that the model and the sampler never see anything.
    assert {name for name, *_ in many - few} <= {
        "aten.copy_.default",
        "aten.detach_.default",
        "aten.lift_fresh.default",
    }
    assert len(few) > 50 and any("attention" in name for name, *_ in few)


@given(st.integers(1, 5000))
def test_buckets_are_few_and_hold_the_prompt(length: int) -> None:
    width = bucket(length)
    assert width >= length and width >= SMALLEST_BUCKET and width.bit_count() == 1
    assert width == SMALLEST_BUCKET or width < 2 * length


@given(
    st.integers(0, 1000), st.sampled_from([1.0, 0.95, 0.3]), st.sampled_from([0, 3, 100]), st.sampled_from([0.0, 0.9])
)
def test_static_sampling_draws_the_same_tokens(seed: int, top_p: float, top_k: int, temperature: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(9, 700, generator=generator) * 3
    draws = torch.rand(9, generator=generator, dtype=torch.float64)
    sampling = Sampling(temperature=temperature, top_p=top_p, top_k=top_k)
    drawn = [
        Sampler(sampling, (5, 8), torch.device("cpu"), static=static).draw(logits.clone(), draws)
        for static in (False, True)
    ]
    assert drawn[0].tolist() == drawn[1].tolist()


def test_the_spec_names_it(checkpoint: Path) -> None:
    spec = RunSpec(generate=GenerateSpec(engine="static", batch_size=3))
    engine = load_engine(spec, checkpoint)
    assert isinstance(engine, StaticEngine) and engine.batch_size == 3
