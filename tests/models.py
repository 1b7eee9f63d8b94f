"""Tiny models with random weights, as Hugging Face folders: real architectures, real tokenizers, a second to make."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.contract.spec import Tokens

END = "<|endoftext|>"
TEXT = (
    'def add(a, b):\n    """Return the sum."""\n    return a + b\n',
    "for item in values:\n    print(item, sorted(values), range(10))\n",
    'Traceback (most recent call last):\n  File "<string>", line 7, in <module>\nAssertionError\nNameError: name\n',
)
Architecture = Callable[..., Any]


def make_tokenizer(folder: Path, tokens: Tokens | None = None) -> int:
    """Write a byte-level BPE tokenizer of about 400 entries with the four special tokens last; return its size."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=[END], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXT * 8, trainer)
    tokenizer.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in (tokens or Tokens()).as_tuple()]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "bos_token": END, "pad_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return int(tokenizer.get_vocab_size())


def llama(vocab_size: int, **changes: Any) -> Any:
    """Return a two-layer Llama with grouped queries and tied embeddings, SmolLM2's architecture."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape = {**sizes, "num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": True}
    config = LlamaConfig(vocab_size=vocab_size, bos_token_id=0, eos_token_id=0, pad_token_id=0, **{**shape, **changes})
    return LlamaForCausalLM(config)


def codegen(vocab_size: int, **changes: Any) -> Any:
    """Return a two-layer CodeGen with spare embedding rows and an untied head, the paper's architecture."""
    from transformers import CodeGenConfig, CodeGenForCausalLM

    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "n_ctx": 512, "rotary_dim": 4}
    ends = {"bos_token_id": 0, "eos_token_id": 0, "tie_word_embeddings": False}
    return CodeGenForCausalLM(CodeGenConfig(vocab_size=vocab_size + 16, **{**sizes, **ends, **changes}))


def make_model(folder: Path, architecture: Architecture = llama, *, seed: int = 0, **changes: Any) -> Path:
    """Write tokenizer and model to `folder` and return it; equal seeds give equal weights."""
    import torch

    size = make_tokenizer(folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        architecture(size, **changes).to(torch.float32).save_pretrained(folder)
    return folder
