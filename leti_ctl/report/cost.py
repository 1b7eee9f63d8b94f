"""What a run has taken: seconds and accelerator-hours from its part records, money where its pools are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leti_ctl import control
from leti_ctl.config.profiles import load_profile
from leti_ctl.estimate import load_rates
from leti_ctl.estimate.actual import actuals
from leti_ctl.estimate.layout import Layout, find
from leti_ctl.estimate.rates import Rates
from leti_ctl.pipeline import Unit
from stages.contract.artifacts import PartRecord
from stages.contract.errors import LetiError
from stages.contract.run import Run
from stages.contract.spec import RunSpec

HOUR = 3600.0


def cost(run: Run, spec: RunSpec, committed: Mapping[Unit, PartRecord]) -> dict[str, Any]:
    """Return seconds and accelerator-hours by stage, and dollars where the run's last workflow names a profile.

    Dollars are list prices times the committed parts' seconds: `low` with spot nodes where the profile has them,
    `high` on demand. What pods waited for, lost attempts, storage and traffic are not in them.
    """
    return {**actuals(run, spec), **_money(run, spec, committed)}


def _money(run: Run, spec: RunSpec, committed: Mapping[Unit, PartRecord]) -> dict[str, Any]:
    made = control.workflows(run)
    if not made:
        return {"profile": None, "dollars": None}
    name = made[-1].profile
    try:
        rates = load_rates(None)
        layout = find(load_profile(name), spec, rates)
    except LetiError:
        # A profile of the submitter's own file, which is not on this machine.
        return {"profile": name, "dollars": None}
    low = sum(_paid(unit, record, spec, layout, rates, spot=True) for unit, record in committed.items())
    high = sum(_paid(unit, record, spec, layout, rates, spot=False) for unit, record in committed.items())
    return {"profile": name, "dollars": {"low": round(low, 2), "high": round(high, 2)}}


def _paid(unit: Unit, record: PartRecord, spec: RunSpec, layout: Layout, rates: Rates, *, spot: bool) -> float:
    pool = layout.pool(unit)
    price = rates.price(pool.price)
    pods = spec.train.nodes if unit.stage == "train" else 1
    devices = pool.devices if pool.has_accelerator else pool.cores
    hourly = price.spot if spot and pool.spot else price.on_demand
    return record.made.seconds * pods * devices * hourly / HOUR
