"""The default engine: any causal LM of `transformers`, on whatever device torch finds, with leti's own decode loop."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Literal, Protocol

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from stages.contract.errors import ModelError
from stages.contract.spec import Sampling
from stages.device import count_accelerators, find_device
from stages.entrypoint import threads
from stages.generate.codec import Codec
from stages.generate.decode import Decoder, Prompt, Tally, Written
from stages.generate.engine import Completed, Completion, Progress, Request
from stages.generate.limits import token_limit
from stages.generate.sampling import Sampler

log = logging.getLogger("leti")
ATTENTION_KINDS = {"full_attention", "sliding_attention"}


class AnyDecoder(Protocol):
    """Writes the samples of many prompts."""

    tally: Tally

    def run(self, prompts: Sequence[Prompt]) -> Iterator[list[Written]]:
        """Yield samples as they end."""
        ...


class TransformersEngine:
    """Samples with a model from a checkpoint folder."""

    def __init__(self, checkpoint: Path, *, batch_size: int, dtype: Literal["float32", "bfloat16"]) -> None:
        started = perf_counter()
        torch.set_num_threads(threads())
        self.codec = Codec(checkpoint)
        self.model = load_model(checkpoint, getattr(torch, dtype))
        self.context = context_length(self.model)
        self.batch_size = batch_size
        accelerators = float(count_accelerators())  # what the pod holds, used or not
        self.counters: dict[str, float] = {"load_seconds": perf_counter() - started, "accelerators": accelerators}

    def generate(self, requests: Sequence[Request], sampling: Sampling, progress: Progress) -> Iterator[Completed]:
        """Yield one answer per request, in order, after all of them are written."""
        prompts = [self._prompt(request, sampling) for request in requests]
        decoder = self.make_decoder(sampling)
        written: list[list[Written | None]] = [[None] * len(prompt.seeds) for prompt in prompts]
        done = 0
        for ended in decoder.run(prompts):
            for one in ended:
                written[one.prompt][one.sample] = one
            done += len(ended)
            progress(done, decoder.tally.tokens)
        self.counters |= {name: float(value) for name, value in vars(decoder.tally).items()}
        for prompt, samples in zip(prompts, written, strict=True):
            yield Completed(len(prompt.ids), [self._complete(prompt, one) for one in samples if one])

    def make_decoder(self, sampling: Sampling) -> AnyDecoder:
        """Return what writes the samples."""
        sampler = Sampler(sampling, self._banned(), self.model.device)
        return Decoder(self.model, sampler, self.codec.ends, self.batch_size)

    def _prompt(self, request: Request, sampling: Sampling) -> Prompt:
        ids = self.codec.encode(request.prompt, request.reward_token)
        room = min(token_limit(len(ids), sampling), self.context - len(ids))
        if room <= 0:
            log.warning("%s: its %d prompt tokens leave no room for a solution", request.problem_id, len(ids))
        return Prompt(ids, request.seeds, max(0, room))

    def _complete(self, prompt: Prompt, one: Written) -> Completion:
        return Completion(self.codec.decode(one.ids, after=prompt.ids[-1]), tuple(one.ids), one.finish_reason)

    def _banned(self) -> set[int]:
        """Ids without a text of their own: special tokens other than the ends, and spare embedding rows."""
        rows = self.model.get_output_embeddings().weight.shape[0]
        return ({*self.codec.special} | set(range(self.codec.size, rows))) - self.codec.ends


def context_length(model: PreTrainedModel) -> int:
    """Return how many tokens the model can attend to; `ModelError` where it does not work by attention alone."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ATTENTION_KINDS)
    if not kinds <= ATTENTION_KINDS:
        strange = ", ".join(sorted(kinds - ATTENTION_KINDS))
        raise ModelError(
            f"model.source: {config.model_type} has {strange} layers; choose a model of attention layers only"
        )
    window = getattr(config, "sliding_window", None)
    return min(int(config.max_position_embeddings), int(window or config.max_position_embeddings))


def load_model(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Return the folder's model, ready to sample, on this process's device."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(f"checkpoint {folder} cannot be loaded: {reason}") from error
    device = find_device()
    if device.type == "tpu" and dtype == torch.float32:
        torch.set_float32_matmul_precision("highest")  # else TPUs multiply in bf16
    return model.eval().to(device)
