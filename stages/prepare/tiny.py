"""A language model of random weights in a second: real architecture, real tokenizer, to try a pipeline out.

It writes noise. Its tokenizer is trained on the problems of `basics`, so that prompts are not one token per character.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from stages.contract.spec import TaskSpec
from stages.prepare.cache import cached
from stages.tasks import load_problems

NAME = "tiny-random"
END = "<|endoftext|>"
VOCABULARY = 1024
CONTEXT = 16_384
"""Positions: few-shot prompts are long in a vocabulary this small."""
SEED = 0
EDITION = 1
"""Raised when any of the above changes: part of the cached folder's name."""


def cached_folder() -> Path:
    """Return the cache's Hugging Face folder of the model, made first if it is not there yet."""
    return cached(f"{NAME}-{EDITION}", _make)


def _make(staged: Path) -> Path:
    write_model(staged / "model")
    return staged / "model"


def write_model(folder: Path) -> None:
    """Write tokenizer and model to `folder`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    size = _write_tokenizer(folder)
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "tie_word_embeddings": True}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": CONTEXT}
    shape = {"vocab_size": size, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        LlamaForCausalLM(LlamaConfig(**shape, **heads, **ends)).save_pretrained(folder)


def _write_tokenizer(folder: Path) -> int:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "bos_token": END, "pad_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return int(tokenizer.get_vocab_size())


def _texts() -> Iterator[str]:
    for problem in load_problems(TaskSpec(name="basics"), "train"):
        yield f"{problem.prompt}\n{problem.reference}\n"
