"""The table's figures as an earlier run measured them: its speeds, the length of its solutions, how many failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from leti_ctl.estimate.actual import committed
from leti_ctl.estimate.layout import Layout
from leti_ctl.estimate.rates import Accelerator, Anchor, Figure, Rates
from leti_ctl.estimate.work import count_parameters
from stages.contract.artifacts import PartRecord
from stages.contract.errors import UsageError
from stages.contract.run import Run
from stages.contract.spec import RunSpec

Samples = Sequence[tuple[float, float]]
"""(amount, per) of each part: tokens and seconds, failures and samples."""
SPEEDS: Mapping[Literal["generate", "train"], str] = {"generate": "generate_seconds", "train": "train_seconds"}


def like(run: Run, layout: Layout, rates: Rates, parameters: int | None = None) -> Rates:
    """Return the table with what a run measured in place of the table's own figures, where it measured anything.

    The run must have run on such devices as the layout has: speeds per GPU are no speeds per core. `parameters` is the
    size of its model where the table does not know it.
    """
    spec = run.spec
    size = parameters or count_parameters(spec.model.source, rates)
    records = [(unit.stage, record) for unit, record in committed(run, spec)]
    source = f"run {run.name}"
    anchors: dict[str, dict[str, Anchor]] = {}
    for stage in SPEEDS:
        parts = [record for name, record in records if name == stage]
        if speeds := _speeds(run, stage, parts, layout):
            anchor = Anchor(range=_spread(speeds), kind="measured", source=source, parameters=size)
            anchors.setdefault(layout.pools[stage].accelerator, {})[stage] = anchor
    accelerators = {**rates.accelerators, **_devices(anchors, rates)}
    figures = {**rates.figures, **_figures(spec, records, layout, rates, source)}
    return rates.model_copy(update={"accelerators": accelerators, "figures": figures})


def _speeds(run: Run, stage: Literal["generate", "train"], parts: Sequence[PartRecord], layout: Layout) -> Samples:
    """Tokens and seconds of each part, seconds times the devices that took part."""
    pool, found = layout.pools[stage], []
    for record in parts:
        counters = record.made.counters
        held = counters.get("accelerators", 0.0)
        if bool(held) != pool.has_accelerator:
            ran = "accelerators" if held else "processors"
            raise UsageError(f"--like {run.uri}: its {stage} ran on {ran}, {layout.name} has others; name another run")
        devices = (1 if stage == "generate" else held) if held else pool.devices
        found.append((counters.get("tokens", 0.0), counters.get(SPEEDS[stage], 0.0) * devices))
    return [(amount, per) for amount, per in found if amount and per]


def _devices(anchors: Mapping[str, Mapping[str, Anchor]], rates: Rates) -> dict[str, Accelerator]:
    """Return devices with new anchors; one that the table lacks needs both."""
    known = {
        name: rates.accelerators[name].model_copy(update=found)
        for name, found in anchors.items()
        if name in rates.accelerators
    }
    new = {
        name: Accelerator(generate=found["generate"], train=found["train"])
        for name, found in anchors.items()
        if name not in known and len(found) == len(SPEEDS)
    }
    return known | new


def _figures(
    spec: RunSpec, records: Sequence[tuple[str, PartRecord]], layout: Layout, rates: Rates, source: str
) -> dict[str, Figure]:
    cores = spec.execute.workers or layout.pools["sandbox"].cores
    measured: dict[str, Samples] = {
        "solution_share": [
            (record.made.counters.get("tokens", 0.0), float(record.rows * _limit(spec, record)))
            for stage, record in records
            if stage == "generate"
        ],
        "failed_share": [
            (record.rows - float(record.facts.get("num_passed", 0)), float(record.rows))
            for stage, record in records
            if stage == "execute"
        ],
        f"{spec.execute.sandbox}_executions": [
            (record.made.counters.get("executions", 0.0), record.made.counters.get("execute_seconds", 0.0) * cores)
            for stage, record in records
            if stage == "execute"
        ],
    }
    return {
        name: rates.figures[name].model_copy(
            update={"range": _spread(usable), "kind": "measured", "source": f"{source}, {len(usable)} parts"}
        )
        for name, samples in measured.items()
        if (usable := [(amount, per) for amount, per in samples if per])
    }


def _limit(spec: RunSpec, record: PartRecord) -> int:
    return spec.get_pass(record.split or "train").sampling.max_new_tokens


def _spread(samples: Samples) -> tuple[float, float, float]:
    """Least, total divided by total, greatest."""
    each = [amount / per for amount, per in samples]
    return min(each), sum(amount for amount, _ in samples) / sum(per for _, per in samples), max(each)
