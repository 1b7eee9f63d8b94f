"""Where units run: what one pod of each pool has, what it costs, and how many run side by side."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from leti_ctl.backends.local.driver import SLOTS
from leti_ctl.config.profiles import POOLS, PoolName, Profile, refuse
from leti_ctl.estimate.rates import Rates
from leti_ctl.pipeline import Unit
from stages.contract.spec import RunSpec

DRIVERS = Path("/proc/driver/nvidia/gpus")
KNOWN_GPUS = ("l4", "a10g", "l40s", "a100", "h100", "h200")
PODS = "pods"
FREE = "free"
"""Price key of machines whose time costs nothing."""


class Pool(NamedTuple):
    """One pod of a pool (or this machine)."""

    accelerator: str
    """A device of the rates table; `cpu` where there is none."""
    devices: int
    """Accelerators per pod, or its cores where `accelerator` is `cpu`."""
    cores: int
    price: str
    """Key of the price table; per accelerator, or per core."""
    spot: bool
    start: str | None
    """Figure of the rates table for the seconds from pod to process; None for a plain process."""

    @property
    def has_accelerator(self) -> bool:
        """Whether its hours count as accelerator-hours."""
        return self.accelerator != "cpu"


class Layout(NamedTuple):
    """A backend as an estimate sees it."""

    name: str
    pools: Mapping[PoolName, Pool]
    places: Mapping[str, int]
    """Units that run side by side: per load on a machine, pods of the run on a cluster."""
    plans: bool
    """Whether each iteration begins with a plan step in a pod of its own (Argo)."""

    def pool(self, unit: Unit) -> Pool:
        """Return the pool a unit runs on."""
        return self.pools[pool_name(unit)]

    def place(self, unit: Unit) -> str:
        """Return which of `places` a unit takes."""
        return PODS if self.plans else unit.load


def pool_name(unit: Unit) -> PoolName:
    """Return the name of the pool a unit runs on."""
    if unit.load == "accelerator":
        return "train" if unit.stage == "train" else "generate"
    return "sandbox" if unit.load == "sandbox" else "light"


def this_machine(drivers: Path = DRIVERS) -> Layout:
    """Return the local backend on this machine's processors, and on its GPUs where there are any of a known kind."""
    cores = len(os.sched_getaffinity(0))
    pool = Pool("cpu", cores, cores, FREE, spot=False, start=None)
    pools: dict[PoolName, Pool] = dict.fromkeys(POOLS, pool)
    gpus = local_gpus(drivers)
    if gpus:
        pools["generate"] = pools["train"] = pool._replace(accelerator=gpus[0], devices=len(gpus))
    places = {str(load): count for load, count in SLOTS.items()}
    devices = f"{cores} cores" + (f", {len(gpus)} x {gpus[0]}" if gpus else "")
    return Layout(f"local, {devices}", pools, places, plans=False)


def local_gpus(drivers: Path = DRIVERS) -> list[str]:
    """Return the GPUs that NVIDIA's driver tells of, as the table of rates names them; others are left out."""
    found = []
    for information in sorted(drivers.glob("*/information")):
        named = re.search(r"Model:\s*(.+)", information.read_text())
        words = re.split(r"[^a-z0-9]+", named[1].lower()) if named else []
        found += [known for known in KNOWN_GPUS if known in words]
    return found


def of_profile(profile: Profile, spec: RunSpec, rates: Rates) -> Layout:
    """Return the argo backend on a profile's pools."""
    pools = {name: _pool(profile, name, rates) for name in POOLS}
    train = pools["train"]
    if profile.accelerator == "gpu":
        # A training pod asks for a GPU per process; a TPU machine's chips go together.
        pools["train"] = train._replace(devices=min(spec.train.processes, train.devices))
    return Layout(f"argo, profile {profile.name}", pools, {PODS: profile.parallelism}, plans=True)


def _pool(profile: Profile, name: PoolName, rates: Rates) -> Pool:
    pool = profile.pools[name]
    start = "sandbox_pod" if name == "sandbox" else "accelerator_pod" if pool.device else "light_pod"
    # A JobSet's pods stay on spot nodes for good; a pod's first attempts are made there.
    spot = pool.spot is not None
    if pool.device is not None:
        return Pool(pool.device.model, pool.device.count, pool.cpu, pool.price or FREE, spot, start)
    cores = f"{profile.platform}-cpu"
    return Pool("cpu", pool.cpu, pool.cpu, pool.price or (cores if cores in rates.prices else FREE), spot, start)


def find(profile: Profile | None, spec: RunSpec, rates: Rates) -> Layout:
    """Return this machine, or the pools of a profile; `SpecError` when those cannot run the spec."""
    if profile is None:
        return this_machine()
    refuse(spec, profile)
    return of_profile(profile, spec, rates)
