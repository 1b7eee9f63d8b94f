"""Who may do what: the user's own rights, the service accounts, their tokens and the store's settings."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from leti_ctl.backends.argo.api import ApiError
from leti_ctl.doctor.cluster import denied
from leti_ctl.doctor.report import Check, Finding, Subject, fail, ok, warn

APPLY = "kubectl apply -k manifests/overlays/<yours>"
ACCOUNTS = ("leti-stage", "leti-execute", "leti-executor", "leti-trainer")
TOKENS = ("leti-executor", "leti-trainer")
ARGO, JOBSET = "argoproj.io", "jobset.x-k8s.io"
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
            "create ConfigMap leti-store with AWS_REGION or AWS_ENDPOINT_URL_S3, unless identities suffice",
        )
        return
    if "leti-store" in secrets and "leti-store-execute" not in secrets:
        yield fail(
            "Secret leti-store has keys for every stage but execute",
            "create Secret leti-store-execute with keys that read samples and write executions only",
        )
    yield ok(", ".join(found))


CHECKS = (
    Check("rights", rights, 40.0),
    Check("accounts", accounts),
    Check("tokens", tokens),
    Check("store settings", store),
)
