"""How long a graph of units takes: list scheduling with as many places per pool as the pool has."""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TypeVar

from leti_ctl.pipeline import Plan, Unit

K = TypeVar("K")


def finish_time(
    whole: Plan, seconds: Mapping[Unit, float], place: Callable[[Unit], K], places: Mapping[K, int]
) -> float:
    """Return when the last unit ends.

    A unit starts as soon as all it waits for is done and its pool has a free place; of several that could, the one
    that comes first in the plan. A pool that `places` does not name has room for all.
    """
    waiting_for = {unit: len(whole.after[unit]) for unit in whole.units}
    unlocks: defaultdict[Unit, list[Unit]] = defaultdict(list)
    for unit in whole.units:
        for before in whole.after[unit]:
            unlocks[before].append(unit)
    free: dict[K, float] = {place(unit): places.get(place(unit), math.inf) for unit in whole.units}
    ready: dict[K, list[tuple[tuple[int, int, int], Unit]]] = {name: [] for name in free}
    for unit in whole.units:
        if not waiting_for[unit]:
            heapq.heappush(ready[place(unit)], (unit.rank, unit))
    running: list[tuple[float, tuple[int, int, int], Unit]] = []
    now = 0.0
    while True:
        for name, queue in ready.items():
            while queue and free[name] > 0:
                _, unit = heapq.heappop(queue)
                free[name] -= 1
                heapq.heappush(running, (now + seconds[unit], unit.rank, unit))
        if not running:
            return now
        now, _, ended = heapq.heappop(running)
        free[place(ended)] += 1
        for unit in unlocks[ended]:
            waiting_for[unit] -= 1
            if not waiting_for[unit]:
                heapq.heappush(ready[place(unit)], (unit.rank, unit))
