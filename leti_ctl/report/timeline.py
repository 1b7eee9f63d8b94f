"""When every unit ran, on what, and which of them the run waited for: rows for a Gantt chart and for speeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from leti_ctl import decisions
from leti_ctl.pipeline import Plan, Unit
from stages.contract.artifacts import PartRecord

Row = dict[str, Any]


class Span(NamedTuple):
    """When a unit's process ran, in seconds since the run's first unit started."""

    start: float
    end: float


class Link(NamedTuple):
    """A unit of the critical path, and for how long nothing on the path ran before it."""

    unit: Unit
    waited: float


SPEEDS = {
    "generate": ("tokens", "generate_seconds", "tokens generated per second"),
    "execute": ("executions", "execute_seconds", "programs executed per second"),
    "train": ("tokens", "train_seconds", "tokens trained per second"),
}
"""Stage to the counters its speed is made of, and the speed's name."""


def spans(committed: Mapping[Unit, PartRecord]) -> dict[Unit, Span]:
    """Return when each unit ran; starts are known to the second, as part records write them."""
    starts = {unit: datetime.fromisoformat(record.made.started_at).timestamp() for unit, record in committed.items()}
    zero = min(starts.values(), default=0.0)
    return {unit: Span(start - zero, start - zero + committed[unit].made.seconds) for unit, start in starts.items()}


def critical_path(whole: Plan, ran: Mapping[Unit, Span]) -> list[Link]:
    """Return the units the end of the run waited for, first to last: from the last to end, back to what ended last of
    those it waits for in the graph. Time between two of them is a wait for a machine, a slot or a retried attempt."""
    if not ran:
        return []
    unit = max(ran, key=lambda each: (ran[each].end, each.rank))
    path: list[Link] = []
    while True:
        before = [each for each in whole.after.get(unit, ()) if each in ran]
        if not before:
            return [Link(unit, 0.0), *reversed(path)]
        last = max(before, key=lambda each: (ran[each].end, each.rank))
        path.append(Link(unit, max(0.0, ran[unit].start - ran[last].end)))
        unit = last


def unit_rows(committed: Mapping[Unit, PartRecord], ran: Mapping[Unit, Span], path: Iterable[Link]) -> list[Row]:
    """Return one row per unit, in the order they started."""
    waited = {link.unit: link.waited for link in path}
    rows = []
    for unit in sorted(ran, key=lambda each: (ran[each].start, each.rank)):
        record = committed[unit]
        rows.append(
            {
                "unit": unit.id,
                "label": unit.label,
                "node": unit.node,
                "stage": unit.stage,
                "iteration": unit.iteration,
                "pass": unit.split,
                "part": unit.part.number,
                "parts": unit.part.of,
                "start": round(ran[unit].start, 3),
                "end": round(ran[unit].end, 3),
                "seconds": record.made.seconds,
                "rows": record.rows,
                "host": record.made.host,
                "accelerators": record.made.counters.get("accelerators", 0.0),
                "critical": unit in waited,
                "waited": round(waited.get(unit, 0.0), 3),
            }
        )
    return rows


def path_summary(path: Iterable[Link], ran: Mapping[Unit, Span]) -> Row:
    """Return how long the critical path took, and how much of it was spent in each stage and in waiting."""
    links = list(path)
    seconds: dict[str, float] = {}
    for unit, waited in links:
        seconds[unit.stage] = seconds.get(unit.stage, 0.0) + ran[unit].end - ran[unit].start
        seconds["waiting"] = seconds.get("waiting", 0.0) + waited
    wall = max((span.end for span in ran.values()), default=0.0)
    return {
        "wall_seconds": round(wall, 3),
        "seconds": {name: round(value, 3) for name, value in seconds.items() if value},
        "units": [unit.id for unit, _ in links],
    }


def stage_rows(committed: Mapping[Unit, PartRecord]) -> list[Row]:
    """Return per iteration and stage: parts, seconds of all of them, accelerator-hours, what was done and how fast."""
    groups: dict[tuple[int, str], list[PartRecord]] = {}
    for unit, record in committed.items():
        groups.setdefault((unit.iteration, unit.stage), []).append(record)
    return [{"iteration": iteration, "stage": stage, **_sums(stage, records)} for (iteration, stage), records in
            sorted(groups.items())]  # fmt: skip


def _sums(stage: str, records: list[PartRecord]) -> Row:
    amount, seconds, name = SPEEDS.get(stage, ("", "", None))
    done = sum(record.made.counters.get(amount, 0.0) for record in records)
    spent = sum(record.made.counters.get(seconds, 0.0) for record in records)
    return {
        "parts": len(records),
        "seconds": round(sum(record.made.seconds for record in records), 3),
        "accelerator_hours": round(sum(map(decisions.accelerator_hours, records)), 6),
        "amount": done,
        "working_seconds": round(spent, 3),
        "speed": round(done / spent, 3) if spent else None,
        "speed_name": name,
    }
