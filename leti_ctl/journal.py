"""What stages logged: one file per attempt of a unit, named so that sorting by time is sorting by name's end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from leti_ctl import control
from stages.contract.run import Run

UNIT_FIELDS = ("stage", "iteration", "split", "part")


def entries(
    run: Run, *, stage: str | None = None, iteration: int | None = None, split: str | None = None
) -> Iterator[dict[str, Any]]:
    """Yield log entries, attempt by attempt, oldest attempt first; lines that are no JSON come as messages."""
    for name, text in _attempts(run):
        unit: dict[str, Any] = {}
        for line in text.splitlines():
            entry = parse_line(line)
            unit = {key: entry[key] for key in UNIT_FIELDS if key in entry} or unit
            entry = {**(unit or _unit_of(name)), **entry}
            if _matches(entry, stage=stage, iteration=iteration, split=split):
                yield entry


def as_text(entry: dict[str, Any]) -> str:
    """Return an entry as a line for people: `14:02:11 3 generate train 0/4  message`."""
    clock = str(entry.get("time", ""))[11:19] or " " * 8
    unit = " ".join(str(entry[key]) for key in ("iteration", "stage", "split", "part") if key in entry)
    level = f" {entry['level'].upper()}" if entry.get("level") in ("warning", "error") else ""
    return f"{clock} {unit}{level}  {entry.get('message', '')}"


def _attempts(run: Run) -> Iterator[tuple[str, str]]:
    """Yield (name, text) of every log, from this machine's folder and from the store, by start time."""
    here = {path.name: path for path in _local_logs(control.log_folder(run))}
    stored = {key.rpartition("/")[2]: key for key in run.store.list(run.key("logs/"))}
    for name in sorted(here.keys() | stored.keys(), key=lambda name: (name.split(".")[-2], name)):
        data = here[name].read_bytes() if name in here else run.store.get(stored[name])
        yield name, data.decode(errors="replace")


def _local_logs(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.log") if path.is_file()] if folder.is_dir() else []


def _unit_of(name: str) -> dict[str, Any]:
    """Coordinates from a log's name, for a process that died before it logged any."""
    iteration, _, rest = name.partition("-")
    if not iteration.isdecimal():
        return {"stage": "prepare", "iteration": 0}
    return {"stage": rest.split("-")[0].split(".")[0], "iteration": int(iteration)}


def parse_line(line: str) -> dict[str, Any]:
    """Return a log line's entry; a line that is no JSON object is the message of one without a level."""
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    return entry if isinstance(entry, dict) else {"event": "log", "message": line}


def _matches(entry: dict[str, Any], **wanted: str | int | None) -> bool:
    return all(value is None or entry.get(key) == value for key, value in wanted.items())
