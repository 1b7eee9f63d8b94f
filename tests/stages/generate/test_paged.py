"""The vLLM engine against a stand-in with vLLM's interface: what is asked of it and what is made of its answers.

vLLM itself needs a GPU; that its interface is the one the stand-in has was read in its documentation, not seen here.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.contract.errors import UsageError
from stages.contract.spec import GenerateSpec, RunSpec, Sampling
from stages.generate.codec import Codec
from stages.generate.engine import Completed, Engine, Request, load_engine
from stages.generate.paged import VllmEngine

SPEC = RunSpec(generate=GenerateSpec(engine="vllm", batch_size=3))
PROMPT = "def add(a, b):"


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The stand-in, importable under vLLM's name."""
    spec = importlib.util.spec_from_file_location("vllm", Path(__file__).with_name("fake_vllm.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "vllm", module)
    spec.loader.exec_module(module)
    yield


def write(engine: Engine, sampling: Sampling, *seeds: int, prompt: str = PROMPT) -> Completed:
    told: list[tuple[int, int]] = []
    requests = [Request("p", prompt, "<|good|>", seeds)]
    (answer,) = engine.generate(requests, sampling, lambda samples, tokens: told.append((samples, tokens)))
    assert told[-1:] in ([], [(len(seeds), int(engine.counters["tokens"]))])
    return answer


def test_samples_follow_their_seeds_and_end_as_they_say(vllm: None, checkpoint: Path) -> None:
    engine, codec = load_engine(SPEC, checkpoint), Codec(checkpoint)
    assert isinstance(engine, VllmEngine)
    sampling = Sampling(temperature=2.0, max_new_tokens=12)
    answer = write(engine, sampling, *range(4))
    assert answer.num_prompt_tokens == len(codec.encode(PROMPT, "<|good|>"))
    assert write(engine, sampling, 3, 1).completions == [answer.completions[3], answer.completions[1]]
    assert len({one.token_ids for one in answer.completions}) == 4
    for one in answer.completions:
        assert (len(one.token_ids) == 12) == (one.finish_reason == "length")
        assert not codec.special.intersection(one.token_ids) and max(one.token_ids, default=0) < codec.size
        assert one.text == codec.decode(one.token_ids, after=codec.encode(PROMPT)[-1])
    ids = answer.completions[0].token_ids
    engine.codec.ends |= {ids[2]}
    (cut,) = write(engine, sampling, 0).completions
    assert (cut.token_ids, cut.finish_reason) == (ids[: ids.index(ids[2])], "eos")


def test_a_prompt_without_room_is_answered_without_asking(vllm: None, checkpoint: Path) -> None:
    answer = write(load_engine(SPEC, checkpoint), Sampling(max_new_tokens=9), 1, 2, prompt="a b " * 400)
    assert [(one.text, one.token_ids, one.finish_reason) for one in answer.completions] == [("", (), "length")] * 2


def test_without_vllm_the_remedy_is_said(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(
        UsageError, match=r"^generate.engine: vllm is not installed; install it .* engine transformers$"
    ):
        load_engine(SPEC, checkpoint)
