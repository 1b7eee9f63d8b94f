"""What of vLLM's offline interface the engine uses, computed by transformers: `LLM`, `SamplingParams`, outputs.

A package of that name is put on the path by a test. Arguments that vLLM does not have are refused as it refuses them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from transformers import AutoModelForCausalLM


@dataclass(frozen=True)
class SamplingParams:
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    max_tokens: int = 16
    stop_token_ids: list[int] = field(default_factory=list)
    logit_bias: dict[int, float] = field(default_factory=dict)
    detokenize: bool = True


@dataclass
class CompletionOutput:
    token_ids: list[int]
    finish_reason: str
    stop_reason: int | None = None


@dataclass
class RequestOutput:
    outputs: list[CompletionOutput]


class LLM:
    def __init__(self, model: str, *, skip_tokenizer_init: bool, dtype: str, max_num_seqs: int, seed: int) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype))
        config = self.model.config
        length = SimpleNamespace(max_model_len=config.max_position_embeddings, get_vocab_size=lambda: config.vocab_size)
        self.llm_engine = SimpleNamespace(model_config=length)

    def generate(
        self, prompts: list[dict[str, list[int]]], sampling_params: list[SamplingParams], *, use_tqdm: bool
    ) -> list[RequestOutput]:
        assert len(prompts) == len(sampling_params) and use_tqdm is False
        pairs = zip(prompts, sampling_params, strict=True)
        return [self._one(prompt["prompt_token_ids"], given) for prompt, given in pairs]

    @torch.inference_mode()
    def _one(self, prompt: list[int], given: SamplingParams) -> RequestOutput:
        generator = torch.Generator().manual_seed(given.seed or 0)
        ids: list[int] = []
        while len(ids) < given.max_tokens:
            logits: Any = self.model(torch.tensor([prompt + ids])).logits[0, -1]
            for number, bias in given.logit_bias.items():
                logits[number] += bias
            weights = torch.softmax(logits / given.temperature, -1)
            ids.append(int(torch.multinomial(weights, 1, generator=generator)))
            if ids[-1] in given.stop_token_ids:  # vLLM's token ids hold the one that stopped it
                return RequestOutput([CompletionOutput(ids, "stop", ids[-1])])
        return RequestOutput([CompletionOutput(ids, "length")])
