"""Pods of a Workflow: made from a template as Argo makes them, and read back into node phases."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import yaml

from tests.kube.kinds import PODS, SECRETS
from tests.kube.nodes import ManifestError, is_done, known
from tests.kube.objects import Object
from tests.kube.patches import strategic
from tests.kube.refusals import Refused
from tests.kube.strict import faults
from tests.kube.templating import substitute

if TYPE_CHECKING:
    from tests.kube.flows import Context
    from tests.kube.workflow import Operation

FIELDS = ("volumes", "nodeSelector", "tolerations", "affinity", "serviceAccountName", "automountServiceAccountToken",
          "executor", "activeDeadlineSeconds", "priorityClassName", "securityContext", "podSpecPatch",
          "hostAliases")  # fmt: skip
"""Template fields that shape the pod."""
RESOURCE = ("action", "manifest", "successCondition", "failureCondition", "setOwnerReference", "flags", "mergeStrategy")
ACTIONS = ("create", "apply", "delete", "get", "patch")
EXECUTOR = "quay.io/argoproj/argoexec"
VOLUME = {"name": "var-run-argo", "emptyDir": {}}


def start(operation: Operation, template: Object, context: Context) -> Object | None:
    """Create the pod of a node, or return the node it has; None when it may not start now."""
    nodes = operation.nodes
    node = nodes.find(context.name)
    if node is not None:
        if node["phase"] == "Pending" and _pod_of(operation, node) is None and operation.starting:
            _create(operation, template, node)
        return node
    if operation.shutdown and not context.on_exit:
        why = f"workflow shutdown with strategy: {operation.shutdown}"
        return nodes.start(context.name, "Pod", template["name"], context.boundary, phase="Failed", message=why)
    if not operation.starting or _is_full(operation):
        operation.requeue = True
        return None
    node = nodes.start(context.name, "Pod", template["name"], context.boundary, phase="Pending")
    node["inputs"] = {"parameters": [{"name": key, "value": value} for key, value in context.inputs.items()]}
    _create(operation, template, node)
    return node


def _pod_of(operation: Operation, node: Object) -> Object | None:
    return operation.objects.find(PODS, operation.namespace, operation.nodes.pod_name(node))


def _create(operation: Operation, template: Object, node: Object) -> None:
    try:
        operation.objects.create(PODS, operation.namespace, build(operation, template, node))
    except Refused as refused:
        # A controller that died after creating the pod and before writing status finds it again.
        if refused.reason != "AlreadyExists":
            operation.nodes.mark(node, "Error", refused.message)


def build(operation: Operation, template: Object, node: Object) -> Object:
    """Return the pod; everything that is not resolved by now, unknown or of the wrong type is an error."""
    spec = operation.spec
    name = operation.nodes.pod_name(node)
    scope = {**operation.scope, "pod.name": name, "node.name": node["name"]}
    bound = substitute({key: value for key, value in template.items() if key != "retryStrategy"}, scope)
    shared = substitute({key: spec[key] for key in spec if key not in ("templates", "arguments")}, scope)
    _check_outputs(bound)
    metadata = bound.get("metadata", {})
    extra = shared.get("podMetadata", {})
    pod: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": operation.namespace,
            "labels": {
                "workflows.argoproj.io/workflow": operation.name,
                "workflows.argoproj.io/completed": "false",
                **extra.get("labels", {}),
                **metadata.get("labels", {}),
            },
            "annotations": {
                "workflows.argoproj.io/node-name": node["name"],
                "workflows.argoproj.io/node-id": node["id"],
                "kubectl.kubernetes.io/default-container": "main",
                **extra.get("annotations", {}),
                **metadata.get("annotations", {}),
            },
            "ownerReferences": [owner(operation.workflow)],
        },
        "spec": _pod_spec(operation, bound, shared),
    }
    for patch in (shared.get("podSpecPatch"), bound.get("podSpecPatch")):
        if patch:
            pod["spec"] = strategic(pod["spec"], yaml.safe_load(patch))
    wrong = faults(PODS, pod)
    if wrong:
        raise ManifestError(f"template {template['name']}: the pod is refused: {wrong[0]}")
    return pod


def _pod_spec(operation: Operation, bound: Object, shared: Object) -> Object:
    account = bound.get("serviceAccountName", shared.get("serviceAccountName", "default"))
    executor = bound.get("executor", shared.get("executor", {})).get("serviceAccountName")
    automount = bound.get("automountServiceAccountToken", shared.get("automountServiceAccountToken", True))
    if not automount:
        _check_token(operation, executor)
    mounts = {one["name"] for one in bound.get("container", {}).get("volumeMounts", [])}
    volumes = [*shared.get("volumes", []), *bound.get("volumes", [])]
    missing = mounts - {one["name"] for one in volumes}
    if missing:
        raise ManifestError(f"template {bound['name']}: volume {sorted(missing)} not found in workflow spec")
    if bound.get("resource", {}).get("setOwnerReference"):
        bound["resource"]["manifest"] = _owned(bound["resource"]["manifest"], operation.workflow)
    environment = [{"name": "ARGO_TEMPLATE", "value": json.dumps(bound)}]
    helper = {
        "image": EXECUTOR,
        "env": environment,
        "volumeMounts": [{"name": "var-run-argo", "mountPath": "/var/run/argo"}],
    }
    if "resource" in bound:
        known(f"{bound['name']}.resource", bound["resource"], *RESOURCE)
        if bound["resource"]["action"] not in ACTIONS:
            raise ManifestError(f"resource action {bound['resource']['action']!r}")
        containers = [{**helper, "name": "main", "command": ["argoexec", "resource", bound["resource"]["action"]]}]
        account = executor or account
    else:
        containers = [{**helper, "name": "wait", "command": ["argoexec", "wait"]}, _main(bound["container"])]
    found: Object = {
        "restartPolicy": "Never",
        "serviceAccountName": account,
        "automountServiceAccountToken": automount,
        "initContainers": [{**helper, "name": "init", "command": ["argoexec", "init"]}],
        "containers": containers,
        "volumes": [VOLUME, *(one for one in volumes if one["name"] in mounts)],
    }
    for key in ("securityContext", "nodeSelector", "tolerations", "affinity", "hostAliases", "imagePullSecrets"):
        if key in bound or key in shared:
            found[key] = bound.get(key, shared.get(key))
    if "activeDeadlineSeconds" in bound:
        found["activeDeadlineSeconds"] = int(bound["activeDeadlineSeconds"])
    priority = bound.get("priorityClassName", shared.get("podPriorityClassName"))
    return {**found, "priorityClassName": priority} if priority else found


def _owned(manifest: str, workflow: Object) -> str:
    """Return a resource's manifest with the workflow as its owner."""
    body = yaml.safe_load(manifest)
    body["metadata"].setdefault("ownerReferences", []).append(owner(workflow))
    return str(yaml.safe_dump(body))


def _main(container: Object) -> Object:
    """Return the container with what Argo adds: its name and the folder it shares with the executor."""
    mounts = [*container.get("volumeMounts", []), {"name": "var-run-argo", "mountPath": "/var/run/argo"}]
    if "command" not in container:
        raise ManifestError("container.command is required: without it the controller asks the image's registry")
    return {**container, "name": container.get("name") or "main", "volumeMounts": mounts}


def _check_token(operation: Operation, account: str | None) -> None:
    """Without automounting, Argo mounts the executor's token from a Secret that it finds by name."""
    if account is None:
        raise ManifestError("executor.serviceAccountName must be set when automountServiceAccountToken is false")
    name = f"{account}.service-account-token"
    if operation.objects.find(SECRETS, operation.namespace, name) is None:
        raise ManifestError(f'failed to get token volumes: secrets "{name}" not found')


def _check_outputs(bound: Object) -> None:
    known(f"{bound['name']}.outputs", bound.get("outputs", {}), "parameters")
    for one in bound.get("outputs", {}).get("parameters", []):
        known(f"{bound['name']}.outputs.{one['name']}", one, "name", "valueFrom", "description")
        allowed = ("jsonPath", "default") if "resource" in bound else ("path", "default")
        known(f"{bound['name']}.outputs.{one['name']}.valueFrom", one["valueFrom"], *allowed)


def _is_full(operation: Operation) -> bool:
    limit = operation.spec.get("parallelism")
    active = [n for n in operation.nodes.by_id.values() if n["type"] == "Pod" and not is_done(n)]
    return limit is not None and len(active) >= limit


def owner(item: Object) -> Object:
    """Return a reference that makes `item` the controlling owner."""
    meta = item["metadata"]
    return {
        "apiVersion": item["apiVersion"],
        "kind": item["kind"],
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def reconcile(operation: Operation) -> None:
    """Bring every pod's node up to date; on shutdown end the pods that still run, but not the exit handler's."""
    for node in operation.nodes.by_id.values():
        if node["type"] != "Pod" or is_done(node):
            continue
        pod = _pod_of(operation, node)
        if pod is None:
            # A pod that never ran is made anew.
            if node["phase"] != "Pending" or operation.shutdown:
                operation.nodes.mark(node, "Error", "pod deleted")
            continue
        _assess(operation, node, pod)
        exiting = node["name"].startswith(f"{operation.name}.onExit")
        if operation.shutdown and not exiting and not is_done(node) and "deletionTimestamp" not in pod["metadata"]:
            with contextlib.suppress(Refused):
                operation.objects.delete(PODS, operation.namespace, pod["metadata"]["name"])


def _assess(operation: Operation, node: Object, pod: Object) -> None:
    status = pod["status"]
    phase = status.get("phase", "Pending")
    if pod["spec"].get("nodeName"):
        node["hostNodeName"] = pod["spec"]["nodeName"]
    if phase == "Pending":
        waiting = [one["state"]["waiting"] for one in status.get("containerStatuses", []) if "waiting" in one["state"]]
        reasons = [
            f"{one['reason']}: {one.get('message', '')}" for one in waiting if one["reason"] != "PodInitializing"
        ]
        unscheduled = [f"Unschedulable: {c['message']}" for c in status.get("conditions", []) if c["status"] == "False"]
        operation.nodes.mark(node, "Pending", next(iter([*reasons, *unscheduled]), "PodInitializing"))
    elif phase == "Running":
        node.pop("message", None)
        operation.nodes.mark(node, "Running")
    else:
        _end(operation, node, pod)


def _end(operation: Operation, node: Object, pod: Object) -> None:
    """Settle a node whose pod has ended: its outputs and exit code, its phase and reason."""
    states = {one["name"]: one["state"].get("terminated") for one in pod["status"].get("containerStatuses", [])}
    outputs: dict[str, Any] = dict(operation.result(node))
    if states.get("main"):
        outputs["exitCode"] = str(states["main"]["exitCode"])
    if outputs:
        node["outputs"] = outputs
    if pod["status"]["phase"] == "Succeeded":
        operation.nodes.mark(node, "Succeeded")
    elif pod["status"].get("message"):
        operation.nodes.mark(node, "Failed", pod["status"]["message"])
    else:
        operation.nodes.mark(node, *_reason(states))
    with contextlib.suppress(Refused):  # gone since it was read
        operation.objects.change(PODS, operation.namespace, pod["metadata"]["name"], _completed)


def _completed(pod: Object) -> None:
    pod["metadata"]["labels"]["workflows.argoproj.io/completed"] = "true"


def _reason(states: dict[str, Object | None]) -> tuple[str, str]:
    """Return phase and message from the container that failed: main's fault is Failed, the executor's is Error."""
    for name in ("main", "wait"):
        ended = states.get(name)
        if ended and ended["exitCode"]:
            text = ended.get("message") or f"{ended['reason']} (exit code {ended['exitCode']})"
            return ("Failed", f"main: {text}") if name == "main" else ("Error", text)
    return "Error", "pod failed for unknown reasons"
