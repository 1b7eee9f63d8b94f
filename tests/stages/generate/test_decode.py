"""The decode loop on real (tiny) architectures: it agrees with `model.generate`, and rows do not see each other.

python -m pytest tests/stages/generate/test_decode.py -q
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.contract.errors import ModelError, UsageError
from stages.contract.spec import Sampling
from tests.models import codegen, make_model
from tests.stages.generate.conftest import PROMPTS, Write

GREEDY = Sampling(temperature=0.0, max_new_tokens=24)
RANDOM = Sampling(temperature=1.0, max_new_tokens=24)


def ids(completed: list[Any]) -> list[list[tuple[int, ...]]]:
    return [[one.token_ids for one in answer.completions] for answer in completed]


def test_greedy_writes_what_generate_writes(checkpoint: Path, write: Write) -> None:
    import torch

    from stages.generate.transformer import TransformersEngine

    engine = TransformersEngine(checkpoint, batch_size=1, dtype="float32")
    banned = sorted(engine._banned())
    for prompt, (mine,) in zip(PROMPTS, ids(write(GREEDY, samples=1, batch_size=3)), strict=True):
        tokens = torch.tensor([engine.codec.encode(prompt)])
        settings: dict[str, Any] = {"do_sample": False, "suppress_tokens": banned, "pad_token_id": 0}
        theirs = engine.model.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=24, **settings)
        expected = theirs[0, tokens.shape[1] :].tolist()
        assert list(mine) == [token for token in expected if token not in engine.codec.ends]


def test_a_sample_does_not_depend_on_its_batch(write: Write) -> None:
    alone = [ids(write(RANDOM, samples=3, batch_size=1, prompts=(prompt,)))[0] for prompt in PROMPTS]
    for batch_size in (1, 2, 5, 64):
        assert ids(write(RANDOM, samples=3, batch_size=batch_size)) == alone, f"in batches of {batch_size}"


def test_more_samples_do_not_change_the_first_ones(write: Write) -> None:
    few, many = ids(write(RANDOM, samples=2)), ids(write(RANDOM, samples=5))
    assert few == [answer[:2] for answer in many]


def test_samples_of_a_prompt_differ(write: Write) -> None:
    assert all(len(set(answer)) > 1 for answer in ids(write(RANDOM, samples=4)))


def test_moving_the_batch_to_the_left_changes_nothing(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ids(write(RANDOM, samples=4, batch_size=3))
    monkeypatch.setattr("stages.generate.decode.SLACK_COLUMNS", 1)
    assert ids(write(RANDOM, samples=4, batch_size=3)) == plain


def test_prompts_are_prefilled_once_each(checkpoint: Path) -> None:
    from stages.generate.engine import Request
    from stages.generate.transformer import TransformersEngine

    engine = TransformersEngine(checkpoint, batch_size=4, dtype="float32")
    requests = [Request(prompt, prompt, "", tuple(range(10))) for prompt in PROMPTS]
    list(engine.generate(requests, RANDOM, lambda samples, tokens: None))
    assert engine.counters["prefilled_prompts"] == len(PROMPTS)


def test_text_and_ids_agree_and_no_special_token_is_sampled(checkpoint: Path, write: Write) -> None:
    from stages.generate.codec import Codec

    codec = Codec(checkpoint)
    for answer, prompt in zip(write(Sampling(temperature=3.0, max_new_tokens=40), samples=6), PROMPTS, strict=True):
        for one in answer.completions:
            assert not codec.special.intersection(one.token_ids) and max(one.token_ids, default=0) < codec.size
            assert one.text == codec.decode(one.token_ids, after=codec.encode(prompt)[-1])


def test_samples_end_at_eos_or_at_the_limit(write: Write) -> None:
    sampling = Sampling(temperature=2.0, max_new_tokens=60)
    samples = [one for answer in write(sampling, samples=10, batch_size=16) for one in answer.completions]
    assert {one.finish_reason for one in samples} == {"eos", "length"}
    assert all(len(one.token_ids) == 60 for one in samples if one.finish_reason == "length")
    assert all(len(one.token_ids) < 60 for one in samples if one.finish_reason == "eos")


def test_the_official_limit_counts_the_padded_prompt(write: Write) -> None:
    sampling = Sampling(temperature=1.0, max_new_tokens=140, length_mode="total")
    short, long = write(sampling, samples=2, prompts=("x", "x y z " * 60))
    assert short.num_prompt_tokens == 1 and max(len(one.token_ids) for one in short.completions) <= 12
    assert long.num_prompt_tokens > 128
    assert [(one.text, one.token_ids, one.finish_reason) for one in long.completions] == [("", (), "length")] * 2


def test_solutions_stop_where_the_models_context_does(write: Write) -> None:
    (answer,) = write(Sampling(temperature=0.0, max_new_tokens=500), samples=1, prompts=("a b " * 250,))
    assert 0 < answer.num_prompt_tokens < 512
    assert answer.num_prompt_tokens + len(answer.completions[0].token_ids) <= 512


def test_a_reward_token_stands_before_the_prompt(checkpoint: Path) -> None:
    from stages.generate.codec import Codec

    codec = Codec(checkpoint)
    plain, conditioned = codec.encode("def f():"), codec.encode("def f():", "<|good|>")
    assert conditioned[1:] == plain and conditioned[0] in codec.special
    assert not codec.special.intersection(codec.encode("<|good|> is text here"))
    with pytest.raises(ModelError, match=r"does not know <\|best\|>"):
        codec.encode("def f():", "<|best|>")


def test_bfloat16_samples_too(checkpoint: Path) -> None:
    from stages.generate.engine import Request
    from stages.generate.transformer import TransformersEngine

    engine = TransformersEngine(checkpoint, batch_size=4, dtype="bfloat16")
    (answer,) = engine.generate([Request("p", PROMPTS[1], "", (1, 2, 3))], RANDOM, lambda samples, tokens: None)
    assert all(one.token_ids for one in answer.completions)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer.json"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no weights"), "cannot be loaded"),
        (lambda folder: (folder / "model.safetensors").unlink(), "cannot be loaded"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be loaded"),
    ],
    ids=["tokenizer", "corrupt weights", "weights", "config"],
)
def test_a_damaged_checkpoint_is_a_model_error(tmp_path: Path, damage: Callable[[Path], object], said: str) -> None:
    from stages.generate.transformer import TransformersEngine

    folder = make_model(tmp_path / "m", codegen)
    (folder / "generation_config.json").write_text('{"eos_token_id": 0}')
    damage(folder)
    with pytest.raises(ModelError, match=said) as caught:
        TransformersEngine(folder, batch_size=1, dtype="float32")
    assert "\n" not in str(caught.value)


def test_threads_must_be_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.entrypoint import threads

    monkeypatch.setenv("LETI_THREADS", "many")
    with pytest.raises(UsageError, match="LETI_THREADS: 'many'"):
        threads()
