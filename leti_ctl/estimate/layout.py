"""Where units run: what one pod of each pool has, what it costs, and how many run side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from leti_ctl.backends.local import SLOTS
from leti_ctl.estimate.rates import Rates
from leti_ctl.pipeline import Unit
from leti_ctl.profiles import POOLS, PoolName, Profile, refuse
from stages.contract.spec import RunSpec

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


def this_machine() -> Layout:
    """Return the local backend on this machine's processors."""
    cores = len(os.sched_getaffinity(0))
    pool = Pool("cpu", cores, cores, FREE, spot=False, start=None)
    pools: dict[PoolName, Pool] = {"light": pool, "sandbox": pool, "generate": pool, "train": pool}
    places = {str(load): count for load, count in SLOTS.items()}
    return Layout(f"local, {cores} cores", pools, places, plans=False)


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
