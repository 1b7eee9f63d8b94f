"""What an estimate makes plain that a person would want to know before submitting."""

from __future__ import annotations

from leti_ctl.config.profiles import Profile
from leti_ctl.estimate.bill import Estimate, sum_stages
from stages.contract.spec import RunSpec

GIB = float(1 << 30)
SAVING_SHARE = 0.2
"""Share of training that mid-stage checkpoints may take without a word."""


def advice(spec: RunSpec, found: Estimate, profile: Profile | None) -> list[str]:
    """Return one sentence for each thing worth changing, or worth knowing."""
    said = []
    hours, most = sum_stages(found.stages.values()).accelerator_hours, spec.stop.max_gpu_hours
    if most is not None and hours.high > most:
        said.append(
            f"stop.max_gpu_hours {most:g} may end it before iteration {spec.iterations}: all of them take "
            f"{hours.low:.3g} to {hours.high:.3g} accelerator-hours"
        )
    saving, training = found.saving_seconds.likely, found.stages["train"].seconds.likely if spec.trains() else 0.0
    if saving > SAVING_SHARE * training:
        said.append(
            f"train.checkpoint_steps {spec.train.checkpoint_steps} spends {saving / training:.0%} of training on "
            "mid-stage checkpoints; a larger number saves less often, and loses more to a preemption"
        )
    return said + (_pools(spec, found, profile) if profile else [])


def _pools(spec: RunSpec, found: Estimate, profile: Profile) -> list[str]:
    said, train = [], profile.pools["train"]
    if train.device is not None and spec.train.processes < train.device.count:
        said.append(
            f"train.processes {spec.train.processes} uses that many of the {train.device.count} accelerators of a "
            f"{profile.name} machine; --set train.processes={train.device.count} trains faster"
        )
    if found.scratch_bytes > train.scratch_gib * GIB:
        said.append(
            f"pools.train.scratch_gib {train.scratch_gib} is less than the {found.scratch_bytes / GIB:.0f} GiB that "
            "training keeps on disk; raise it in the profile"
        )
    return said
