"""Whether pods of each pool find room: nodes that match, quotas with headroom, limit ranges that let them in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from leti_ctl.config.profiles import Pool, PoolName, refuse
from leti_ctl.doctor.cluster import Object, readable
from leti_ctl.doctor.report import Check, Finding, Subject, fail, ok, warn
from leti_ctl.estimate.rates import load_rates
from leti_ctl.estimate.work import Work

GIB = float(1 << 30)
SCALES = {"": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
SCALES |= {f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", 1)}
QUANTITY = re.compile(r"([0-9.]+(?:[eE][-+]?\d+)?)(" + "|".join(sorted(SCALES, key=len, reverse=True)) + ")")
COUNTED = ("pods", "count/workflows.argoproj.io")
"""What every pod or run takes one of."""
REPELS = ("NoSchedule", "NoExecute")


def quantity(text: str | float) -> float:
    """Return what a Kubernetes quantity means: 0.5 of `500m`, 2147483648 of `2Gi`."""
    found = QUANTITY.fullmatch(str(text))
    if found is None:
        raise ValueError(f"{text!r} is no quantity")
    return float(found[1]) * SCALES[found[2]]


def needs(name: PoolName, pool: Pool, subject: Subject) -> dict[str, float]:
    """Return what the first attempt of a pool's pod asks for, by resource."""
    disk = 2 if pool.scratch_class else pool.scratch_gib + 2
    wanted = {"cpu": float(pool.cpu), "memory": pool.memory_gib * GIB, "ephemeral-storage": disk * GIB}
    if pool.device is not None:
        processes = subject.spec.train.processes if subject.spec else pool.device.count
        shared = name == "train" and pool.device.resource == "nvidia.com/gpu"
        wanted[pool.device.resource] = float(min(processes, pool.device.count) if shared else pool.device.count)
    return wanted


def run(subject: Subject) -> Iterator[Finding]:
    """Whether the profile may run the spec, and its training pods have the disk for it."""
    spec, profile = subject.spec, subject.pools
    if spec is None:
        yield ok("no run is named; --preset or -f examines for one")
        return
    refuse(spec, profile)
    disk = profile.pools["train"].scratch_gib * GIB
    need = Work(spec, load_rates(), subject.parameters).scratch_bytes() if subject.parameters else 0.0
    if need > disk:
        yield fail(f"training keeps {need / GIB:.0f} GiB on disk, pools.train.scratch_gib is {disk / GIB:.0f}",
                   "raise it in a profile of your own, or train a smaller model")  # fmt: skip
    else:
        yield ok(f"profile {profile.name} may run it")


def nodes(subject: Subject) -> Iterator[Finding]:
    """For each pool, the nodes its pods could run on."""
    every = subject.api.items("/api/v1/nodes")
    for name, pool in subject.pools.pools.items():
        selector, tolerated = dict(pool.node_selector), {one.key for one in pool.tolerations}
        if pool.spot and pool.spot.taint:
            tolerated.add(pool.spot.key)
        if name == "sandbox":
            scheduling = _scheduling(subject)
            selector |= scheduling.get("nodeSelector") or {}
            tolerated |= {one.get("key", "") for one in scheduling.get("tolerations") or ()}
        fitting = [node for node in every if _admits(node, selector, tolerated)]
        yield _pool(name, needs(name, pool, subject), fitting, selector)


def _scheduling(subject: Subject) -> Object:
    """What the RuntimeClass adds to the pods that use it."""
    name = subject.pools.runtime_class
    found = subject.api.find(f"/apis/node.k8s.io/v1/runtimeclasses/{name}") if name else None
    return (found or {}).get("scheduling") or {}


def _admits(node: Object, selector: Mapping[str, str], tolerated: set[str]) -> bool:
    labels, spec = node["metadata"].get("labels") or {}, node.get("spec") or {}
    repelled = any(taint["effect"] in REPELS and taint["key"] not in tolerated for taint in spec.get("taints") or ())
    return not repelled and not spec.get("unschedulable") and selector.items() <= labels.items()


def _pool(name: str, wanted: Mapping[str, float], fitting: list[Object], selector: Mapping[str, str]) -> Finding:
    asks = ", ".join(f"{key}={value}" for key, value in selector.items()) or "any labels"
    if not fitting:
        return warn(
            f"pool {name}: no node has {asks} and lets its pods in",
            "nothing to do where an autoscaler makes them; else add nodes, or correct node_selector and tolerations",
        )
    rooms = [{key: quantity(value) for key, value in node["status"]["allocatable"].items()} for node in fitting]
    large = sum(all(room.get(key, 0.0) >= value for key, value in wanted.items()) for room in rooms)
    if large:
        return ok(f"pool {name}: {large} of {len(fitting)} nodes with {asks} have room for a pod")
    short = {key: max(room.get(key, 0.0) for room in rooms) for key, value in wanted.items()}
    lacking = next((key for key, value in wanted.items() if short[key] < value), None)
    if lacking is None:
        return fail(f"pool {name}: none of {len(fitting)} nodes has all its pods ask for", "lower the pool's requests")
    remedy = (
        "run the device plugin"
        if "/" in lacking and not short[lacking]
        else "lower the pool's request, or add larger nodes"
    )
    return fail(
        f"pool {name}: its pods ask for {_amount(lacking, wanted[lacking])} {lacking}, "
        f"the largest node has {_amount(lacking, short[lacking])}",
        remedy,
    )


def _amount(resource: str, value: float) -> str:
    return f"{value / GIB:.1f} GiB" if _plain(resource) in ("memory", "ephemeral-storage") else f"{value:g}"


def quotas(subject: Subject) -> Iterator[Finding]:
    """Whether the namespace's quotas have room for at least one pod of each pool."""
    found = subject.api.items(subject.api.own("resourcequotas"))
    if not found:
        yield warn("no ResourceQuota: a run may take the whole cluster", "set one; manifests/base has an example")
        return
    for quota in found:
        yield _quota(quota, {name: needs(name, pool, subject) for name, pool in subject.pools.pools.items()})


def _quota(quota: Object, wanted: Mapping[PoolName, Mapping[str, float]]) -> Finding:
    name, status = quota["metadata"]["name"], quota.get("status") or {}
    hard, used = status.get("hard") or quota["spec"].get("hard") or {}, status.get("used") or {}
    left = {key: quantity(value) - quantity(used.get(key, 0)) for key, value in hard.items()}
    if "limits.cpu" in left:
        return warn(f"quota {name} counts limits.cpu, which leti's pods do not set",
                    "count requests.cpu instead, or let a LimitRange give containers a default limit")  # fmt: skip
    asks = {key: max((_asked(key, each), pool) for pool, each in wanted.items()) for key in left}
    for key, (need, pool) in asks.items():
        if need > left[key]:
            found = (
                f"quota {name}: {key} has {_amount(key, left[key])} left, a {pool} pod asks for {_amount(key, need)}"
            )
            some = quota["spec"].get("scopes") or quota["spec"].get("scopeSelector")
            if some:
                return warn(f"{found}; it counts some pods only", "see whether its scope holds leti's pods")
            return fail(found, "raise the quota, or lower the pool's request")
    rooms = (f"{_amount(key, left[key])} {key} left" for key, (need, _) in asks.items() if need)
    return ok(f"quota {name}: {', '.join(rooms)}")


def _asked(key: str, wanted: Mapping[str, float]) -> float:
    """What one pod takes of a quota's line."""
    return 1.0 if key in COUNTED else wanted.get(_plain(key), 0.0)


def _plain(key: str) -> str:
    return key.removeprefix("requests.").removeprefix("limits.")


def limits(subject: Subject) -> Iterator[Finding]:
    """Whether a LimitRange refuses what the pools' containers ask for."""
    found = subject.api.items(subject.api.own("limitranges"))
    refused = [refusal for one in found for refusal in _refusals(one, subject)]
    for refusal in refused:
        yield fail(refusal, "raise the LimitRange's max, or lower the pool's request")
    if not refused:
        yield ok(", ".join(one["metadata"]["name"] for one in found) or "none in the namespace")


def _refusals(limit_range: Object, subject: Subject) -> Iterator[str]:
    for item in limit_range["spec"]["limits"]:
        most = item.get("max") or {}
        if item["type"] not in ("Container", "Pod"):
            continue
        for name, pool in subject.pools.pools.items():
            for resource, need in needs(name, pool, subject).items():
                if resource in most and need > quantity(most[resource]):
                    yield (
                        f"LimitRange {limit_range['metadata']['name']}: a {item['type'].lower()} has at most "
                        f"{most[resource]} {resource}, a {name} pod asks for {_amount(resource, need)}"
                    )


CHECKS = (Check("run", run), readable("nodes", nodes), readable("quotas", quotas), readable("limit ranges", limits))
