"""A run as it goes, unit by unit: the store says what is done, a backend adds what it sees of the rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from leti_ctl import control, decisions
from leti_ctl.pipeline import Unit, done_units, plan
from stages.contract.run import Run
from stages.contract.spec import RunSpec

State = Literal["done", "running", "waiting", "failed", "open"]
"""`waiting`: a pod exists and does not run yet. `failed`: the last attempt did; another may follow. `open`: neither."""


class Place(NamedTuple):
    """What a pod works on, in the words of its command line."""

    stage: str
    iteration: int
    split: str
    part: str

    @classmethod
    def of(cls, unit: Unit) -> Place:
        """Return a unit's place; stages that have no passes or parts say train and 0/1."""
        return cls(unit.stage, unit.iteration, unit.split, str(unit.part))


class Sighting(NamedTuple):
    """One pod, or one process."""

    place: Place
    name: str
    phase: str
    """Pending, Running, Succeeded, Failed or Unknown."""
    reason: str
    """Why it does not run, or how it failed; empty otherwise."""
    is_active: bool


class Seen(NamedTuple):
    """A unit and what is known of it."""

    unit: Unit
    state: State
    note: str


class Row(NamedTuple):
    """The units of one node of the graph in one iteration."""

    iteration: int
    title: str
    units: tuple[Seen, ...]

    def count(self, state: State) -> int:
        """Return how many of the units are in a state."""
        return sum(seen.state == state for seen in self.units)

    @property
    def notes(self) -> list[str]:
        """What is said of units that wait, fail or run, once each."""
        return list(dict.fromkeys(seen.note for seen in self.units if seen.note))


def look(run: Run, sightings: Iterable[Sighting] = ()) -> list[Row]:
    """Return the run's rows in graph order, from one listing of the store and what the backend sees."""
    spec = decisions.effective(run, control.current_spec(run))
    return _rows(run, spec, list(sightings))


def _rows(run: Run, spec: RunSpec, sightings: list[Sighting]) -> list[Row]:
    whole = plan(spec)
    done = done_units(run, spec, whole)
    newest = {sighting.place: sighting for sighting in sightings}
    active = {sighting.place: sighting for sighting in sightings if sighting.is_active}
    rows: dict[tuple[int, str], list[Seen]] = {}
    for unit in whole.units:
        place = Place.of(unit)
        sighting = active.get(place) or newest.get(place)
        rows.setdefault((unit.iteration, _title(unit)), []).append(_seen(unit, unit in done, sighting))
    return [Row(iteration, title, tuple(units)) for (iteration, title), units in rows.items()]


def _title(unit: Unit) -> str:
    return unit.stage if unit.stage in ("prepare", "build", "train") else f"{unit.stage} {unit.split}"


def _seen(unit: Unit, is_done: bool, sighting: Sighting | None) -> Seen:
    if is_done:
        return Seen(unit, "done", "")
    if sighting is None or sighting.phase == "Succeeded":
        return Seen(unit, "open", "")
    if sighting.phase == "Failed":
        return Seen(unit, "failed", f"{sighting.name}: {sighting.reason}")
    if sighting.phase == "Running":
        return Seen(unit, "running", sighting.reason)
    return Seen(unit, "waiting", f"{sighting.name}: {sighting.reason}" if sighting.reason else "")
