"""What must be known of a benchmark where none can be loaded: in a spec's rules and in `leti_ctl`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from stages.contract.sections import Split, TaskName


class Benchmark(NamedTuple):
    """A data set's splits, and whether its solutions are programs that a sandbox runs."""

    splits: tuple[Split, ...] = ("train", "validation", "test")
    is_program: bool = True


BENCHMARKS: Mapping[TaskName, Benchmark] = {
    "humaneval": Benchmark(splits=("test",)),
    "gsm8k_pal": Benchmark(splits=("train", "test")),
    "bbh": Benchmark(splits=("test",), is_program=False),
}
"""Those that lack a split or run no program; a task that is not here has all three and does."""


def benchmark_of(name: TaskName) -> Benchmark:
    """Return what is known of a task."""
    return BENCHMARKS.get(name, Benchmark())
