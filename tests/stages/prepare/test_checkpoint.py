"""Base models with four tokens more: spare rows, new rows, tied and untied heads, and models that are not whole.

python -m pytest tests/stages/prepare/test_checkpoint.py -q
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from stages.contract.errors import ModelError
from stages.contract.spec import ModelSpec
from tests.models import codegen, llama, make_model

Filling = Literal["mean", "random", "keep"]
NAMES = ModelSpec().tokens.as_tuple()


@pytest.fixture(params=[llama, codegen], ids=["llama", "codegen"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A model that has never heard of LETI."""
    return plain_model(tmp_path / "base", request.param)


def plain_model(folder: Path, architecture: Callable[..., Any], **changes: Any) -> Path:
    """A tiny model whose tokenizer lacks the four tokens, and whose matrix has no row for them unless it has spares."""
    make_model(folder, architecture)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["added_tokens"] = [one for one in tokenizer["added_tokens"] if one["content"] not in NAMES]
    path.write_text(json.dumps(tokenizer))
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(1)
        architecture(len(tokenizer["model"]["vocab"]), **changes).save_pretrained(folder)
    return folder


def prepared(base: Path, folder: Path, filling: Filling = "mean", *, seed: int = 0) -> tuple[Any, Any]:
    """The written checkpoint, loaded again: tokenizer and model."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from stages.prepare.checkpoint import Source, write_checkpoint

    spec = ModelSpec(source=str(base), new_token_embeddings=filling)
    write_checkpoint(Source(base, "base"), spec, folder, seed=seed)
    return AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)


def matrices(model: Any) -> list[Any]:
    head = model.get_output_embeddings()
    found = [model.get_input_embeddings().weight, head.weight, *([head.bias] if head.bias is not None else [])]
    return [matrix.detach() for matrix in found]


def test_the_four_tokens_follow_the_vocabulary_in_order(base: Path, tmp_path: Path) -> None:
    tokenizer, model = prepared(base, tmp_path / "out")
    ids = tokenizer.convert_tokens_to_ids(list(NAMES))
    assert ids == list(range(len(tokenizer) - 4, len(tokenizer)))
    assert all(matrix.shape[0] >= len(tokenizer) for matrix in matrices(model))
    assert tokenizer(f"{NAMES[1]}x", add_special_tokens=False)["input_ids"][0] == ids[1]


def test_old_rows_stay_and_new_rows_are_the_mean(base: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    before = matrices(AutoModelForCausalLM.from_pretrained(base))
    tokenizer, model = prepared(base, tmp_path / "out", "mean")
    known = len(tokenizer) - 4
    for old, new in zip(before, matrices(model), strict=True):
        torch.testing.assert_close(new[:known], old[:known])
        mean = old[:known].mean(0)
        torch.testing.assert_close(new[known : known + 4], torch.stack([mean] * 4))


def test_random_rows_follow_the_seed_and_a_random_bias_is_zero(base: Path, tmp_path: Path) -> None:
    import torch

    tokenizer, model = prepared(base, tmp_path / "a", "random", seed=1)
    _, same = prepared(base, tmp_path / "b", "random", seed=1)
    _, other = prepared(base, tmp_path / "c", "random", seed=2)
    new = slice(len(tokenizer) - 4, len(tokenizer))
    mine, equal, different = (matrices(one)[0][new] for one in (model, same, other))
    assert torch.equal(mine, equal) and not torch.equal(mine, different)
    assert 0 < mine.std().item() < 0.1
    for bias in matrices(model)[2:]:
        assert not bias[new].any()


def test_keep_leaves_spare_rows_alone_and_refuses_models_without(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    spare = plain_model(tmp_path / "spare", codegen)
    before = matrices(AutoModelForCausalLM.from_pretrained(spare))
    _, model = prepared(spare, tmp_path / "out", "keep")
    assert all(torch.equal(old, new) for old, new in zip(before, matrices(model), strict=True))
    with pytest.raises(ModelError, match="keep needs spare rows"):
        prepared(plain_model(tmp_path / "full", llama), tmp_path / "out2", "keep")


def test_spare_rows_are_used_before_the_matrix_grows(tmp_path: Path) -> None:
    from transformers import AutoConfig

    base = plain_model(tmp_path / "base", codegen)
    _, model = prepared(base, tmp_path / "out")
    assert model.config.vocab_size == AutoConfig.from_pretrained(base).vocab_size


def test_a_leti_checkpoint_is_taken_as_it_is(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    base = make_model(tmp_path / "base", llama)
    _, model = prepared(base, tmp_path / "out")
    before = AutoModelForCausalLM.from_pretrained(base)
    assert all(torch.equal(old, new) for old, new in zip(matrices(before), matrices(model), strict=True))


def test_the_models_special_ids_become_the_tokenizers(tmp_path: Path) -> None:
    base = plain_model(tmp_path / "base", codegen, bos_token_id=1)
    _, model = prepared(base, tmp_path / "out")
    assert (model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id) == (0, 0, 0)
    assert (model.generation_config.bos_token_id, model.generation_config.eos_token_id) == (0, 0)


def test_a_checkpoint_comes_out_the_same_twice(base: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        prepared(base, tmp_path / name, "random")
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)


def lose_tensor(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors.pop(sorted(tensors)[-1])
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def lose_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def lose_eos(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be loaded"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "no-such"}'), "cannot be loaded"),
        (lambda folder: (folder / "model.safetensors").unlink(), "cannot be loaded"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"garbage here"), "cannot be loaded"),
        (lose_tensor, "lack 1 tensors"),
        (
            lambda folder: [(folder / name).unlink() for name in ("tokenizer.json", "tokenizer_config.json")],
            "no tokenizer",
        ),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "cannot be loaded"),
        (lose_eos, "no end-of-sequence token"),
    ],
    ids=[
        "config",
        "bad config",
        "unknown type",
        "weights",
        "bad weights",
        "a tensor",
        "tokenizer",
        "bad tokenizer",
        "eos",
    ],
)
def test_a_model_that_is_not_whole_is_one_clear_line(tmp_path: Path, damage: Callable[[Path], Any], said: str) -> None:
    base = plain_model(tmp_path / "base", codegen)
    damage(base)
    with pytest.raises(ModelError, match=said) as caught:
        prepared(base, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_not_looked_up_on_the_hub(tmp_path: Path) -> None:
    from stages.prepare.checkpoint import find_model

    with pytest.raises(ModelError, match="no folder"):
        find_model(ModelSpec(source=str(tmp_path / "gone")))
