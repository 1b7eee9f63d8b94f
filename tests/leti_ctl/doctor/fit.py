"""A cluster that is fit to run leti, on the fake API server, and ways to change one thing about it."""

from __future__ import annotations

from typing import Any

from leti_ctl.backends.argo import templates
from leti_ctl.config.profiles import Profile
from tests.kube.api import ApiServer
from tests.kube.kinds import (
    CONFIGMAPS,
    CRDS,
    DEPLOYMENTS,
    KINDS,
    NAMESPACES,
    NODES,
    RUNTIME_CLASSES,
    SECRETS,
    SERVICE_ACCOUNTS,
    TEMPLATES,
    Kind,
)

Object = dict[str, Any]
DIGEST = "sha256:" + "0" * 64
EXECUTOR = "securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}"
BIG = {"cpu": "208", "memory": "2000Gi", "ephemeral-storage": "9000Gi", "pods": "110"}


def kind(plural: str) -> Kind:
    return next(one for one in KINDS if one.plural == plural)


def put(server: ApiServer, where: Kind, name: str, body: Object, *, namespace: str = "leti") -> None:
    """Create an object with its status, which a real server takes in a second step."""
    meta = {**body.get("metadata", {}), "name": name}
    made = {**body, "apiVersion": where.api_version, "kind": where.kind, "metadata": meta}
    server.objects.create(where, namespace if where.namespaced else "", made)
    if "status" in body and where.status:
        space = namespace if where.namespaced else ""
        server.objects.change(where, space, name, lambda one: {**one, "status": body["status"]}, subresource="status")


def edit(server: ApiServer, where: Kind, name: str, namespace: str = "leti", **fields: Any) -> None:
    """Replace top-level fields of an object; metadata is merged."""
    found = server.objects.get(where, namespace if where.namespaced else "", name)
    body = {key: value for key, value in found.items() if key not in ("apiVersion", "kind")}
    meta = {"labels": found["metadata"].get("labels") or {}, "annotations": found["metadata"].get("annotations") or {}}
    body = {**body, **fields, "metadata": meta | fields.get("metadata", {})}
    remove(server, where, name, namespace)
    put(server, where, name, body, namespace=namespace)


def remove(server: ApiServer, where: Kind, name: str, namespace: str = "leti") -> None:
    server.objects.delete(where, namespace if where.namespaced else "", name)


def deployment(image: str, *, ready: int = 1, args: list[str] | None = None) -> Object:
    box = {"name": "manager", "image": image, "args": args or []}
    labels = {"app": "controller"}
    spec = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [box]}},
    }
    return {"spec": spec, "status": {"readyReplicas": ready}}


def node(labels: dict[str, str], taints: list[str] | None = None, **allocatable: str) -> Object:
    repels = [{"key": key, "value": "present", "effect": "NoSchedule"} for key in taints or ()]
    room = {key.replace("gpu", "nvidia.com/gpu"): value for key, value in allocatable.items()}
    return {"metadata": {"labels": labels}, "spec": {"taints": repels}, "status": {"allocatable": {**BIG, **room}}}


def make_fit(server: ApiServer, profile: Profile) -> None:
    """Fill the server with everything a run on a GPU profile needs."""
    _install(server)
    strict = {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    edit(server, NAMESPACES, "leti", metadata=strict)
    put(server, RUNTIME_CLASSES, "gvisor", {"handler": "runsc", "scheduling": {"nodeSelector": {"sandbox": "yes"}}})
    for name in ("leti-stage", "leti-execute", "leti-executor", "leti-trainer"):
        role = {"eks.amazonaws.com/role-arn": f"arn:aws:iam::1:role/{name}"}
        put(server, SERVICE_ACCOUNTS, name, {"metadata": {"annotations": role}})
    deny = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    put(server, kind("networkpolicies"), "leti-default-deny", {"spec": deny})
    for name in ("leti-executor", "leti-trainer"):
        put(server, SECRETS, f"{name}.service-account-token", {"stringData": {"token": "a.b.c"}})
    put(server, CONFIGMAPS, "leti-store", {"data": {"AWS_DEFAULT_REGION": "us-east-1"}})
    for name in {pool.priority_class for pool in profile.pools.values() if pool.priority_class}:
        put(server, kind("priorityclasses"), name, {"value": 1})
    put_template(server, profile)
    gpus = profile.pools["train"].node_selector
    put(server, NODES, "plain", node({"sandbox": "yes"}))
    put(server, NODES, "gpus", node(gpus, ["nvidia.com/gpu"], gpu="8"))
    room = {"requests.cpu": "900", "requests.nvidia.com/gpu": "16", "pods": "300"}
    put(server, kind("resourcequotas"), "leti", {"spec": {"hard": room}, "status": {"hard": room, "used": {}}})


def put_template(server: ApiServer, profile: Profile) -> None:
    """Apply the profile's WorkflowTemplate with its images pinned, as kustomize does."""
    made = templates.workflow_template(profile)
    for one in made["spec"]["arguments"]["parameters"]:
        if one["name"].startswith("image-"):
            one["value"] = f"registry.example/{one['name']}@{DIGEST}"
    put(server, TEMPLATES, made["metadata"]["name"], {"metadata": made["metadata"], "spec": made["spec"]})


def _install(server: ApiServer) -> None:
    server.install_argo()
    have = {one["metadata"]["name"] for one in server.objects.list(CRDS)}
    for plural in ("workflowtaskresults", "workflowtasksets"):
        name = f"{plural}.argoproj.io"
        if name not in have:
            found = server.objects.get(CRDS, "", "workflows.argoproj.io")
            put(server, CRDS, name, {"spec": found["spec"]})
    remove(server, DEPLOYMENTS, "workflow-controller", "argo")
    argo = deployment(f"quay.io/argoproj/workflow-controller:v{server.argo}")
    put(server, DEPLOYMENTS, "workflow-controller", argo, namespace="argo")
    put(server, CONFIGMAPS, "workflow-controller-configmap", {"data": {"executor": EXECUTOR}}, namespace="argo")
    put(server, NAMESPACES, "jobset-system", {})
    jobset = deployment("registry.k8s.io/jobset/jobset:v0.12.0")
    put(server, DEPLOYMENTS, "jobset-controller-manager", jobset, namespace="jobset-system")
