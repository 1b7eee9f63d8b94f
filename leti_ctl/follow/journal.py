"""What stages logged: one file per attempt of a unit, named so that sorting by time is sorting by name's end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from leti_ctl import control
from stages.contract.prompts import sanitize
from stages.contract.run import Run

UNIT_FIELDS = ("stage", "iteration", "split", "part")
POLL_SECONDS = 0.5


class Filter(NamedTuple):
    """Which entries to show; None shows all."""

    stage: str | None = None
    iteration: int | None = None
    split: str | None = None
    part: str | None = None
    """A part's number, or `K/N`."""

    def accepts(self, entry: dict[str, Any]) -> bool:
        """Whether an entry is to be shown; one that does not say where it comes from is only where nothing is asked."""
        plain = {name: getattr(self, name) for name in ("stage", "iteration", "split")}
        part = str(entry.get("part", ""))
        fits = self.part is None or self.part in (part, part.partition("/")[0])
        return fits and all(value is None or entry.get(name) == value for name, value in plain.items())


class Lines:
    """Makes entries of one attempt's lines: a line that does not say whose it is belongs to the unit before it."""

    def __init__(self, unit: dict[str, Any]) -> None:
        self.unit = unit

    def entry(self, line: str) -> dict[str, Any]:
        """Return a line's entry, with its unit's coordinates."""
        found = parse_line(line)
        self.unit = {key: found[key] for key in UNIT_FIELDS if key in found} or self.unit
        return {**self.unit, **found}


def entries(run: Run, wanted: Filter, *, without: frozenset[tuple[str, str]] = frozenset()) -> Iterator[dict[str, Any]]:
    """Yield log entries, attempt by attempt, oldest first; lines that are no JSON come as messages.

    An attempt is left out when the `identity` of one of its entries is in `without`: it was read elsewhere.
    """
    for name, text in _attempts(run):
        lines = Lines(_unit_of(name))
        found = [entry for line in text.splitlines() if wanted.accepts(entry := lines.entry(line))]
        if without.isdisjoint(map(identity, found)):
            yield from found


def identity(entry: dict[str, Any]) -> tuple[str, str]:
    """Return what tells an entry from all others: its time, to the millisecond, and its message."""
    return str(entry.get("time", "")), str(entry.get("message", ""))


def follow(run: Run, wanted: Filter) -> Iterator[dict[str, Any]]:
    """Yield what is logged on this machine, and what comes, for as long as a process here drives the run."""
    known: dict[Path, tuple[int, Lines]] = {}
    while True:
        driver = control.find_driver(run)
        ends = driver is None or not (driver.is_here and driver.is_alive)
        for path in sorted(_local_logs(control.log_folder(run)), key=lambda path: _started(path.name)):
            offset, lines = known.get(path, (0, Lines(_unit_of(path.name))))
            with open(path, "rb") as file:
                file.seek(offset)
                data = file.read()
            whole = data if ends else data[: data.rfind(b"\n") + 1]
            known[path] = (offset + len(whole), lines)
            made = (lines.entry(line) for line in whole.decode(errors="replace").splitlines())
            yield from (entry for entry in made if wanted.accepts(entry))
        if ends:
            return
        time.sleep(POLL_SECONDS)


def as_text(entry: dict[str, Any]) -> str:
    """Return an entry as a line for people: `14:02:11 3 generate train 0/4  message`.

    A message may quote what a model wrote: what would steer a terminal is shown as its escape.
    """
    clock = str(entry.get("time", ""))[11:19] or " " * 8
    unit = " ".join(str(entry[key]) for key in ("iteration", "stage", "split", "part") if key in entry)
    level = f" {entry['level'].upper()}" if entry.get("level") in ("warning", "error") else ""
    return sanitize(f"{clock} {unit}{level}  {entry.get('message', '')}")


def local_texts(run: Run) -> Iterator[str]:
    """Yield the logs that lie on this machine, in no order."""
    for path in _local_logs(control.log_folder(run)):
        yield path.read_bytes().decode(errors="replace")


def parse_line(line: str) -> dict[str, Any]:
    """Return a log line's entry; a line that is no JSON object is the message of one without a level."""
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    return entry if isinstance(entry, dict) else {"event": "log", "message": line}


def _attempts(run: Run) -> Iterator[tuple[str, str]]:
    """Yield (name, text) of every log, from this machine's folder and from the store, by start time."""
    here = {path.name: path for path in _local_logs(control.log_folder(run))}
    stored = {key.rpartition("/")[2]: key for key in run.store.list(run.key("logs/"))}
    for name in sorted(here.keys() | stored.keys(), key=_started):
        data = here[name].read_bytes() if name in here else run.store.get(stored[name])
        yield name, data.decode(errors="replace")


def _started(name: str) -> tuple[str, str]:
    """Sort key of a log's name `UNIT.TIME-CLAIM-ATTEMPT.log`."""
    return name.split(".")[-2], name


def _local_logs(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.log") if path.is_file()] if folder.is_dir() else []


def _unit_of(name: str) -> dict[str, Any]:
    """Coordinates from a log's name, for a process that died before it logged any."""
    iteration, _, rest = name.partition("-")
    if not iteration.isdecimal():
        return {"stage": "prepare", "iteration": 0}
    return {"stage": rest.split("-")[0].split(".")[0], "iteration": int(iteration)}
