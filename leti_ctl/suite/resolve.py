"""From cells to runs: each spec once, however many cells and tables read it; trainings before what scores them.

A run is trained no further than the cells look: the best of all iterations takes them all, a score after six takes six.
A later suite that looks further goes on where that one ended.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from leti_ctl import control, layers
from leti_ctl.config import specs
from leti_ctl.suite.book import Cell, Table
from leti_ctl.suite.trial import Trial
from stages.contract.errors import LetiError
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import Store

DIGITS = 10
"""Hexadecimal digits of a spec's digest in its run's name."""


@dataclass
class Wanted:
    """A run that some cells read."""

    name: str
    preset: str
    """The first preset that led here."""
    spec: RunSpec
    tables: list[str] = field(default_factory=list)

    @property
    def parent(self) -> str | None:
        """The run whose checkpoint it scores."""
        return self.spec.model.from_run


class Resolver:
    """Hands out the run behind each preset and remembers them in an order in which they can be made.

    `known` are runs that a store has already, by `key`: whoever made one, it is not made again.
    """

    def __init__(self, trial: Trial, known: Mapping[str, str] = MappingProxyType({})) -> None:
        self.trial = trial
        self.runs: dict[str, Wanted] = {}
        self._names = dict(known)
        self._specs: dict[tuple[str, str], RunSpec] = {}
        self._table = ""

    def add(self, name: str, table: Table) -> None:
        """Resolve every cell of a table."""
        self._table = name
        for spot in table.spots():
            self.sources(spot.cell)

    def sources(self, cell: Cell) -> list[Wanted]:
        """Return the runs a cell reads: what it is made of, in the order in which they are combined."""
        trained = self.training(cell.run, _looks_at(cell)) if cell.run else None
        if cell.measure == "gain_ratio" and cell.against:
            return [each for each in (trained, self.training(cell.against)) if each]
        if cell.evaluation is None:
            return [trained] if trained else []
        presets = [cell.evaluation.format(token=token) for token in cell.tokens]
        if cell.minus:
            presets.append(cell.minus.format(token=cell.tokens[0]))
        return [self.evaluation(preset, trained, cell.at) for preset in presets]

    def training(self, preset: str, until: int | None = None) -> Wanted:
        """Return the run that trains `preset`, so many iterations of it at least; None for all."""
        return self._wanted(preset, {}, until)

    def evaluation(self, preset: str, trained: Wanted | None, at: int | str | None) -> Wanted:
        """Return the run that scores a checkpoint of `trained`, or the base model, as `preset` says."""
        if trained is None:
            return self._wanted(preset, {})
        model = trained.spec.model.model_dump(mode="json")
        origin = {"from_run": trained.name, "from_iteration": iteration(trained, at)}
        return self._wanted(preset, {"model": {**model, **origin}})

    def _wanted(self, preset: str, over: dict[str, Any], until: int | None = None) -> Wanted:
        preset = self.trial.preset(preset)
        spec = self._load(preset, over)
        if until is not None and spec.iterations:
            spec = spec.model_copy(update={"iterations": min(spec.iterations, max(until, 1))})
        same = key(spec)
        found = self.runs.get(same)
        if found is None:
            found = self.runs[same] = Wanted(self._names.get(same, f"{preset}-{same}"), preset, spec)
        elif spec.iterations > found.spec.iterations:
            found.spec = spec
        if self._table not in found.tables:
            found.tables.append(self._table)
        return found

    def _load(self, preset: str, over: dict[str, Any]) -> RunSpec:
        asked = (preset, json.dumps(over, sort_keys=True))
        if asked not in self._specs:
            spec = specs.load_spec(preset=preset, file=None, overrides=(), iterations=None)
            self._specs[asked] = specs.validate(layers.merge(self.trial.apply(spec), over))
        return self._specs[asked]


def key(spec: RunSpec) -> str:
    """Return what runs of the same computation have in common, and others not.

    Iterations are in no digest, but whether there are any decides what a run is: one that only evaluates ends in `e`.
    """
    return spec.digest()[:DIGITS] + ("" if spec.iterations else "e")


def known_runs(store: Store) -> dict[str, str]:
    """Return the runs of a store by `key`; of equal ones that which a suite named, else the first by name."""
    found: dict[str, str] = {}
    for name in control.run_names(store):
        with suppress(LetiError):  # one whose spec cannot be read is nobody's
            same = key(control.current_spec(Run(store, name)))
            if same not in found or name.endswith(f"-{same}"):
                found[same] = name
    return found


def _looks_at(cell: Cell) -> int | None:
    """Return the last iteration of its run that a cell looks at; None where that is all of them."""
    return cell.at if cell.measure == "score" and isinstance(cell.at, int) else None


def iteration(trained: Wanted, at: int | str | None) -> int:
    """Return the iteration of a run that `at` means; a shortened run's last stands for those it does not reach."""
    last = trained.spec.iterations
    return min(at, last) if isinstance(at, int) else last
