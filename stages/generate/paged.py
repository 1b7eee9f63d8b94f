"""vLLM as an engine: paged attention, many times faster on GPUs. An extra that leti's images for GPUs may carry.

Every sample is a request of its own with its own seed, so a part is the same when it runs again on the same kind of GPU
with the same vLLM. The seed feeds vLLM's random stream and not leti's, so its samples are not those of the other
engines, and vLLM does not promise that they never depend on what else is in the batch. On TPUs vLLM refuses seeds per
request; use the static engine there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from stages.contract.errors import ModelError, UsageError
from stages.contract.spec import Sampling
from stages.device import find_device
from stages.generate.codec import Codec
from stages.generate.engine import Completed, Completion, Progress, Request
from stages.generate.limits import token_limit

log = logging.getLogger("leti")
AT_ONCE = 4096
"""Requests handed over together; between two lots progress is told."""
NEVER = -100.0
"""The least `logit_bias` vLLM takes."""


class VllmEngine:
    """Samples with vLLM from a checkpoint folder."""

    def __init__(self, checkpoint: Path, *, batch_size: int, dtype: Literal["float32", "bfloat16"]) -> None:
        started = perf_counter()
        if find_device().type == "tpu":
            raise UsageError("generate.engine: vllm takes no seed per sample on TPUs; start a run with engine static")
        self.vllm = _import_vllm()
        self.codec = Codec(checkpoint)
        try:
            # Ids go in and come out; the tokenizer stays ours.
            self.model = self.vllm.LLM(
                model=str(checkpoint), skip_tokenizer_init=True, dtype=dtype, max_num_seqs=batch_size, seed=0
            )
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise ModelError(f"checkpoint {checkpoint} cannot be loaded by vLLM: {reason}") from error
        config = self.model.llm_engine.model_config
        self.context, self.rows = int(config.max_model_len), int(config.get_vocab_size())
        self.counters: dict[str, float] = {"load_seconds": perf_counter() - started}

    def generate(self, requests: Sequence[Request], sampling: Sampling, progress: Progress) -> Iterator[Completed]:
        """Yield one answer per request, in order, after all of them are written."""
        prompts = [self.codec.encode(request.prompt, request.reward_token) for request in requests]
        rooms = [self._room(request, len(ids), sampling) for request, ids in zip(requests, prompts, strict=True)]
        asked = [
            (ids, self._parameters(sampling, seed, room))
            for request, ids, room in zip(requests, prompts, rooms, strict=True)
            for seed in request.seeds
            if room
        ]
        written = iter(self._write(asked, progress))
        for request, ids, room in zip(requests, prompts, rooms, strict=True):
            empty = Completion("", (), "length")
            yield Completed(len(ids), [next(written) if room else empty for _ in request.seeds])

    def _write(self, asked: list[tuple[list[int], Any]], progress: Progress) -> list[Completion]:
        started, done, tokens = perf_counter(), [], 0
        for first in range(0, len(asked), AT_ONCE):
            lot = asked[first : first + AT_ONCE]
            prompts = [{"prompt_token_ids": ids} for ids, _ in lot]
            outputs = self.model.generate(prompts, [parameters for _, parameters in lot], use_tqdm=False)
            for (ids, _), output in zip(lot, outputs, strict=True):
                done.append(self._complete(ids, output.outputs[0]))
            tokens += sum(len(output.outputs[0].token_ids) for output in outputs)
            progress(len(done), tokens)
        self.counters |= {"decode_seconds": perf_counter() - started, "tokens": float(tokens)}
        return done

    def _complete(self, prompt: list[int], output: Any) -> Completion:
        ids = list(output.token_ids)
        ended = bool(ids) and ids[-1] in self.codec.ends
        kept = ids[:-1] if ended else ids
        return Completion(self.codec.decode(kept, after=prompt[-1]), tuple(kept), "eos" if ended else "length")

    def _parameters(self, sampling: Sampling, seed: int, room: int) -> Any:
        banned = ({*self.codec.special} | set(range(self.codec.size, self.rows))) - self.codec.ends
        return self.vllm.SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            seed=seed,
            max_tokens=room,
            stop_token_ids=sorted(self.codec.ends),
            logit_bias=dict.fromkeys(sorted(banned), NEVER),
            detokenize=False,
        )

    def _room(self, request: Request, length: int, sampling: Sampling) -> int:
        room = min(token_limit(length, sampling), self.context - length)
        if room <= 0:
            log.warning("%s: its %d prompt tokens leave no room for a solution", request.problem_id, length)
        return max(0, room)


def _import_vllm() -> Any:
    try:
        import vllm
    except ImportError as error:
        raise UsageError(
            "generate.engine: vllm is not installed; install it beside leti (pip install vllm) or start a run with "
            "engine transformers"
        ) from error
    return vllm
