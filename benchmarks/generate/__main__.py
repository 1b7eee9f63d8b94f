"""Tokens per second of leti's decode loop beside `model.generate`, on the project's own problems.

    python -m benchmarks.generate [--problems 16] [--samples 8] [--max-new-tokens 48] [--rounds 3]

Every round measures each way once, in turn, so that what else the machine does falls on all of them alike; the best
round counts. Seconds of the process's processors stand beside the clock's, because on a shared machine only those
compare. All ways sample at temperature 1 with equal limits; they draw different numbers, so their token counts differ.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import NamedTuple

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
import transformers

from stages.contract.spec import Sampling, TaskSpec
from stages.generate.engine import Request
from stages.generate.transformer import TransformersEngine
from stages.prepare.smollm2 import cached_folder
from stages.tasks import load_problems


class Measured(NamedTuple):
    """One run of one way."""

    tokens: int
    seconds: float
    processor_seconds: float


Way = Callable[[], int]


def measure(way: Way) -> Measured:
    started, started_processor = perf_counter(), process_time()
    tokens = way()
    return Measured(tokens, perf_counter() - started, process_time() - started_processor)


def leti(folder: Path, requests: list[Request], sampling: Sampling, batch_size: int) -> Way:
    def run() -> int:
        engine.batch_size = batch_size
        answers = list(engine.generate(requests, sampling, lambda samples, tokens: None))
        return sum(len(one.token_ids) + (one.finish_reason == "eos") for each in answers for one in each.completions)

    engine = _engine(folder)
    return run


def plain(folder: Path, requests: list[Request], sampling: Sampling, batch_size: int) -> Way:
    """`generate` as its documentation has it: left-padded prompts, `num_return_sequences` for the samples."""

    def run() -> int:
        count = 0
        for first in range(0, len(requests), together):
            batch = tokenizer(
                [one.prompt for one in requests[first : first + together]], return_tensors="pt", padding=True
            )
            written = engine.model.generate(
                **batch, do_sample=True, top_k=0, max_new_tokens=sampling.max_new_tokens, num_return_sequences=samples
            )[:, batch["input_ids"].shape[1] :]
            ended = (written == end).cumsum(-1)
            count += int(((ended == 0) | ((ended == 1) & (written == end))).sum())
        return count

    engine = _engine(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
    end = tokenizer.eos_token_id
    samples = len(requests[0].seeds)
    together = max(1, batch_size // samples)
    return run


_ENGINES: dict[Path, TransformersEngine] = {}


def _engine(folder: Path) -> TransformersEngine:
    if folder not in _ENGINES:
        _ENGINES[folder] = TransformersEngine(folder, batch_size=1, dtype="float32")
    return _ENGINES[folder]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=16)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[16, 32, 64, 128])
    options = parser.parse_args()
    folder = cached_folder()
    problems = load_problems(TaskSpec(train_problems=options.problems), "train")
    requests = [Request(one.problem_id, one.prompt, "", tuple(range(options.samples))) for one in problems]
    sampling = Sampling(temperature=1.0, max_new_tokens=options.max_new_tokens)
    ways = {
        (name, size): make(folder, requests, sampling, size)
        for size in options.batch_sizes
        for name, make in (("model.generate", plain), ("leti", leti))
    }
    best: dict[tuple[str, int], Measured] = {}
    for _ in range(options.rounds):
        for key, way in ways.items():
            found = measure(way)
            best[key] = min(best.get(key, found), found, key=lambda one: one.processor_seconds / one.tokens)
    processors = f"{os.cpu_count()} processors, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"
    print(f"{platform.processor() or platform.machine()}, {processors}, torch {torch.__version__}")
    print("| way | batch | tokens | tokens/s | tokens per processor second |\n|---|---|---|---|---|")
    for (name, size), one in best.items():
        rate, per_processor = one.tokens / one.seconds, one.tokens / one.processor_seconds
        print(f"| {name} | {size} | {one.tokens:,} | {rate:.0f} | {per_processor:.0f} |")


if __name__ == "__main__":
    main()
