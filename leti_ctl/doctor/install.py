"""What must be installed in the cluster: Kubernetes, Argo and its settings, JobSet, Kueue, gVisor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import yaml

from leti_ctl.backends.argo.api import ApiError
from leti_ctl.doctor.cluster import Cluster, Object, denied, numbers, readable, tag
from leti_ctl.doctor.report import Check, Finding, Subject, fail, ok, warn

ARGO = "/apis/argoproj.io/v1alpha1"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ARGO_KINDS = ("workflows", "workflowtemplates", "workflowtaskresults", "workflowtasksets")
LEAST_KUBERNETES = (1, 26)
"""Pod failure policies, by which training tells a preemption from a failure, are on by default from here."""
LEAST_ARGO, NEWEST_ARGO = (3, 7), (4, 1)
LEAST_JOBSET = (0, 10)
"""`onJobFailureMessagePatterns` tells preemptions from failures."""
INSTALL_ARGO = "install Argo Workflows 3.7 to 4.1: https://argo-workflows.readthedocs.io/en/latest/installation/"
INSTALL_JOBSET = "install JobSet >= 0.10 (https://jobset.sigs.k8s.io), or use a profile with train_backend: pod"
SYSTEM_NAMESPACES = ("argo", "argo-workflows", "jobset-system", "kueue-system")


def kubernetes(subject: Subject) -> Iterator[Finding]:
    """Whether the API server answers, and how old it is."""
    found = subject.api.find("/version") or {}
    version = str(found.get("gitVersion"))
    text = f"Kubernetes {version} at {subject.api.host}, namespace {subject.api.namespace}"
    if numbers(version)[:2] < LEAST_KUBERNETES:
        yield fail(text, f"upgrade to {_dots(LEAST_KUBERNETES)} or newer: pod failure policies are missing")
    else:
        yield ok(text)


def namespace(subject: Subject) -> Iterator[Finding]:
    """Whether the namespace exists and how strict its pod security is."""
    cluster = subject.api
    found = cluster.find(f"/api/v1/namespaces/{cluster.namespace}")
    if found is None:
        yield fail(f"namespace {cluster.namespace} does not exist", "kubectl apply -k manifests/overlays/<yours>")
        return
    level = pod_security(found)
    if level == "restricted":
        yield ok(f"{cluster.namespace} enforces Pod Security restricted")
    else:
        remedy = f"kubectl label namespace {cluster.namespace} pod-security.kubernetes.io/enforce=restricted"
        yield warn(
            f"{cluster.namespace} enforces Pod Security {level or 'nothing'}; leti's pods pass restricted", remedy
        )


def pod_security(found: Object) -> str | None:
    """Return the level a namespace enforces."""
    level: str | None = found["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce")
    return level


def definitions(subject: Subject) -> Iterator[Finding]:
    """Argo's kinds: there, and whether the server checks their fields."""
    kinds = {kind: _definition(subject.api, f"{kind}.argoproj.io", ARGO, kind) for kind in ARGO_KINDS}
    missing = [kind for kind, found in kinds.items() if found is None]
    if missing:
        yield fail(f"no {', '.join(missing)} of argoproj.io", INSTALL_ARGO)
        return
    checked = _describes_templates(kinds["workflows"] or {})
    if checked is None:
        yield warn(
            "Argo's kinds are served; their definitions may not be read, so full or minimal is unknown",
            "none needed: leti-ctl checks manifests itself",
        )
    elif checked:
        yield ok("Argo's CRDs are full: the server refuses misspelt fields")
    else:
        yield warn(
            "Argo's CRDs are minimal: the server drops misspelt fields without a word",
            "install the full CRDs (default since 4.0); until then `leti-ctl lint` is the only check",
        )


def _definition(cluster: Cluster, name: str, root: str, plural: str) -> Object | None:
    """Return a CRD; an empty one where it may not be read but the kind is served; None where there is none."""
    try:
        return cluster.find(f"{CRDS}/{name}")
    except ApiError as error:
        if not denied(error):
            raise
    served = cluster.find(root) or {}
    return {} if any(one["name"] == plural for one in served.get("resources", ())) else None


def _describes_templates(found: Object) -> bool | None:
    for version in found.get("spec", {}).get("versions", ()):
        properties = version.get("schema", {}).get("openAPIV3Schema", {}).get("properties", {})
        return "templates" in properties.get("spec", {}).get("properties", {})
    return None


def controllers(cluster: Cluster, program: str) -> list[Object]:
    """Return the deployments that run an image called `program`, cluster-wide or where they usually are."""
    try:
        every = cluster.items("/apis/apps/v1/deployments")
    except ApiError as error:
        if not denied(error):
            raise
        every = [one for name in (*SYSTEM_NAMESPACES, cluster.namespace) for one in _deployments(cluster, name)]
    return [one for one in every if any(program in _program(box["image"]) for box in _containers(one))]


def _deployments(cluster: Cluster, name: str) -> list[Object]:
    try:
        return cluster.items(f"/apis/apps/v1/namespaces/{name}/deployments")
    except ApiError as error:
        if not denied(error):
            raise
        return []


def _containers(deployment: Object) -> list[Object]:
    containers: list[Object] = deployment["spec"]["template"]["spec"]["containers"]
    return containers


def _program(image: str) -> str:
    """`quay.io/argoproj/workflow-controller:v4.1.2` -> `workflow-controller`; `jobset/jobset:v0.12` -> `jobset`."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]


def _version(deployment: Object, program: str) -> str:
    """Return the image's tag, or what the deployment's label says where the image is pinned by digest alone."""
    image = next(tag(box["image"]) for box in _containers(deployment) if program in _program(box["image"]))
    return image or str((deployment["metadata"].get("labels") or {}).get("app.kubernetes.io/version", ""))


def _option(deployment: Object, name: str) -> str | None:
    """Return the value of a controller's command-line option, given as `--name value` or `--name=value`."""
    given = [str(each) for box in _containers(deployment) for each in box.get("args") or ()]
    for number, each in enumerate(given):
        if each == name:
            return given[number + 1] if number + 1 < len(given) else ""
        if each.startswith(f"{name}="):
            return each.removeprefix(f"{name}=")
    return None


def _argo(subject: Subject) -> Object | None:
    """Return Argo's controller, of several the one that minds the runs' namespace."""
    found = controllers(subject.api, "workflow-controller")
    return min(found, key=lambda one: _minds(one) not in (None, subject.api.namespace), default=None)


def _minds(deployment: Object) -> str | None:
    """Return the one namespace a controller minds, None for all."""
    if _option(deployment, "--namespaced") is None:
        return None
    own: str = deployment["metadata"].get("namespace", "")
    return _option(deployment, "--managed-namespace") or own


def controller(subject: Subject) -> Iterator[Finding]:
    """Argo's controller: running, of a version the profile is made for, and minding this namespace."""
    one = _argo(subject)
    if one is None:
        yield warn(
            "the deployment of Argo's controller was not found, or may not be read",
            "without it nothing starts: look for a pod workflow-controller, or " + INSTALL_ARGO,
        )
        return
    place = f"{one['metadata'].get('namespace', '?')}/{one['metadata']['name']}"
    version = numbers(_version(one, "workflow-controller"))
    text = f"{place} {_version(one, 'workflow-controller') or 'of an unknown version'}"
    yield _supported(text, version, subject)
    ready = one.get("status", {}).get("readyReplicas", 0)
    if not ready:
        yield fail(f"{place} has no ready pod", f"kubectl describe deployment -n {place.replace('/', ' ')}")
    if _minds(one) not in (None, subject.api.namespace):
        remedy = f"run it with --managed-namespace {subject.api.namespace}, or for all"
        yield fail(f"{place} minds namespace {_minds(one)} only", remedy)


def _supported(text: str, version: tuple[int, ...], subject: Subject) -> Finding:
    profile = subject.pools
    if not version:
        return warn(text, f"give the image a version tag; leti supports {_dots(LEAST_ARGO)} to {_dots(NEWEST_ARGO)}")
    if version[:2] < max(LEAST_ARGO, numbers(profile.argo_version)):
        return fail(f"{text}; profile {profile.name} is made for {profile.argo_version} or newer", INSTALL_ARGO)
    if version[:2] > NEWEST_ARGO:
        return warn(
            f"{text} is newer than what leti was made for", f"supported: {_dots(LEAST_ARGO)} to {_dots(NEWEST_ARGO)}"
        )
    return ok(text)


def _dots(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def settings(subject: Subject) -> Iterator[Finding]:
    """The controller's ConfigMap: what it gives the executor's containers, and whose workflows it takes."""
    cluster = subject.api
    one = _argo(subject)
    place = one["metadata"].get("namespace", "argo") if one else "argo"
    name = (one and _option(one, "--configmap")) or "workflow-controller-configmap"
    found = cluster.find(f"/api/v1/namespaces/{place}/configmaps/{name}")
    config = configuration(found or {})
    strict = pod_security(cluster.find(f"/api/v1/namespaces/{cluster.namespace}") or {"metadata": {}}) == "restricted"
    executor = config.get("executor")
    lacks = _lacks((executor.get("securityContext") or {}) if isinstance(executor, dict) else {})
    where = f"{place}/{name}"
    if strict and lacks:
        yield fail(
            f"{where}: executor.securityContext lacks {', '.join(lacks)}, and the namespace enforces restricted",
            "set executor.securityContext as manifests/ does, or no pod of a workflow is admitted",
        )
    elif lacks:
        yield warn(
            f"{where}: executor.securityContext lacks {', '.join(lacks)}",
            "set it as manifests/ does, so that the namespace may enforce restricted",
        )
    else:
        yield ok(f"{where}: the executor's containers pass Pod Security restricted")
    if config.get("instanceID"):
        yield fail(
            f"{where}: instanceID {config['instanceID']!r}; this controller takes only workflows with that label",
            "give leti a controller without instanceID: its workflows carry none",
        )


def configuration(config_map: Object) -> dict[str, Any]:
    """Return the controller's settings, which a ConfigMap holds under one key `config` or one key each."""
    data = config_map.get("data") or {}
    if "config" in data:
        return _mapping(data["config"])
    return {name: _mapping(text) or text for name, text in data.items()}


def _mapping(text: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def _lacks(context: dict[str, Any]) -> list[str]:
    """Which of restricted's per-container demands a security context leaves open; the rest is set on leti's pods."""
    drops = (context.get("capabilities") or {}).get("drop") or []
    wanted = {
        "allowPrivilegeEscalation: false": context.get("allowPrivilegeEscalation") is False,
        "capabilities.drop: [ALL]": "ALL" in drops,
    }
    return [name for name, there in wanted.items() if not there]


def jobset(subject: Subject) -> Iterator[Finding]:
    """JobSet, which training runs as."""
    if subject.pools.train_backend == "pod":
        yield ok("not needed: the profile trains in a plain pod")
        return
    root = "/apis/jobset.x-k8s.io/v1alpha2"
    if _definition(subject.api, "jobsets.jobset.x-k8s.io", root, "jobsets") is None:
        yield fail("no jobsets of jobset.x-k8s.io", INSTALL_JOBSET)
        return
    versions = [_version(one, "jobset") for one in controllers(subject.api, "jobset")]
    old = [each for each in versions if numbers(each) and numbers(each)[:2] < LEAST_JOBSET]
    if old:
        yield fail(f"JobSet {old[0]} does not know onJobFailureMessagePatterns", INSTALL_JOBSET)
    elif versions:
        yield ok(f"JobSet {versions[0]}")
    else:
        yield warn("the CRD is there; its controller was not found, or may not be read", "look for jobset-system")


def kueue(subject: Subject) -> Iterator[Finding]:
    """The queues the profile's pools wait in."""
    queues = sorted({pool.queue for pool in subject.pools.pools.values() if pool.queue})
    if not queues:
        yield ok("not used by the profile")
    for queue in queues:
        yield _queue(subject.api, queue)


def _queue(cluster: Cluster, queue: str) -> Finding:
    served = (cluster.find(f"/apis/kueue.x-k8s.io/{version}") and version for version in ("v1beta2", "v1beta1"))
    version = next((each for each in served if each), None)
    found = cluster.find(cluster.own("localqueues", queue, root=f"/apis/kueue.x-k8s.io/{version}")) if version else None
    if version is None:
        return fail(f"queue {queue}: Kueue is not installed", "install Kueue, or drop `queue` from the profile's pools")
    if found is None:
        return fail(
            f"no LocalQueue {queue} in {cluster.namespace}", f"create it, or drop `queue: {queue}` from the profile"
        )
    active = _condition(found, "Active")
    if active is not None and active.get("status") != "True":
        return fail(f"queue {queue} is not active: {active.get('message', '')}", "mend its ClusterQueue")
    return ok(f"queue {queue} feeds ClusterQueue {found.get('spec', {}).get('clusterQueue')}")


def _condition(found: Object, kind: str) -> Object | None:
    conditions: Iterable[Object] = found.get("status", {}).get("conditions", ())
    return next((one for one in conditions if one.get("type") == kind), None)


def gvisor(subject: Subject) -> Iterator[Finding]:
    """The RuntimeClass of pods that run model-written code, and the hints that Argo 4.1 needs under it."""
    profile, name = subject.pools, subject.pools.runtime_class
    if name is None:
        yield warn(f"profile {profile.name} runs model-written code without gVisor", "set runtime_class: gvisor")
        return
    found = subject.api.find(f"/apis/node.k8s.io/v1/runtimeclasses/{name}")
    if found is None:
        yield fail(
            f"no RuntimeClass {name}",
            "make a node pool with gVisor (GKE: --sandbox type=gvisor; else install "
            "runsc and its containerd shim and apply manifests/components/gvisor)",
        )
        return
    yield ok(f"RuntimeClass {name}, handler {found.get('handler')}")
    argo = _argo(subject)
    watches = argo is not None and numbers(_version(argo, "workflow-controller"))[:2] >= (4, 1)
    if watches and profile.platform != "gke" and not profile.mount_hints:
        yield fail(
            "Argo 4.1 under self-managed gVisor without mount hints: its executor never sees the main container end",
            "set mount_hints: true in the profile",
        )


CHECKS = (
    Check("kubernetes", kubernetes),
    readable("namespace", namespace),
    readable("argo CRDs", definitions),
    readable("argo controller", controller),
    readable("argo settings", settings),
    readable("jobset", jobset),
    readable("kueue", kueue),
    readable("gvisor", gvisor),
)
