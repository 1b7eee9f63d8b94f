"""Following a run that a process on this machine drives, or nobody: from the store and the stages' logs."""

from __future__ import annotations

import time
from collections.abc import Iterator

from leti_ctl import control, decisions
from leti_ctl.follow import journal, sight
from leti_ctl.follow.board import Picture
from leti_ctl.follow.progress import TOLD, describe
from leti_ctl.pipeline import done_units, plan
from leti_ctl.results import summary
from stages.contract.run import Run

EVERY_SECONDS = 2.0


def pictures(run: Run, *, every: float = EVERY_SECONDS) -> Iterator[Picture]:
    """Yield the run as it is now, then every few seconds for as long as somebody drives it."""
    while True:
        phase = _phase(run)
        yield Picture(f"{run.name} · {_driver(run)} · {phase}", sight.look(run, sightings(run)))
        if phase != "Running":
            return
        time.sleep(every)


def sightings(run: Run) -> list[sight.Sighting]:
    """Return what the logs on this machine tell of units at work; nothing when no live process drives the run."""
    driver = control.find_driver(run)
    if driver is None or not (driver.is_here and driver.is_alive):
        return []
    found = (_sighting(text) for text in journal.local_texts(run))
    return [each for each in found if each is not None]


def _sighting(text: str) -> sight.Sighting | None:
    """Return the last word of an attempt's log; None when it says that the attempt has ended."""
    entries = [journal.parse_line(line) for line in text.splitlines()]
    placed = next((entry for entry in entries if "stage" in entry), None)
    if placed is None or entries[-1].get("event") in ("done", "failed", "skipped"):
        return None
    progress = next((entry for entry in reversed(entries) if entry.get("event") in TOLD), None)
    place = sight.Place(placed["stage"], placed["iteration"], placed["split"], placed["part"])
    return sight.Sighting(place, "", "Running", describe(progress) if progress else "", True)


def _phase(run: Run) -> str:
    spec = decisions.effective(run, control.current_spec(run))
    whole = plan(spec)
    complete = len(done_units(run, spec, whole)) == len(whole.units)
    return summary.phase(run, complete, bool(control.failures(run)))


def _driver(run: Run) -> str:
    driver = control.find_driver(run)
    return driver.title if driver else "driven by nobody"
