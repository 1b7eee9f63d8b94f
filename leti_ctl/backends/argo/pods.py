"""Pods: what every pod of a stage is made of, from its pool in the profile. Pure functions to plain dicts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from leti_ctl.backends.argo import names, retries
from leti_ctl.config.profiles import Pool, PoolName, Profile, Spot

ImageName = Literal["ctl", "execute", "cpu", "accelerator"]
USER = 10001
"""As in images/Dockerfile: a number, so that Kubernetes can tell it is not root."""
SCRATCH = "/scratch"
CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""With `CONTAINER_SECURITY`, what Pod Security "restricted" asks for and the read-only root beside it."""
DEVICES = {"nvidia.com/gpu": "cuda", "google.com/tpu": "tpu"}
"""What `LETI_DEVICE` calls what a device plugin offers."""
STORE_SECRET = "leti-store"
EXECUTE_SECRET = "leti-store-execute"
HUB_SECRET = "leti-hub"


class Work(NamedTuple):
    """What one kind of pod runs, and with what."""

    command: tuple[str, ...]
    args: tuple[str, ...]
    image: ImageName
    pool: PoolName
    secrets: tuple[str, ...] = (STORE_SECRET,)
    """Secrets whose keys become environment variables; those that do not exist are left out."""


def image(name: ImageName) -> str:
    """Return the reference to an image parameter of the workflow."""
    return f"{{{{workflow.parameters.image-{name}}}}}"


def container(profile: Profile, work: Work) -> dict[str, Any]:
    """Return the container that does the work, named `main` as Argo does."""
    pool = profile.pools[work.pool]
    return {
        "name": "main",
        "image": image(work.image),
        "imagePullPolicy": profile.images.pull_policy,
        "command": list(work.command),
        "args": list(work.args),
        "env": environment(pool, work.image),
        "envFrom": _environment_from(work.secrets),
        "resources": resources(pool, guaranteed=work.pool == "sandbox"),
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": mounts(pool),
    }


def environment(pool: Pool, image_name: ImageName) -> list[dict[str, str]]:
    """Return the environment: JSON logs, everything written below /scratch, as many threads as processors asked for."""
    per_process = max(1, pool.cpu // (pool.device.count if pool.device else 1))
    # What judges model-written code may write verdicts and nothing else, not even a log.
    keeps = {"LETI_KEEP_LOG": "true"} if image_name in ("cpu", "accelerator") else {}
    # A driver that does not start then ends the attempt; without this the stage would compute on processors for days.
    device = {"LETI_DEVICE": DEVICES[pool.device.resource]} if pool.device and image_name == "accelerator" else {}
    values = {
        "LETI_LOG": "json",
        **keeps,
        **device,
        "LETI_SCRATCH": SCRATCH,
        "LETI_THREADS": str(per_process),
        "LETI_IMAGE": image(image_name),
        "HOME": f"{SCRATCH}/home",
        "XDG_CACHE_HOME": f"{SCRATCH}/cache",
        **pool.environment,
    }
    return [{"name": name, "value": value} for name, value in values.items()]


def _environment_from(secrets: tuple[str, ...]) -> list[dict[str, Any]]:
    settings: list[dict[str, Any]] = [{"configMapRef": {"name": "leti-store", "optional": True}}]
    return [*settings, *({"secretRef": {"name": name, "optional": True}} for name in secrets)]


def resources(pool: Pool, *, guaranteed: bool = False, devices: str | None = None) -> dict[str, Any]:
    """Return requests and limits; `guaranteed` limits processors and disk as well, for code nobody trusts.

    Processors are not limited otherwise: throttling a stage that has the node to itself helps nobody.
    """
    memory, disk = f"{pool.memory_gib}Gi", f"{pool.scratch_gib + 2}Gi"
    asked = {"cpu": str(pool.cpu), "memory": memory, "ephemeral-storage": disk}
    if pool.scratch_class:
        asked["ephemeral-storage"] = "2Gi"
    limits = dict(asked) if guaranteed else {"memory": memory}
    if pool.device:
        limits[pool.device.resource] = devices or str(pool.device.count)
    limits |= pool.limits
    return {"requests": asked, "limits": limits}


def mounts(pool: Pool) -> list[dict[str, str]]:
    """Return the writable places of a container whose root is read-only."""
    paths = {"scratch": SCRATCH, "tmp": "/tmp", **({"shm": "/dev/shm"} if pool.shm_gib else {})}
    return [{"name": name, "mountPath": path} for name, path in paths.items()]


def volumes(pool: Pool) -> list[dict[str, Any]]:
    """Return the volumes behind `mounts`."""
    scratch: dict[str, Any] = {"emptyDir": {"sizeLimit": f"{pool.scratch_gib}Gi"}}
    if pool.scratch_class:
        claim = {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": pool.scratch_class,
            "resources": {"requests": {"storage": f"{pool.scratch_gib}Gi"}},
        }
        scratch = {"ephemeral": {"volumeClaimTemplate": {"spec": claim}}}
    found = [{"name": "scratch", **scratch}, {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}]
    if pool.shm_gib:
        # NCCL and data loaders need more than the 64 MiB a runtime gives.
        found.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{pool.shm_gib}Gi"}})
    return found


def placement(pool: Pool) -> dict[str, Any]:
    """Return where pods of the pool may be scheduled; what is empty is left out."""
    tolerations = [{"key": one.key, "operator": "Exists", "effect": one.effect} for one in pool.tolerations]
    if pool.spot and pool.spot.taint:
        tolerations.append({"key": pool.spot.key, "operator": "Exists", "effect": "NoSchedule"})
    found = {"nodeSelector": pool.node_selector, "tolerations": tolerations, "priorityClassName": pool.priority_class}
    return {name: value for name, value in found.items() if value}


def spot_affinity(spot: Spot, operator: str) -> dict[str, Any]:
    """Return the affinity to preemptible machines (`In`) or to all others (`NotIn`, which also takes unlabelled)."""
    expression = {"key": spot.key, "operator": operator, "values": [spot.value]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


def labels(pool: Pool, stage: str) -> dict[str, str]:
    """Return the labels of a stage's pods that do not depend on the unit."""
    queue = {names.QUEUE: pool.queue} if pool.queue else {}
    return {names.STAGE: stage, **queue, **pool.pod_labels}


def patch(profile: Profile, pool: Pool, *, sandboxed: bool = False, devices: str | None = None) -> str:
    """Return the podSpecPatch: what a template has no field for, and what changes from attempt to attempt.

    JSON, because Argo replaces expressions before it parses, and YAML would double the quotes within them.
    """
    spec: dict[str, Any] = {"terminationGracePeriodSeconds": pool.grace_seconds, "enableServiceLinks": False}
    if sandboxed and profile.runtime_class:
        spec["runtimeClassName"] = profile.runtime_class
    if pool.spot:
        spec["affinity"] = spot_affinity(pool.spot, retries.until_attempt(pool.spot.attempts, "In", "NotIn"))
    main: dict[str, Any] = {}
    if pool.memory_retry_gib:
        memory = retries.memory([f"{size}Gi" for size in (pool.memory_gib, *pool.memory_retry_gib)])
        main = {"requests": {"memory": memory}, "limits": {"memory": memory}}
    if devices and pool.device:
        main = {**main, "limits": {**main.get("limits", {}), pool.device.resource: devices}}
    if main:
        spec["containers"] = [{"name": "main", "resources": main}]
    return json.dumps(spec, indent=2) + "\n"


def gvisor_annotations(profile: Profile) -> Mapping[str, str]:
    """Return the hints that let gVisor share Argo's volume between the pod's containers.

    From 4.1 on Argo's wait container watches that volume with inotify, which gVisor delivers across containers only for
    a mount it was told is shared.
    """
    if not (profile.runtime_class and profile.mount_hints):
        return {}
    prefix = "dev.gvisor.spec.mount.var-run-argo"
    return {f"{prefix}.share": "pod", f"{prefix}.type": "tmpfs", f"{prefix}.options": "rw"}
