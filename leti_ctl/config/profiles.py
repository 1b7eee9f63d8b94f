"""Profiles: the node pools of a cluster as data, which the graph is rendered onto.

A profile is a YAML file; those that come with leti lie in `profiles/`. `extends` names another to lay it over, and
files whose name begins with an underscore exist only for that. Everything a cluster may differ in is here, so that
the rendering has one path for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from leti_ctl import layers
from stages.contract.errors import SpecError, UsageError
from stages.contract.spec import RunSpec, Section

PoolName = Literal["light", "sandbox", "generate", "train"]
POOLS: tuple[PoolName, ...] = ("light", "sandbox", "generate", "train")
DnsLabel = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]*[a-z0-9])?$", max_length=40)]
Name = Annotated[str, Field(min_length=1)]
MOST_ITERATIONS = 90
"""Iterations of one workflow: each is a level of recursion, and Argo's controller stops at 100 levels in all."""


class Toleration(Section):
    """A taint that pods of a pool tolerate, whatever its value."""

    key: str
    """Of the taint."""
    effect: Literal["NoSchedule", "NoExecute"] = "NoSchedule"
    """Of the taint."""


class Spot(Section):
    """How to tell preemptible machines from others, and when to stop using them."""

    key: str
    """Node label."""
    value: str
    """Its value on preemptible machines; others have another or lack the label."""
    attempts: PositiveInt = 3
    """So many attempts of a pod run on preemptible machines, all later ones on others."""
    taint: bool = False
    """Whether such machines carry a taint of the same key."""


class Device(Section):
    """The accelerators of one machine."""

    resource: Literal["nvidia.com/gpu", "google.com/tpu"]
    """Name under which the device plugin offers them."""
    model: str = "gpu"
    """Of the device, as the table of rates names it: l4, a100, h100, h200, v5e, v6e."""
    count: PositiveInt = 1
    """What one pod asks for when it generates; when it trains, the most a machine has. A TPU machine's chips go
    together."""
    hosts: PositiveInt = 1
    """Machines that form one TPU slice and train together."""


class Pool(Section):
    """One kind of pod: where it is scheduled and what it asks for."""

    cpu: PositiveInt
    """Processors."""
    memory_gib: PositiveInt
    """Memory of the first attempt."""
    memory_retry_gib: tuple[PositiveInt, ...] = ()
    """Memory of the second attempt, the third, ... when the one before was killed for its memory; the last figure
    holds for all that follow."""
    device: Device | None = None
    """Accelerators; null for none."""
    price: str | None = None
    """Key of the price table; null where time on it costs nothing."""
    node_selector: dict[str, str] = {}
    """Labels a node must have. The sandbox's are better written into its RuntimeClass."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints its pods tolerate."""
    spot: Spot | None = None
    """Preemptible machines; null never asks for them. A JobSet's pods stay on them for good."""
    shm_gib: PositiveInt | None = None
    """Size of /dev/shm, which counts as memory; null leaves the runtime's 64 MiB."""
    scratch_gib: PositiveInt = 20
    """Size of /scratch."""
    scratch_class: Name | None = None
    """Storage class of a volume for /scratch; null takes the node's own disk, which is local SSD on pools made so."""
    queue: Name | None = None
    """Kueue LocalQueue its pods (or JobSet) wait in; null does not wait."""
    priority_class: Name | None = None
    """PriorityClass of its pods."""
    limits: dict[str, str] = {}
    """More of what its machines offer, by resource name, such as `vpc.amazonaws.com/efa: "32"`."""
    environment: dict[str, str] = {}
    """More environment variables, such as NCCL's for the pool's network."""
    pod_labels: dict[str, str] = {}
    """More labels."""
    pod_annotations: dict[str, str] = {}
    """More annotations."""
    grace_seconds: PositiveInt = 30
    """From SIGTERM to SIGKILL."""
    deadline_hours: PositiveFloat = 6
    """Longest a single attempt may run, from its start."""


class Images(Section):
    """Container images; kustomize replaces them by name."""

    ctl: str = "leti-ctl:0.1.0"
    """The control plane: plan and finalize."""
    execute: str = "leti-execute:0.1.0"
    """The judge and nothing else."""
    cpu: str = "leti-cpu:0.1.0"
    """Every stage, for CPUs."""
    accelerator: str = "leti-gpu:0.1.0"
    """Generate and train."""
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    """When nodes ask the registry."""
    pull_secrets: tuple[str, ...] = ()
    """Secrets with registry credentials."""


class Profile(Section):
    """A cluster, as far as a run must know it."""

    name: DnsLabel
    """Names the WorkflowTemplate: leti-NAME."""
    platform: Literal["gke", "eks", "kind", "generic"]
    """Who runs the cluster."""
    accelerator: Literal["none", "gpu", "tpu"]
    """What generates and trains."""
    namespace: DnsLabel = "leti"
    """Of every object."""
    argo_version: Literal["3.7", "4.0", "4.1"] = "3.7"
    """Least version of the controller the profile is meant for."""
    runtime_class: Name | None = "gvisor"
    """RuntimeClass of pods that run model-written code; null runs them without the outer wall."""
    mount_hints: bool = True
    """Declare Argo's shared volume to gVisor, without which 4.1 waits for ever; GKE declares it itself."""
    train_backend: Literal["jobset", "pod"] = "jobset"
    """`pod` trains on one machine and needs no JobSet controller."""
    train_restarts: PositiveInt = 10
    """Restarts of a JobSet that are not preemptions."""
    parallelism: PositiveInt = 256
    """Pods of one run at the same time."""
    archive_logs: Name | None = None
    """ConfigMap of an artifact repository (key s3) that keeps pod logs; null keeps them in pods alone."""
    images: Images = Images()
    """Container images."""
    pools: dict[PoolName, Pool]
    """The four kinds of pod."""

    @model_validator(mode="after")
    def _possible(self) -> Profile:
        if conflict := next((message for broken, message in _rules(self) if broken), None):
            raise ValueError(conflict)
        return self


def profile_names() -> list[str]:
    """Return the profiles that come with leti, sorted."""
    folder = resources.files("leti_ctl").joinpath("profiles")
    names = (item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))
    return sorted(name for name in names if not name.startswith("_"))


def profile_summary(name: str) -> str:
    """Return the profile's first comment line: what it is for."""
    return _text(name).partition("\n")[0].lstrip("# ").strip()


def load_profile(name_or_path: str, overrides: Iterable[str] = ()) -> Profile:
    """Return a profile of leti's by name or one's own by path, with `field=value` overrides laid on top.

    Raises `UsageError` for a profile that is not there and `SpecError` with one line for one that is wrong.
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or "/" in name_or_path:
        data = layers.extended(layers.mapping(layers.read(path), name_or_path, "a profile"), "profile", _text, ())
        data = {"name": path.stem} | data
    else:
        own = layers.mapping(_text(name_or_path), f"profile {name_or_path}")
        data = layers.extended(own, "profile", _text, (name_or_path,))
        data = {"name": name_or_path} | data
    for each in overrides:
        data = layers.merge(data, layers.override(each, "--profile-set"))
    try:
        see = "leti-ctl profiles --fields"
        return layers.validate(Profile, data, what="profile", known=_field_paths(), see=see)
    except SpecError as error:
        raise SpecError(f"profile {data['name']}: {error}") from error


def refuse(spec: RunSpec, profile: Profile, start: int = 0) -> None:
    """Raise `SpecError` when the cluster of a profile cannot run a spec (from iteration `start` on)."""
    conflicts = (*_training(spec, profile), *_engines(spec, profile), *_looping(spec, profile, start))
    if conflict := next((message for broken, message in conflicts if broken), None):
        raise SpecError(conflict)


Rule = tuple[bool, str]


def _rules(profile: Profile) -> Iterator[Rule]:
    missing = [name for name in POOLS if name not in profile.pools]
    yield bool(missing), f"pools.{''.join(missing[:1])}: missing; a profile needs {', '.join(POOLS)}"
    if missing:
        return
    wanted = {"none": None, "gpu": "nvidia.com/gpu", "tpu": "google.com/tpu"}[profile.accelerator]
    for name in ("generate", "train"):
        device = profile.pools[name].device
        found = device.resource if device else None
        yield (
            found != wanted,
            f"pools.{name}.device: {found or 'none'} in a profile with accelerator {profile.accelerator!r}; "
            f"set it to {wanted or 'null'}",
        )
    train = profile.pools["train"]
    yield (
        profile.train_backend == "pod" and train.device is not None and train.device.hosts > 1,
        "train_backend: 'pod' is one machine and pools.train.device.hosts asks for several; set jobset",
    )
    for name, pool in profile.pools.items():
        grown = (pool.memory_gib, *pool.memory_retry_gib)
        yield (
            list(grown) != sorted(grown),
            f"pools.{name}.memory_retry_gib: {list(grown[1:])} after memory_gib {grown[0]} shrinks; let it grow",
        )
        yield (
            pool.shm_gib is not None and pool.shm_gib >= pool.memory_gib,
            f"pools.{name}.shm_gib: {pool.shm_gib} counts as memory and leaves nothing of memory_gib "
            f"{pool.memory_gib}; lower it",
        )


def _training(spec: RunSpec, profile: Profile) -> Iterator[Rule]:
    train, device = spec.train, profile.pools["train"].device
    yield (
        profile.accelerator == "tpu" and train.engine == "deepspeed",
        f"train.engine: 'deepspeed' does not run on TPUs, and profile {profile.name} trains on one; set train.engine "
        "to torch, or use a GPU profile",
    )
    yield (
        train.nodes > 1 and profile.train_backend == "pod",
        f"train.nodes: {train.nodes}, but profile {profile.name} trains in one pod (train_backend: pod); set 1, or "
        "train_backend=jobset where the JobSet controller is installed",
    )
    if device is None:
        return
    yield (
        train.processes > device.count,
        f"train.processes: {train.processes}, but a machine of profile {profile.name} has {device.count} x "
        f"{device.resource}; set at most {device.count} and spread over train.nodes",
    )
    yield (
        device.hosts > 1 and train.nodes != device.hosts,
        f"train.nodes: {train.nodes}, but the slice of profile {profile.name} has {device.hosts} machines, which work "
        f"together or not at all; set {device.hosts}",
    )
    yield (
        device.hosts > 1 and train.processes != device.count,
        f"train.processes: {train.processes}, but a machine of profile {profile.name}'s slice has {device.count} "
        f"chips, which work together or not at all; set {device.count}",
    )


def _engines(spec: RunSpec, profile: Profile) -> Iterator[Rule]:
    engine = spec.generate.engine
    yield (
        profile.accelerator == "tpu" and engine == "transformers",
        f"generate.engine: 'transformers' changes shapes at every step, which a TPU compiles each time anew, and "
        f"profile {profile.name} generates on one; set generate.engine to static",
    )
    yield (
        profile.accelerator != "gpu" and engine == "vllm",
        f"generate.engine: 'vllm' needs a GPU, and profile {profile.name} has none; set transformers or static",
    )
    yield (
        spec.execute.sandbox == "gvisor" and profile.runtime_class is None and spec.runs_programs(),
        f"execute.sandbox: 'gvisor', but profile {profile.name} has no runtime_class; name the cluster's gVisor "
        "RuntimeClass, or accept less with execute.sandbox=process",
    )


def _looping(spec: RunSpec, profile: Profile, start: int) -> Iterator[Rule]:
    yield (
        spec.iterations - start > MOST_ITERATIONS,
        f"iterations: {spec.iterations} from iteration {start} on; one workflow runs at most {MOST_ITERATIONS}: submit "
        f"with --iterations {start + MOST_ITERATIONS}, then resume with more",
    )


def _text(name: str) -> str:
    folder = resources.files("leti_ctl").joinpath("profiles")
    if not folder.joinpath(f"{name}.yaml").is_file():
        raise UsageError(
            f"--profile {name!r}: no such profile{layers.hint(name, profile_names())}; see `leti-ctl profiles`"
        )
    return folder.joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def fields() -> list[tuple[str, Any, str]]:
    """Return every field as (dotted path, default, description), those of a pool once, as `pools.*`."""
    sections: tuple[tuple[str, type[Section]], ...] = (
        ("", Profile), ("images.", Images), ("pools.*.", Pool), ("pools.*.tolerations.", Toleration),
        ("pools.*.device.", Device), ("pools.*.spot.", Spot),
    )  # fmt: skip
    return [
        (
            prefix + name,
            "required" if field.is_required() else field.default,
            " ".join((field.description or "").split()),
        )
        for prefix, section in sections
        for name, field in section.model_fields.items()
        if name not in ("pools", "images")
    ]


def _field_paths() -> list[str]:
    """Return every dotted field, those of pools once for each pool."""
    own = [name for name in Profile.model_fields if name != "pools"]
    images = [f"images.{name}" for name in Images.model_fields]
    pools = [f"pools.{pool}.{field}" for pool in POOLS for field in Pool.model_fields]
    inner: dict[str, type[Section]] = {"device": Device, "spot": Spot}
    deep = [f"pools.{p}.{f}.{field}" for p in POOLS for f, kind in inner.items() for field in kind.model_fields]
    return [*own, "pools", *images, *(f"pools.{pool}" for pool in POOLS), *pools, *deep]
