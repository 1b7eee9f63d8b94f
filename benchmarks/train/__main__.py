"""Training tokens per second: packed examples, the same behind a dense mask, and padded.

    python -m benchmarks.train [--examples 12] [--micro-batch-tokens 512 1024 2048] [--ways packed] [--threads 2]

Random weights in the shape of SmolLM2-135M; examples as long as LETI's on the basics (log-normal, mean 200 tokens).
One measurement is forward and backward of all examples; the optimizer's step is timed by itself. Seconds of the
process's processors stand beside the clock's, because on a shared machine only those compare.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from time import perf_counter, process_time
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from stages.train.packed import PackedLoss

SMOLLM2 = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
}
Examples = list[Tensor]
Way = Callable[[Any, Examples], Tensor]


def packed(model: Any, examples: Examples) -> Tensor:
    """leti: one row, attention example by example."""
    ids = torch.cat(examples)
    mask = torch.cat([_mask(example) for example in examples])
    loss: Tensor = model(ids, [len(example) for example in examples], mask)
    return loss


def dense(model: Any, examples: Examples) -> Tensor:
    """One row behind a block-diagonal mask of [tokens, tokens]."""
    ids = torch.cat(examples)
    owner = torch.repeat_interleave(torch.arange(len(examples)), torch.tensor([len(e) for e in examples]))
    mask = ((owner[:, None] == owner[None]) & torch.ones(len(ids), len(ids)).tril().bool()).to(ids.device)
    positions = torch.cat([torch.arange(len(example)) for example in examples]).to(ids.device)
    logits = model(input_ids=ids[None], position_ids=positions[None], attention_mask=mask[None, None]).logits[0]
    targets = torch.cat([_mask(example) for example in examples])[1:].bool()
    return F.cross_entropy(logits[:-1][targets].float(), ids[1:][targets], reduction="sum")


def padded(model: Any, examples: Examples) -> Tensor:
    """A batch padded to its longest example."""
    ids = torch.nn.utils.rnn.pad_sequence(examples, batch_first=True)
    seen = torch.nn.utils.rnn.pad_sequence([torch.ones_like(example) for example in examples], batch_first=True)
    logits = model(input_ids=ids, attention_mask=seen).logits
    targets = seen[:, 1:].bool()
    return F.cross_entropy(logits[:, :-1][targets].float(), ids[:, 1:][targets], reduction="sum")


def _mask(example: Tensor) -> Tensor:
    mask = torch.ones(len(example), dtype=torch.int8, device=example.device)
    mask[0] = 0
    return mask


def micro_batches(way: Way, examples: Examples, tokens: int) -> Iterator[Examples]:
    """Yield groups of at most so many positions, padding counted where there is any."""
    group: Examples = []
    for example in examples:
        grown = [*group, example]
        positions = len(grown) * max(map(len, grown)) if way is padded else sum(map(len, grown))
        if group and positions > tokens:
            yield group
            grown = [example]
        group = grown
    yield group


def make_model(way: Way, device: str) -> Any:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=49_156, attn_implementation="sdpa", **SMOLLM2)).to(device)
    return PackedLoss(model) if way is packed else model


def measure(way: Way, model: Any, examples: Examples, tokens: int) -> tuple[float, float]:
    """Return seconds of the clock and of the processors for one pass over the examples."""
    total = sum(map(len, examples))
    clock, processors = perf_counter(), process_time()
    with torch.autocast("cuda", torch.bfloat16, enabled=examples[0].is_cuda):
        for group in micro_batches(way, examples, tokens):
            (way(model, group) / total).backward()
    if examples[0].is_cuda:
        torch.cuda.synchronize()
    return perf_counter() - clock, process_time() - processors


def main() -> None:
    """Measure every way and print a Markdown table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", type=int, default=12)
    parser.add_argument("--micro-batch-tokens", type=int, nargs="+", default=[512, 1024, 2048])
    parser.add_argument("--ways", nargs="+", default=["packed", "dense", "padded"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(np.log(177), 0.5, options.examples), 40, 900).astype(int)
    examples = [torch.from_numpy(random.integers(0, 49_152, n)).to(options.device) for n in lengths]
    total = int(lengths.sum())
    print(f"{len(lengths)} examples, {total} tokens, torch {torch.__version__}, {options.threads} threads")
    print("| way | micro-batch tokens | tokens/s | tokens/s per processor |\n|---|---|---|---|")
    for way in [way for way in (packed, dense, padded) if way.__name__ in options.ways]:
        model = make_model(way, options.device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
        measure(way, model, examples[:1], 1)
        for tokens in options.micro_batch_tokens:
            clock, processors = measure(way, model, examples, tokens)
            print(f"| {way.__name__} | {tokens} | {total / clock:.0f} | {total / processors:.0f} |", flush=True)
        started = perf_counter()
        optimizer.step()
        print(f"| {way.__name__}: AdamW step | | {perf_counter() - started:.2f} s | |")


if __name__ == "__main__":
    main()
