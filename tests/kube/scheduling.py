"""Which node a pod goes to, and whether it may be created at all."""

from __future__ import annotations

import contextlib
from typing import Any

from tests.kube.kinds import NODES, PODS, RUNTIME_CLASSES, SERVICE_ACCOUNTS
from tests.kube.nodes import known
from tests.kube.objects import Object, Objects
from tests.kube.refusals import Refused


def schedule(objects: Objects, pod: Object) -> None:
    """Put a pod on the first node that takes it, or say why none does."""
    if pod["spec"].get("schedulingGates") or "deletionTimestamp" in pod["metadata"]:
        return
    runtime = objects.find(RUNTIME_CLASSES, "", pod["spec"].get("runtimeClassName") or "") or {}
    extra = runtime.get("scheduling", {})
    wanted = {**pod["spec"], "nodeSelector": {**extra.get("nodeSelector", {}), **pod["spec"].get("nodeSelector", {})}}
    wanted["tolerations"] = [*pod["spec"].get("tolerations", []), *extra.get("tolerations", [])]
    nodes = objects.list(NODES)
    name = next((node["metadata"]["name"] for node in nodes if fits(wanted, node)), None)
    where = (PODS, pod["metadata"]["namespace"], pod["metadata"]["name"])
    with contextlib.suppress(Refused):
        if name is not None:
            objects.change(*where, lambda pod: pod["spec"].update(nodeName=name))
            return
        why = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": f"0/{len(nodes)} nodes are available",
        }
        objects.change(*where, lambda pod: pod["status"].update(conditions=[why]), subresource="status")


def fits(spec: Object, node: Object) -> bool:
    """Whether a node satisfies a pod's selector, required affinity and resources, and the pod its taints."""
    labels = node["metadata"]["labels"]
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity", {})
    terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms", [])
    if terms and not any(all(_matches(one, labels) for one in term["matchExpressions"]) for term in terms):
        return False
    allocatable = node["status"]["allocatable"]
    for container in spec["containers"]:
        asked = {
            **container.get("resources", {}).get("requests", {}),
            **container.get("resources", {}).get("limits", {}),
        }
        devices = {key: int(value) for key, value in asked.items() if "/" in key}
        if any(int(allocatable.get(key, 0)) < value for key, value in devices.items()):
            return False
    taints = [taint for taint in node["spec"].get("taints", []) if taint["effect"] != "PreferNoSchedule"]
    return all(any(_tolerates(one, taint) for one in spec.get("tolerations") or []) for taint in taints)


def _matches(expression: Object, labels: dict[str, str]) -> bool:
    key, value = expression["key"], labels.get(expression["key"])
    tests: dict[str, Any] = {
        "Exists": lambda: key in labels,
        "DoesNotExist": lambda: key not in labels,
        "In": lambda: value in expression["values"],
        "NotIn": lambda: value not in expression["values"],
    }
    return bool(tests[expression["operator"]]())


def _tolerates(toleration: Object, taint: Object) -> bool:
    known("toleration", toleration, "key", "operator", "value", "effect", "tolerationSeconds")
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return (toleration.get("key"), toleration.get("value", "")) == (taint["key"], taint.get("value", ""))


def check_admission(objects: Objects, pod: Object) -> None:
    """Raise KeyError for what a pod refers to and the cluster does not have."""
    account, namespace = pod["spec"].get("serviceAccountName", "default"), pod["metadata"]["namespace"]
    if account != "default" and objects.find(SERVICE_ACCOUNTS, namespace, account) is None:
        raise KeyError(f'error looking up service account {namespace}/{account}: serviceaccount "{account}" not found')
    runtime = pod["spec"].get("runtimeClassName")
    if runtime and objects.find(RUNTIME_CLASSES, "", runtime) is None:
        raise KeyError(f'RuntimeClass "{runtime}" not found')
