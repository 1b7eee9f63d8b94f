"""What a tracker must be able to do, those there are, and the export of a run to one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import NamedTuple, Protocol

from leti_ctl.tracking.card import Card, describe
from leti_ctl.tracking.points import Point, points
from stages.contract.errors import UsageError
from stages.contract.run import Run

TRACKERS = {"mlflow": "mlflow-skinny and sqlalchemy", "tensorboard": "tensorboard"}
"""Module in this package, and what it needs installed. A tracker more is a module with `open_sink` and a line here."""
Place = tuple[str, int]
"""Name and step of a point."""


class Sink(Protocol):
    """One tracker, open for any number of runs."""

    def open_run(self, card: Card) -> None:
        """Find the run there, or make it; the calls that follow are about it."""

    def known(self, names: Sequence[str]) -> set[Place]:
        """Return which points of these names the run has there."""

    def write(self, new: Sequence[Point]) -> None:
        """Add points that are not there."""

    def describe(self, card: Card) -> None:
        """Bring parameters, tags, documents and the run's state up to date."""


class Exported(NamedTuple):
    """What one export of a run did."""

    run: str
    phase: str
    points: int
    """All that the run has."""
    new: int
    """Those the tracker did not have."""


def open_sink(target: str, experiment: str) -> Sink:
    """Return the tracker that `mlflow:URI` or `tensorboard:DIR` names.

    `UsageError` for an unknown one, for one whose library is not installed and for an address that will not do.
    """
    kind, _, address = target.partition(":")
    if kind not in TRACKERS:
        known = ", ".join(f"{name}:..." for name in TRACKERS)
        raise UsageError(f"--to {target!r}: no tracker of that name; write one of {known}")
    try:
        module = import_module(f"leti_ctl.tracking.{kind}")
        sink: Sink = module.open_sink(address, experiment)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"--to {target}: needs {TRACKERS[kind]}, and {error.name} is missing; pip install 'leti[tracking]'"
        ) from error
    return sink


def exports(
    runs: Sequence[Run], sinks: Mapping[str, Sink], every: float | None = None
) -> Iterator[list[tuple[str, Exported]]]:
    """Yield what an export of every run to every tracker did; with `every`, again after so many seconds for as long as
    one of the runs goes on.
    """
    while True:
        done = [(target, export(run, sink)) for run in runs for target, sink in sinks.items()]
        yield done
        if every is None or all(each.phase != "Running" for _, each in done):
            return
        time.sleep(every)


def export(run: Run, sink: Sink) -> Exported:
    """Tell a tracker what it does not know yet about a run; return how much that was."""
    card = describe(run)
    sink.open_run(card)
    found = list(points(run))
    there = sink.known(sorted({point.name for point in found}))
    new = [point for point in found if (point.name, point.step) not in there]
    sink.write(new)
    sink.describe(card)
    return Exported(run.name, card.phase, len(found), len(new))
