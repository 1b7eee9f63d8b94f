"""The estimate itself: every unit's seconds, summed per stage, clocked through the graph and priced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from leti_ctl.estimate.clock import finish_time
from leti_ctl.estimate.layout import Layout, Pool
from leti_ctl.estimate.ranges import ZERO, Range
from leti_ctl.estimate.rates import Rates
from leti_ctl.estimate.work import Work, unit_seconds
from leti_ctl.pipeline import Plan, Unit, plan
from stages.contract.spec import RunSpec

HOUR = 3600.0
STAGES = ("plan", "prepare", "generate", "execute", "build", "train", "evaluate")


@dataclass(frozen=True)
class StageEstimate:
    """One stage's share of a run."""

    pods: int
    seconds: Range
    """Of all pods together, from their start to their end."""
    accelerator_hours: Range
    dollars: Range


@dataclass(frozen=True)
class Estimate:
    """What a run will take."""

    layout: Layout
    parameters: int
    stages: Mapping[str, StageEstimate]
    wall_seconds: Range
    store_bytes: Range
    """All of it, were nothing collected."""
    weights_bytes: float
    """Of those, checkpoints and optimizer states."""
    scratch_bytes: float
    saving_seconds: Range
    """Of `train`'s seconds, those that go into mid-stage checkpoints."""
    on_demand_dollars: Range
    """The same hours without a single spot node."""
    used: tuple[dict[str, Any], ...]
    """The figures it was reckoned with: name, range, unit, kind, source."""

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON: seconds, hours, bytes, US dollars; every range as low, likely, high."""
        rows = {name: _row(stage) for name, stage in self.stages.items()}
        whole = sum_stages(self.stages.values())
        return {
            "backend": self.layout.name,
            "parameters": self.parameters,
            "stages": rows,
            "total": _row(whole),
            "on_demand_dollars": self.on_demand_dollars.as_dict(2),
            "wall_seconds": self.wall_seconds.as_dict(1),
            "store_bytes": self.store_bytes.as_dict(0),
            "weights_bytes": round(self.weights_bytes),
            "scratch_bytes": round(self.scratch_bytes),
            "saving_seconds": self.saving_seconds.as_dict(1),
            "figures": list(self.used),
        }


def estimate(spec: RunSpec, layout: Layout, rates: Rates, parameters: int) -> Estimate:
    """Return what `spec` will take on `layout` for a model of so many parameters."""
    whole, work = plan(spec), Work(spec, rates, parameters)
    # Parts of a pass differ by one problem, so most units repeat another's figures; iterations always do.
    known: dict[tuple[object, ...], Range] = {}
    seconds: dict[Unit, Range] = {}
    for unit in whole.units:
        key = (unit.node, unit.split, unit.part)
        if key not in known:
            known[key] = unit_seconds(unit, work, layout)
        seconds[unit] = known[key]
    stages = _stages(spec, whole, seconds, layout, rates)
    dear = {name: pool._replace(spot=False) for name, pool in layout.pools.items()}
    on_demand = _stages(spec, whole, seconds, layout._replace(pools=dear), rates)
    return Estimate(
        layout=layout,
        parameters=parameters,
        stages=stages,
        wall_seconds=_wall_seconds(spec, whole, seconds, layout, rates),
        store_bytes=work.store_bytes(),
        weights_bytes=work.weights_bytes,
        scratch_bytes=work.scratch_bytes(),
        saving_seconds=work.saving_seconds() * spec.iterations,
        on_demand_dollars=sum_stages(on_demand.values()).dollars,
        used=_used(spec, layout, rates),
    )


def sum_stages(stages: Iterable[StageEstimate]) -> StageEstimate:
    """Return the sum of stages."""
    total = StageEstimate(0, ZERO, ZERO, ZERO)
    for one in stages:
        total = StageEstimate(
            total.pods + one.pods, total.seconds + one.seconds,
            total.accelerator_hours + one.accelerator_hours, total.dollars + one.dollars,
        )  # fmt: skip
    return total


def _stages(
    spec: RunSpec, whole: Plan, seconds: Mapping[Unit, Range], layout: Layout, rates: Rates
) -> dict[str, StageEstimate]:
    found: dict[str, StageEstimate] = {}
    if layout.plans:
        pods = spec.iterations + 1
        found["plan"] = _priced(pods, _plan_seconds(layout, rates) * pods, layout.pools["light"], rates)
    for stage in STAGES:
        units = [unit for unit in whole.units if unit.stage == stage]
        if units:
            found[stage] = sum_stages(
                _priced(_pods(unit, spec), seconds[unit] * _pods(unit, spec), layout.pool(unit), rates)
                for unit in units
            )
    return found


def _pods(unit: Unit, spec: RunSpec) -> int:
    return spec.train.nodes if unit.stage == "train" else 1


def _priced(pods: int, seconds: Range, pool: Pool, rates: Rates) -> StageEstimate:
    price = rates.price(pool.price)
    paid = seconds * (pool.devices if pool.has_accelerator else pool.cores)
    hourly = price.spot if pool.spot else price.on_demand
    # At worst the spot nodes are gone and on-demand ones take over.
    rate = Range(hourly, hourly, price.on_demand) * rates.figure("price_spread")
    hours = paid * (1 / HOUR) if pool.has_accelerator else ZERO
    return StageEstimate(pods, seconds, hours, paid * rate * (1 / HOUR))


def _wall_seconds(spec: RunSpec, whole: Plan, seconds: Mapping[Unit, Range], layout: Layout, rates: Rates) -> Range:
    clocks = [
        finish_time(whole, {unit: getattr(each, bound) for unit, each in seconds.items()},
                    layout.place, layout.places)
        for bound in ("low", "likely", "high")
    ]  # fmt: skip
    plans = _plan_seconds(layout, rates) * (spec.iterations + 1) if layout.plans else ZERO
    return Range(*clocks) + plans


def _plan_seconds(layout: Layout, rates: Rates) -> Range:
    start = layout.pools["light"].start
    return rates.figure("plan_start") + (rates.figure(start) if start else ZERO)


def _used(spec: RunSpec, layout: Layout, rates: Rates) -> tuple[dict[str, Any], ...]:
    """Return the table's rows that had a say, in its order: figures, devices, prices."""
    pools = layout.pools
    skipped = {f"{kind}_executions" for kind in ("gvisor", "process") if kind != spec.execute.sandbox}
    skipped.add("decode_reuse" if spec.generate.engine == "vllm" else "vllm_reuse")
    if not layout.plans:
        skipped |= {"plan_start", "light_pod", "sandbox_pod", "accelerator_pod"}
    if not any(pool.spot for pool in pools.values()):
        skipped.add("spot_repeats")
    if not any(pool.has_accelerator for pool in pools.values()):
        skipped |= {"decode_reuse", "vllm_reuse", "train_mfu", "fp32_slowdown", "train_scaling"}
    rows = [
        {"name": name, "range": list(one.range), "unit": one.unit, "kind": one.kind, "source": one.source.strip()}
        for name, one in rates.figures.items()
        if name not in skipped
    ]
    return (*rows, *_devices(layout, rates), *_prices(layout, rates))


def _devices(layout: Layout, rates: Rates) -> list[dict[str, Any]]:
    rows = []
    for name in dict.fromkeys(layout.pools[use].accelerator for use in ("generate", "train")):
        device = rates.accelerators[name]
        for use, anchor in (("generate", device.generate), ("train", device.train)):
            if anchor is not None:
                unit = f"tokens per second and {device.unit} at {anchor.parameters:,} parameters"
                rows.append({"name": f"{name} {use}", "range": list(anchor.range), "unit": unit,
                             "kind": anchor.kind, "source": anchor.source})  # fmt: skip
        for label, value in (("TFLOP/s", device.bf16_tflops), ("GB/s", device.bandwidth_gb)):
            if value is not None:
                rows.append({"name": name, "range": [value] * 3, "unit": label, "kind": "published",
                             "source": device.source})  # fmt: skip
    return rows


def _prices(layout: Layout, rates: Rates) -> list[dict[str, Any]]:
    rows = []
    for key in dict.fromkeys(pool.price for pool in layout.pools.values()):
        price = rates.price(key)
        if price.on_demand == 0:
            continue
        for kind, value in (("on demand", price.on_demand), ("spot", price.spot)):
            rows.append({"name": f"{key} {kind}", "range": [value] * 3, "unit": "USD per hour", "kind": "published",
                         "source": f"{price.source} ({price.date})"})  # fmt: skip
    return rows


def _row(stage: StageEstimate) -> dict[str, Any]:
    return {
        "pods": stage.pods,
        "seconds": stage.seconds.as_dict(1),
        "accelerator_hours": stage.accelerator_hours.as_dict(3),
        "dollars": stage.dollars.as_dict(2),
    }
