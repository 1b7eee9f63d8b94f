"""The kinds of object that the fake API server keeps: where they are served and how they may be changed."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """One resource. `status` tells whether it has a status subresource; Argo's Workflow CRD has none."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    status: bool = False

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def is_custom(self) -> bool:
        """Whether a CRD defines it; those take no strategic merge patch."""
        return self.group in ("argoproj.io", "jobset.x-k8s.io", "kueue.x-k8s.io")

    @property
    def title(self) -> str:
        """`workflows.argoproj.io`, as messages name it; `pods` in the core group."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


ARGO = ("argoproj.io", "v1alpha1")
RBAC = ("rbac.authorization.k8s.io", "v1")

PODS = Kind("", "v1", "pods", "Pod", status=True)
NODES = Kind("", "v1", "nodes", "Node", namespaced=False, status=True)
NAMESPACES = Kind("", "v1", "namespaces", "Namespace", namespaced=False, status=True)
SECRETS = Kind("", "v1", "secrets", "Secret")
CONFIGMAPS = Kind("", "v1", "configmaps", "ConfigMap")
SERVICE_ACCOUNTS = Kind("", "v1", "serviceaccounts", "ServiceAccount")
EVENTS = Kind("", "v1", "events", "Event")
WORKFLOWS = Kind(*ARGO, "workflows", "Workflow")
TEMPLATES = Kind(*ARGO, "workflowtemplates", "WorkflowTemplate")
TASK_RESULTS = Kind(*ARGO, "workflowtaskresults", "WorkflowTaskResult")
JOBSETS = Kind("jobset.x-k8s.io", "v1alpha2", "jobsets", "JobSet", status=True)
RUNTIME_CLASSES = Kind("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", namespaced=False)
DEPLOYMENTS = Kind("apps", "v1", "deployments", "Deployment", status=True)
CRDS = Kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False, status=True)

KINDS: tuple[Kind, ...] = (
    PODS,
    NODES,
    NAMESPACES,
    SECRETS,
    CONFIGMAPS,
    SERVICE_ACCOUNTS,
    EVENTS,
    Kind("", "v1", "services", "Service", status=True),
    Kind("", "v1", "resourcequotas", "ResourceQuota", status=True),
    Kind("", "v1", "limitranges", "LimitRange"),
    Kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", status=True),
    WORKFLOWS,
    TEMPLATES,
    TASK_RESULTS,
    Kind(*ARGO, "clusterworkflowtemplates", "ClusterWorkflowTemplate", namespaced=False),
    Kind(*ARGO, "cronworkflows", "CronWorkflow"),
    Kind(*ARGO, "workflowtasksets", "WorkflowTaskSet", status=True),
    JOBSETS,
    RUNTIME_CLASSES,
    DEPLOYMENTS,
    CRDS,
    Kind("batch", "v1", "jobs", "Job", status=True),
    Kind("kueue.x-k8s.io", "v1beta1", "localqueues", "LocalQueue", status=True),
    Kind("kueue.x-k8s.io", "v1beta1", "clusterqueues", "ClusterQueue", False, status=True),
    Kind("kueue.x-k8s.io", "v1beta1", "resourceflavors", "ResourceFlavor", False),
    Kind(*RBAC, "roles", "Role"),
    Kind(*RBAC, "rolebindings", "RoleBinding"),
    Kind(*RBAC, "clusterroles", "ClusterRole", namespaced=False),
    Kind(*RBAC, "clusterrolebindings", "ClusterRoleBinding", namespaced=False),
    Kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy"),
    Kind("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False),
    Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", status=True),
    Kind("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False),
)


def find_kind(group: str, version: str, plural: str) -> Kind | None:
    """Return the resource served at a path, or None."""
    return next((k for k in KINDS if (k.group, k.version, k.plural) == (group, version, plural)), None)


def kind_of(body: dict[str, str]) -> Kind:
    """Return the resource of a manifest; KeyError when the cluster does not know it."""
    for one in KINDS:
        if (one.api_version, one.kind) == (body.get("apiVersion"), body.get("kind")):
            return one
    raise KeyError(f"no matches for kind {body.get('kind')!r} in version {body.get('apiVersion')!r}")
