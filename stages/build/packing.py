"""Laying a step's examples into rows of nearly equal length.

A step's rows are trimmed to its longest row, so what costs is not the room left below `pack_length` but the difference
between rows: this is multiway number partitioning, not bin packing. Longest-first greedy (LPT; Graham 1969) followed by
exchanges between the longest and the shortest row gets within 0.3 % of perfect balance on MBPP-like lengths. All steps
of a shape are solved together as arrays, [steps, examples], which is what makes it quick.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
EXCHANGES = 16
"""Rounds of exchange; more gained nothing on any distribution tried."""
CANDIDATES = 16
"""Examples of either row that a round looks at."""


def pack(groups: Sequence[Ints], capacity: int) -> list[list[Ints]]:
    """Return, for each group of example lengths, its rows: each an ascending array of positions within the group.

    Every position is in exactly one row, no row sums to more than `capacity`, and equal input gives equal rows.
    `ValueError` when a single length exceeds the capacity.
    """
    by_size = defaultdict(list)
    for number, lengths in enumerate(groups):
        by_size[len(lengths)].append(number)
    packed: list[list[Ints]] = [[] for _ in groups]
    for numbers in by_size.values():
        rows = assign(np.stack([groups[number] for number in numbers]), capacity)
        for number, row_of in zip(numbers, rows, strict=True):
            packed[number] = [np.flatnonzero(row_of == row) for row in np.unique(row_of)]
    return packed


def assign(lengths: Ints, capacity: int) -> Ints:
    """Return the row number of each example, [steps, examples], using few rows and none above `capacity`."""
    if lengths.size and lengths.max() > capacity:
        raise ValueError(f"an example of {lengths.max()} tokens does not fit into a row of {capacity}")
    row_of = np.zeros_like(lengths)
    rows = -(-lengths.sum(axis=1) // capacity)
    waiting = np.arange(len(lengths))
    while len(waiting):
        failed = []
        for count in np.unique(rows[waiting]):
            steps = waiting[rows[waiting] == count]
            row_of[steps] = balance(lengths[steps], int(count))
            fits = _loads(lengths[steps], row_of[steps], int(count)).max(axis=1) <= capacity
            failed.append(steps[~fits])
        waiting = np.concatenate(failed)
        rows[waiting] += 1
    return row_of


def balance(lengths: Ints, rows: int) -> Ints:
    """Return the row of each example, [steps, examples], for exactly `rows` rows of nearly equal sums."""
    row_of = _longest_first(lengths, rows)
    loads = _loads(lengths, row_of, rows)
    for _ in range(EXCHANGES if rows > 1 else 0):
        _exchange(lengths, row_of, loads)
    return row_of


def _longest_first(lengths: Ints, rows: int) -> Ints:
    """Give each example, longest first, to the row that is shortest so far."""
    every = np.arange(len(lengths))
    order = np.argsort(-lengths, axis=1, kind="stable")
    loads = np.zeros((len(lengths), rows), dtype=np.int64)
    row_of = np.empty_like(lengths)
    for example in order.T:
        shortest = loads.argmin(axis=1)
        loads[every, shortest] += lengths[every, example]
        row_of[every, example] = shortest
    return row_of


def _exchange(lengths: Ints, row_of: Ints, loads: Ints) -> None:
    """Swap, in each step, the pair of the longest and shortest row that levels the two best; in place."""
    every = np.arange(len(lengths))
    longest, shortest = loads.argmax(axis=1), loads.argmin(axis=1)
    gap = loads[every, longest] - loads[every, shortest]
    absent = 4 * int(lengths.sum(axis=1).max()) + 1
    giving = np.where(row_of == longest[:, None], lengths, absent)
    taking = np.where(row_of == shortest[:, None], lengths, -absent)
    gives = np.argsort(giving, axis=1, kind="stable")[:, :CANDIDATES]
    takes = np.argsort(-taking, axis=1, kind="stable")[:, :CANDIDATES]
    moved = np.take_along_axis(giving, gives, 1)[:, :, None] - np.take_along_axis(taking, takes, 1)[:, None, :]
    moved = moved.reshape(len(lengths), -1)
    best = np.abs(2 * moved - gap[:, None]).argmin(axis=1)
    moves = moved[every, best]
    better = np.flatnonzero(np.abs(2 * moves - gap) < gap)
    given = gives[better, best[better] // takes.shape[1]]
    taken = takes[better, best[better] % takes.shape[1]]
    row_of[better, given], row_of[better, taken] = shortest[better], longest[better]
    loads[better, longest[better]] -= moves[better]
    loads[better, shortest[better]] += moves[better]


def _loads(lengths: Ints, row_of: Ints, rows: int) -> Ints:
    loads = np.zeros((len(lengths), rows), dtype=np.int64)
    np.add.at(loads, (np.arange(len(lengths))[:, None], row_of), lengths)
    return loads


def fill(steps: Sequence[Sequence[int]]) -> float:
    """Return the share of tokens among positions, each step's rows padded to its longest; rows given by length."""
    positions = sum(len(rows) * max(rows) for rows in steps)
    return sum(map(sum, steps)) / positions if positions else 1.0
