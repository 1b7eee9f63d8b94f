"""What a suite's runs would take, each by `leti-ctl estimate`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from leti_ctl import estimate as reckoning
from leti_ctl.config.profiles import Profile
from leti_ctl.estimate import layout, work
from leti_ctl.suite.drive import state
from leti_ctl.suite.resolve import Wanted
from stages.contract.errors import UsageError
from stages.contract.store import Store

FIGURES = ("accelerator_hours", "wall_hours", "dollars")


def rows(store: Store, runs: Iterable[Wanted], pools: Profile | None) -> list[dict[str, Any]]:
    """Return each run with its tables, how much of it is done, and the likely figures of its estimate."""
    found = []
    for one in runs:
        done, units = state(store, one)
        found.append({"run": one.name, "preset": one.preset, "tables": tuple(one.tables), "from_run": one.parent,
                      "done": done, "units": units, **_estimate(one, pools)})  # fmt: skip
    return found


def total(found: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sums; of figures, over the runs that have them."""
    known = list(found)
    sums = {name: sum(row[name] or 0.0 for row in known) for name in FIGURES}
    return {"runs": len(known), "done": sum(row["done"] for row in known),
            "units": sum(row["units"] for row in known), **sums}  # fmt: skip


def _estimate(one: Wanted, pools: Profile | None) -> dict[str, float | None]:
    """Return the likely figures; none of a model or task whose size the table does not know."""
    rates = reckoning.load_rates(None)
    try:
        size = work.count_parameters(one.spec.model.source, rates)
        found = reckoning.estimate(one.spec, layout.find(pools, one.spec, rates), rates, size).as_dict()
    except (UsageError, KeyError):
        return dict.fromkeys(FIGURES)
    whole = found["total"]
    return {
        "accelerator_hours": whole["accelerator_hours"]["likely"],
        "wall_hours": found["wall_seconds"]["likely"] / 3600,
        "dollars": whole["dollars"]["likely"],
    }
