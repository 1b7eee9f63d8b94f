"""Drawing tokens: uniform numbers from seeds, the softmax's own frequencies, top-k and nucleus against brute force.

python -m pytest tests/stages/generate/test_sampling.py -q
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.contract.spec import Sampling
from stages.generate import sampling as module
from stages.generate.sampling import Sampler, pick, uniforms

CPU = torch.device("cpu")


def numbers(count: int, *, seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(uniforms(np.full(count, seed, np.uint64), np.arange(count, dtype=np.uint64)))


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    return float(((counts - expected) ** 2 / expected).sum())


def test_uniforms_are_splitmix64() -> None:
    # Reference outputs of SplitMix64 seeded with 1234567 (its published C code), cut to 48 bits.
    first = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    drawn = uniforms(np.full(3, 1234567, np.uint64), np.arange(3, dtype=np.uint64))
    assert drawn.tolist() == [(value >> 16) / 2**48 for value in first]


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=20), st.integers(0, 10_000))
def test_uniforms_depend_on_seed_and_position_alone(seeds: list[int], position: int) -> None:
    together = uniforms(np.array(seeds, np.uint64), np.full(len(seeds), position, np.uint64))
    alone = [uniforms(np.array([seed], np.uint64), np.array([position], np.uint64))[0] for seed in seeds]
    assert together.tolist() == alone and (together >= 0).all() and (together < 1).all()


@pytest.mark.parametrize("along", ["positions", "seeds"])
def test_uniforms_fill_the_unit_interval_evenly(along: str) -> None:
    count = np.arange(20_000, dtype=np.uint64)
    drawn = uniforms(count, np.zeros_like(count)) if along == "seeds" else numbers(20_000).numpy()
    counts = np.histogram(drawn, bins=50, range=(0, 1))[0]
    assert chi_square(counts, np.full(50, 400.0)) < 85.4  # 99.9 % of chi-square with 49 degrees of freedom


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_drawn_frequencies_are_the_softmax(temperature: float) -> None:
    logits = torch.linspace(-2, 2, 20)
    count = 20_000
    sampler = Sampler(Sampling(temperature=temperature), (), CPU)
    drawn = sampler.draw(logits.repeat(count, 1), numbers(count))
    expected = torch.softmax(logits / temperature, -1).numpy() * count
    assert chi_square(np.bincount(drawn, minlength=20), expected) < 43.8  # 99.9 %, 19 degrees of freedom


def test_temperature_zero_takes_the_likeliest_whatever_is_drawn() -> None:
    logits = torch.randn(50, 30, generator=torch.Generator().manual_seed(0))
    drawn = Sampler(Sampling(temperature=0.0), (), CPU).draw(logits.clone(), numbers(50))
    assert drawn.tolist() == logits.argmax(-1).tolist()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_banned_tokens_are_never_drawn(temperature: float) -> None:
    logits = torch.zeros(500, 8)
    logits[:, 3] = 50
    drawn = Sampler(Sampling(temperature=temperature), (3, 5), CPU).draw(logits, numbers(500))
    assert not {3, 5} & set(drawn.tolist())


@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=12).filter(any),
    st.floats(0, 1, exclude_max=True, allow_subnormal=False),
)
def test_pick_never_hits_a_token_without_weight(weights: list[float], draw: float) -> None:
    chosen = int(pick(torch.tensor([weights]), torch.tensor([min(draw, 1 - 2.0**-48)], dtype=torch.float64))[0])
    assert weights[chosen] > 0


def brute_force(logits: torch.Tensor, sampling: Sampling) -> set[int]:
    """The tokens that may be drawn: sort, keep the first k, then the fewest whose mass reaches p."""
    weights = torch.softmax(logits / sampling.temperature, -1)
    order = weights.argsort(descending=True).tolist()[: sampling.top_k or None]
    total, kept, mass = float(weights[order].sum()), set(), 0.0
    for token in order:
        if mass >= sampling.top_p * total:
            break
        kept.add(token)
        mass += float(weights[token])
    return kept


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    top_k=st.sampled_from([0, 1, 3, 10, 100]),
    top_p=st.sampled_from([1.0, 0.95, 0.6, 0.2, 0.01]),
    looked_at=st.sampled_from([2, 8, 512]),
)
def test_truncation_keeps_what_sorting_would(seed: int, top_k: int, top_p: float, looked_at: int) -> None:
    logits = torch.randn(30, generator=torch.Generator().manual_seed(seed)) * 2
    sampling = Sampling(temperature=0.7, top_k=top_k, top_p=top_p)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LIKELIEST", looked_at)
        weights = Sampler(sampling, (), CPU)._truncated(torch.softmax(logits / 0.7, -1).unsqueeze(0))
    assert set(weights[0].nonzero().flatten().tolist()) == brute_force(logits, sampling)
