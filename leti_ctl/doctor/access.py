"""Who may do what: the user's own rights, the service accounts, their tokens and the store's settings."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from leti_ctl.backends.argo.api import ApiError
from leti_ctl.backends.argo.names import PART_OF, STAGE
from leti_ctl.backends.argo.names import UNTRUSTED as UNTRUSTED_LABEL
from leti_ctl.doctor.cluster import Object, denied, readable
from leti_ctl.doctor.report import Check, Finding, Subject, fail, ok, warn

APPLY = "kubectl apply -k manifests/overlays/<yours>"
ACCOUNTS = ("leti-stage", "leti-execute", "leti-executor", "leti-trainer")
TOKENS = ("leti-executor", "leti-trainer")
ARGO, JOBSET = "argoproj.io", "jobset.x-k8s.io"
IDENTITIES = {"eks": "eks.amazonaws.com/role-arn", "gke": "iam.gke.io/gcp-service-account"}
"""Annotation of a service account that names its cloud identity."""
UNTRUSTED = {PART_OF: "leti", STAGE: "execute", UNTRUSTED_LABEL: "true"}
"""Labels of a pod with model-written code that policies select by."""
GATED = "bigcode/the-stack"
"""Data sets whose names begin so ask for an account that accepted their terms."""
NEEDED: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    (ARGO, "workflows", "", ("create", "get", "list", "watch", "patch")),
    (ARGO, "workflowtemplates", "", ("get",)),
    ("", "pods", "", ("get", "list")),
    ("", "pods", "log", ("get",)),
)
NEEDED_FOR_JOBSETS = (JOBSET, "jobsets", "", ("get", "list", "delete"))
"""`leti-ctl stop` reaps them where the exit handler cannot."""


def rights(subject: Subject) -> Iterator[Finding]:
    """Every verb leti-ctl uses, asked one by one."""
    wanted = (*NEEDED, *([NEEDED_FOR_JOBSETS] if subject.pools.train_backend == "jobset" else []))
    asked = [(verb, group, resource, sub) for group, resource, sub, verbs in wanted for verb in verbs]
    refused = [
        f"{verb} {resource}{'/' + sub if sub else ''}"
        for verb, group, resource, sub in asked
        if not subject.api.may(verb, resource, group=group, sub=sub)
    ]
    if refused:
        yield fail(
            f"you may not {', '.join(refused)} in {subject.api.namespace}", "bind the Role leti-user to yourself"
        )
    else:
        yield ok(f"you may do all {len(asked)} things leti-ctl does in {subject.api.namespace}")


def accounts(subject: Subject) -> Iterator[Finding]:
    """The service accounts the WorkflowTemplate names."""
    cluster = subject.api
    missing = [name for name in _accounts(subject) if cluster.find(cluster.own("serviceaccounts", name)) is None]
    if missing:
        yield fail(f"no service account {', '.join(missing)} in {cluster.namespace}", APPLY)
    else:
        yield ok(", ".join(_accounts(subject)))


def _accounts(subject: Subject) -> list[str]:
    return [name for name in ACCOUNTS if name != "leti-trainer" or subject.pools.train_backend == "jobset"]


def tokens(subject: Subject) -> Iterator[Finding]:
    """The token Secrets that Argo mounts into its executor; Kubernetes makes none by itself since 1.24."""
    for name in (one for one in TOKENS if one in _accounts(subject)):
        yield _token(subject, f"{name}.service-account-token")


def _token(subject: Subject, name: str) -> Finding:
    cluster = subject.api
    try:
        found = cluster.find(cluster.own("secrets", name))
    except ApiError as error:
        if not denied(error):
            raise
        return warn(
            f"whether Secret {name} exists is unknown: you may not read Secrets",
            "ask an administrator; without it every pod of a workflow fails to start",
        )
    if found is None:
        return fail(f"no Secret {name}: every pod of a workflow fails to start", APPLY)
    if not base64.b64decode((found.get("data") or {}).get("token") or ""):
        return fail(f"Secret {name} holds no token", "check its annotation kubernetes.io/service-account.name and type")
    return ok(f"Secret {name}")


def store(subject: Subject) -> Iterator[Finding]:
    """Where the pods' settings of the store come from."""
    cluster = subject.api
    config = cluster.find(cluster.own("configmaps", "leti-store"))
    try:
        secrets = [name for name in ("leti-store", "leti-store-execute") if cluster.find(cluster.own("secrets", name))]
    except ApiError as error:
        if not denied(error):
            raise
        secrets = []
    found = [*(["ConfigMap leti-store"] if config else []), *(f"Secret {name}" for name in secrets)]
    if not found:
        yield warn(
            "neither ConfigMap nor Secret leti-store: pods reach the store by their cloud identity alone",
            "create ConfigMap leti-store with AWS_DEFAULT_REGION or AWS_ENDPOINT_URL_S3, unless identities suffice",
        )
        return
    if "leti-store" in secrets and "leti-store-execute" not in secrets:
        yield fail(
            "Secret leti-store has keys for every stage but execute",
            "create Secret leti-store-execute with keys that read samples and write executions only",
        )
    yield ok(", ".join(found))


def hub(subject: Subject) -> Iterator[Finding]:
    """The hub's token, where the run reads a gated data set."""
    stream = subject.spec.pretraining.source if subject.spec and subject.spec.uses_pretraining() else ""
    there = subject.api.find(subject.api.own("secrets", "leti-hub")) is not None
    if stream.startswith(GATED) and not there:
        remedy = "accept its terms on the hub, then kubectl create secret generic leti-hub --from-literal=HF_TOKEN=..."
        yield fail(f"no Secret leti-hub, and {stream} is gated", remedy)
    else:
        yield ok("Secret leti-hub" if there else "no Secret leti-hub; only gated models and data need one")


def identity(subject: Subject) -> Iterator[Finding]:
    """The cloud identities of the stages: there, and execute's its own."""
    if subject.pools.platform not in IDENTITIES:
        yield ok("no cloud identities on this platform: keys come from Secrets")
        return
    named = {name: _identity(subject, name) for name in ("leti-stage", "leti-execute")}
    if named["leti-stage"] and named["leti-stage"] == named["leti-execute"]:
        yield fail(
            f"leti-stage and leti-execute are both {named['leti-stage']}: model-written code's pod may write "
            "checkpoints",
            "give leti-execute a role of its own that reads samples and writes executions only",
        )
        return
    for name, found in named.items():
        if found is None:
            yield warn(
                f"service account {name} names no cloud identity ({IDENTITIES[subject.pools.platform]})",
                "annotate it, unless Pod Identity, a federated principal or Secret leti-store is used",
            )
    if all(named.values()):
        yield ok(", ".join(f"{name} is {found}" for name, found in named.items()))


def _identity(subject: Subject, name: str) -> str | None:
    found = subject.api.find(subject.api.own("serviceaccounts", name)) or {"metadata": {}}
    annotations = found["metadata"].get("annotations") or {}
    named: str | None = annotations.get(IDENTITIES[subject.pools.platform])
    return named


def references(subject: Subject) -> Iterator[Finding]:
    """Objects that the profile names: pull secrets, priority classes, storage classes, the log repository."""
    profile, cluster = subject.pools, subject.api
    pools = profile.pools.values()
    wanted = {f"Secret {name}": cluster.own("secrets", name) for name in profile.images.pull_secrets}
    if profile.archive_logs:
        wanted[f"ConfigMap {profile.archive_logs}"] = cluster.own("configmaps", profile.archive_logs)
    for name in sorted({pool.priority_class for pool in pools if pool.priority_class}):
        wanted[f"PriorityClass {name}"] = f"/apis/scheduling.k8s.io/v1/priorityclasses/{name}"
    for name in sorted({pool.scratch_class for pool in pools if pool.scratch_class}):
        wanted[f"StorageClass {name}"] = f"/apis/storage.k8s.io/v1/storageclasses/{name}"
    missing = [what for what, path in wanted.items() if cluster.find(path) is None]
    if missing:
        yield fail(
            f"profile {profile.name} names what is not there: {', '.join(missing)}", "create it, or correct the profile"
        )
    else:
        yield ok(", ".join(wanted) or "the profile names none")


def network(subject: Subject) -> Iterator[Finding]:
    """Whether some policy limits where pods with model-written code may connect to."""
    found = subject.api.items(subject.api.own("networkpolicies", root="/apis/networking.k8s.io/v1"))
    walls = [one["metadata"]["name"] for one in found if _limits_untrusted(one["spec"])]
    if walls:
        yield ok(f"egress of untrusted pods is limited by {', '.join(walls)}, if the network plug-in enforces policies")
    else:
        yield warn(
            "no NetworkPolicy limits the egress of pods with model-written code",
            "add manifests/components/network-policies to your overlay",
        )


def _limits_untrusted(spec: Object) -> bool:
    selector = spec.get("podSelector") or {}
    labels = selector.get("matchLabels") or {}
    selects = labels.items() <= UNTRUSTED.items() and not selector.get("matchExpressions")
    return selects and "Egress" in (spec.get("policyTypes") or ())


CHECKS = (
    Check("rights", rights, 40.0),
    readable("accounts", accounts),
    readable("tokens", tokens),
    readable("identity", identity),
    readable("references", references),
    readable("network", network),
    readable("store settings", store),
    readable("hub token", hub),
)
