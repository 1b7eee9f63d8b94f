"""Packing of one iteration's FCFT examples: seconds and fill, beside other ways.

    python -m benchmarks.pack [--examples 47872] [--batch-size 128] [--rounds 3]

Lengths are log-normal with mean 258 tokens, clipped to 40..900, like FCFT sequences on MBPP (paper: 374 problems, 128
samples each). Fill is the share of tokens among positions with a step's rows padded to the longest of them.
"""

from __future__ import annotations

import argparse
import platform
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np

from stages.build.packing import Ints, fill, pack

Steps = Sequence[Sequence[int]]
Way = Callable[[list[Ints], int], Steps]


def balanced(groups: list[Ints], capacity: int) -> Steps:
    """leti: every step by itself, rows of equal length."""
    packed = pack(groups, capacity)
    return [[int(group[row].sum()) for row in rows] for group, rows in zip(groups, packed, strict=True)]


def best_fit_per_step(groups: list[Ints], capacity: int) -> Steps:
    """Best-fit decreasing, every step by itself."""
    return [_best_fit(group.tolist(), capacity) for group in groups]


def best_fit_over_all(groups: list[Ints], capacity: int) -> Steps:
    """Best-fit decreasing over the whole epoch, as TRL's `bfd` packs: fuller, but steps no longer hold a set batch."""
    rows = _best_fit(np.concatenate(groups).tolist(), capacity)
    return [rows[start : start + 16] for start in range(0, len(rows), 16)]


def padded(groups: list[Ints], capacity: int) -> Steps:
    """No packing: each example a row, padded to the longest rounded up to 128 (official code)."""
    return [[*group.tolist(), -(-int(group.max()) // 128) * 128] for group in groups]


def _best_fit(lengths: Sequence[int], capacity: int) -> list[int]:
    """Each length, longest first, into the fullest row that still has room; rooms kept sorted."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        place = bisect_left(rooms, length)
        room = rooms.pop(place) if place < len(rooms) else capacity
        insort(rooms, room - length)
    return [capacity - room for room in rooms]


def _fill(way: Way, steps: Steps, tokens: int) -> float:
    if way is padded:
        return tokens / sum((len(rows) - 1) * rows[-1] for rows in steps)
    return fill(steps)


def main() -> None:
    """Measure every way at three pack lengths and print a Markdown table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", type=int, default=47_872)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    drawn = np.random.default_rng(0).lognormal(np.log(228), 0.5, options.examples)
    lengths = np.clip(drawn, 40, 900).astype(np.int64)
    whole = len(lengths) // options.batch_size * options.batch_size
    groups = list(lengths[:whole].reshape(-1, options.batch_size))
    tokens = int(lengths[:whole].sum())
    print(f"{whole} examples, {tokens} tokens, mean {lengths.mean():.0f}; {platform.processor() or platform.machine()}")
    print("| way | rows up to | rows | fill | seconds |\n|---|---|---|---|---|")
    for capacity in (1024, 2048, 4096):
        for way in (balanced, best_fit_per_step, best_fit_over_all, padded):
            seconds = []
            for _ in range(options.rounds):
                started = perf_counter()
                steps = way(groups, capacity)
                seconds.append(perf_counter() - started)
            rows = sum(map(len, steps)) - (len(steps) if way is padded else 0)
            share = _fill(way, steps, tokens)
            print(f"| {way.__name__} | {capacity} | {rows} | {share:.2%} | {min(seconds):.2f} |")


if __name__ == "__main__":
    main()
