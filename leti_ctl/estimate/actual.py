"""What a run has taken so far, from its part records: the same rows as an estimate's, to lay beside them."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from leti_ctl import control, decisions
from leti_ctl.pipeline import Unit, done_units, plan
from stages.contract.artifacts import PartRecord
from stages.contract.run import Run
from stages.contract.spec import RunSpec

READERS = 16
"""Part records read at the same time: each is one round trip to the store."""


def actuals(run: Run, spec: RunSpec | None = None) -> dict[str, Any]:
    """Return per stage and in total: parts committed, their seconds and their accelerator-hours.

    `spec` is the run's newest where it is not given.

    Seconds run from the start of a part's process to its last commit; a pod's wait for a node or an image is not in
    them, nor are attempts that were lost. Accelerator-hours are those seconds times the accelerators the part's
    process saw, used or not.
    """
    spec = spec or control.current_spec(run)
    stages: dict[str, dict[str, float]] = {}
    for unit, record in committed(run, spec):
        row = stages.setdefault(unit.stage, {"parts": 0, "seconds": 0.0, "accelerator_hours": 0.0})
        row["parts"] += 1
        row["seconds"] += record.made.seconds
        row["accelerator_hours"] += decisions.accelerator_hours(record)
    return {"stages": {name: _rounded(row) for name, row in stages.items()}, "total": _total(stages.values())}


def committed(run: Run, spec: RunSpec) -> list[tuple[Unit, PartRecord]]:
    """Return the units that are done, in starting order, each with the record that says so."""
    whole = plan(spec)
    found = done_units(run, spec, whole)
    done = [unit for unit in whole.units if unit in found]
    with ThreadPoolExecutor(READERS) as readers:
        return list(zip(done, readers.map(lambda unit: _record(run, unit, spec), done), strict=True))


def _record(run: Run, unit: Unit, spec: RunSpec) -> PartRecord:
    record = run.find_part(unit.outputs(spec)[-1], unit.part)
    assert record is not None, f"{unit.id} was done a moment ago"
    return record


def _total(rows: Iterable[dict[str, float]]) -> dict[str, float]:
    every = list(rows)
    return _rounded({name: sum(row[name] for row in every) for name in ("parts", "seconds", "accelerator_hours")})


def _rounded(row: dict[str, float]) -> dict[str, float]:
    return {"parts": int(row["parts"]), "seconds": round(row["seconds"], 1),
            "accelerator_hours": round(row["accelerator_hours"], 4)}  # fmt: skip
