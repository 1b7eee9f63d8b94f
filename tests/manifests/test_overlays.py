"""What an overlay installs, as the real kustomize builds it: complete, in its namespace, with the rights it claims."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leti_ctl.backends.argo.check import check_structure
from leti_ctl.backends.argo.lint import lint
from leti_ctl.backends.argo.rules.manifest import Manifest
from leti_ctl.config.profiles import load_profile, profile_names
from tests.kube import strict
from tests.kube.kinds import KINDS
from tests.manifests.tree import CLUSTER_WIDE, MANIFESTS, OVERLAYS, Object, build, of_kind, overlay

PART_OF = "app.kubernetes.io/part-of"
RIGHTS = {
    "leti-executor": {("argoproj.io", "workflowtaskresults"): {"create", "patch"}},
    "leti-trainer": {("jobset.x-k8s.io", "jobsets"): {"create", "get", "list", "watch", "patch", "delete"}},
    "leti-user": {
        ("argoproj.io", "workflows"): {"create", "get", "list", "watch", "patch", "delete"},
        ("argoproj.io", "workflowtemplates"): {"get", "list", "watch"},
        **{
            ("", resource): {"get", "list", "watch"}
            for resource in ("pods", "pods/log", "events", "configmaps", "serviceaccounts", "resourcequotas")
        },
    },
    "leti-user-jobsets": {("jobset.x-k8s.io", "jobsets"): {"get", "list", "watch", "delete"}},
}
"""All that any Role of ours allows; the security review reads this table and the test holds it true."""
BOUND = {
    "leti-executor": {"leti-executor", "leti-trainer"},
    "leti-trainer": {"leti-trainer"},
    "leti-user": {"leti-users"},
    "leti-user-jobsets": {"leti-users"},
}

pytestmark = pytest.mark.slow  # kubectl takes a second or two
each_overlay = pytest.mark.parametrize("name", OVERLAYS)


def templates(name: str) -> dict[str, Object]:
    return of_kind(overlay(name), "WorkflowTemplate")


@each_overlay
def test_it_holds_the_templates_of_its_platform_and_no_others(name: str) -> None:
    mine = {f"leti-{each}" for each in profile_names() if load_profile(each).platform == name}
    assert templates(name).keys() == mine and mine


@each_overlay
def test_every_object_is_in_the_namespace_and_carries_the_label(name: str) -> None:
    for each in overlay(name):
        where = None if each["kind"] in CLUSTER_WIDE else "leti"
        assert each["metadata"].get("namespace") == where, each["metadata"]
        assert each["metadata"]["labels"][PART_OF] == "leti"


@each_overlay
def test_a_strict_server_knows_every_field(name: str) -> None:
    kinds = {(kind.api_version, kind.kind): kind for kind in KINDS}
    for each in overlay(name):
        kind = kinds.get((each["apiVersion"], each["kind"]))
        if kind is not None:
            assert strict.faults(kind, each) == [], each["metadata"]["name"]


@each_overlay
def test_what_kustomize_leaves_of_the_templates_passes_check_and_lint(name: str) -> None:
    for each in templates(name).values():
        assert check_structure(each) == []
    assert lint(overlay(name)) == []


@each_overlay
def test_the_namespace_enforces_restricted(name: str) -> None:
    labels = of_kind(overlay(name), "Namespace")["leti"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@each_overlay
def test_roles_allow_exactly_what_they_claim(name: str) -> None:
    roles = of_kind(overlay(name), "Role")
    assert of_kind(overlay(name), "ClusterRole") == of_kind(overlay(name), "ClusterRoleBinding") == {}
    assert roles.keys() == (RIGHTS.keys() if "JobSet" in _created(name) else {"leti-executor", "leti-user"})
    for title, role in roles.items():
        found: dict[tuple[str, str], set[str]] = {}
        for rule in role["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    found.setdefault((group, resource), set()).update(rule["verbs"])
        assert found == RIGHTS[title]


@each_overlay
def test_roles_are_bound_to_whom_they_are_meant_for(name: str) -> None:
    for title, binding in of_kind(overlay(name), "RoleBinding").items():
        assert binding["roleRef"]["name"] == title
        assert {subject["name"] for subject in binding["subjects"]} == BOUND[title]
        assert all(s["namespace"] == "leti" for s in binding["subjects"] if s["kind"] == "ServiceAccount")


@each_overlay
def test_no_service_account_hands_out_its_token(name: str) -> None:
    accounts = of_kind(overlay(name), "ServiceAccount")
    assert accounts.keys() == {"leti-stage", "leti-execute", "leti-executor", "leti-trainer"}
    assert all(each["automountServiceAccountToken"] is False for each in accounts.values())


def _created(name: str) -> set[str]:
    """Return the kinds that the overlay's templates create."""
    manifests = [Manifest(each) for each in templates(name).values()]
    found = [manifest.created(each) for manifest in manifests for each in manifest.all_templates]
    return {str(each["kind"]) for each in found if each}


def _values(value: Any, key: str) -> Iterator[Any]:
    """Yield what stands under a key, wherever it does."""
    if isinstance(value, dict):
        yield from ([value[key]] if key in value else [])
        for item in value.values():
            yield from _values(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from _values(item, key)


def _pods(name: str) -> list[Any]:
    return [pod for each in templates(name).values() for pod in Manifest(each).pods]


@each_overlay
def test_every_service_account_a_template_names_exists_and_executors_have_a_token(name: str) -> None:
    accounts, secrets = of_kind(overlay(name), "ServiceAccount"), of_kind(overlay(name), "Secret")
    for each in templates(name).values():
        named = set(_values(each["spec"], "serviceAccountName")) | {
            pod.spec["serviceAccountName"] for pod in Manifest(each).pods
        }
        assert named <= accounts.keys()
        for executor in _values(each["spec"], "executor"):
            account = executor["serviceAccountName"]
            token = secrets[f"{account}.service-account-token"]
            assert token["type"] == "kubernetes.io/service-account-token"
            assert token["metadata"]["annotations"]["kubernetes.io/service-account.name"] == account


@each_overlay
def test_every_secret_and_configmap_a_pod_reads_exists_or_is_optional(name: str) -> None:
    known = of_kind(overlay(name), "Secret").keys() | of_kind(overlay(name), "ConfigMap").keys()
    for pod in _pods(name):
        for _, container in pod.containers:
            for key in ("secretRef", "configMapRef", "secretKeyRef", "configMapKeyRef"):
                for reference in _values(container, key):
                    assert reference.get("optional") or reference["name"] in known


@each_overlay
def test_every_priority_and_runtime_class_a_pod_names_exists(name: str) -> None:
    priorities = of_kind(overlay(name), "PriorityClass")
    # GKE Sandbox brings its own RuntimeClass.
    runtimes = of_kind(overlay(name), "RuntimeClass").keys() | ({"gvisor"} if name == "gke" else set())
    for pod in _pods(name):
        assert pod.spec.get("priorityClassName") in {None, *priorities}
        assert pod.spec.get("runtimeClassName") in {None, *runtimes}
    assert any(pod.spec.get("runtimeClassName") == "gvisor" for pod in _pods(name))


def _labels(manifest: Manifest, pod: Any) -> dict[str, str]:
    """Return a pod's labels as policies see them: the workflow's, the template's and Argo's, or those of a JobSet."""
    created = manifest.created(pod.template)
    if created is not None:
        found: dict[str, str] = created["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["metadata"][
            "labels"
        ]
        return found
    own = pod.template.body.get("metadata", {}).get("labels", {})
    return {**manifest.spec["podMetadata"]["labels"], **own, "workflows.argoproj.io/workflow": "demo-0"}


def _selects(selector: Object, labels: dict[str, str]) -> bool:
    exact = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    expressions = selector.get("matchExpressions", ())
    return exact and all(each["operator"] == "Exists" and each["key"] in labels for each in expressions)


@each_overlay
def test_each_kind_of_pod_may_go_where_it_has_to_and_nowhere_else(name: str) -> None:
    policies = of_kind(overlay(name), "NetworkPolicy")
    store = "leti-minio" if name == "kind" else "leti-object-store"
    more = {"prepare": {"leti-model-hub"}, "train": {"leti-train-mesh"}}
    for body in templates(name).values():
        manifest = Manifest(body)
        for pod in manifest.pods:
            labels = _labels(manifest, pod)
            found = {title for title, each in policies.items() if _selects(each["spec"]["podSelector"], labels)}
            argo = {"leti-api-server"} if manifest.created(pod.template) is None else set()
            expected = {"leti-default-deny", "leti-dns", store} | argo | more.get(labels["leti.dev/stage"], set())
            assert found == expected, labels


@each_overlay
def test_default_deny_holds_for_every_pod_in_both_directions(name: str) -> None:
    deny = of_kind(overlay(name), "NetworkPolicy")["leti-default-deny"]["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@each_overlay
def test_the_metadata_server_is_out_of_reach(name: str) -> None:
    for title, policy in of_kind(overlay(name), "NetworkPolicy").items():
        for rule in policy["spec"].get("egress", ()):
            assert rule.get("to"), f"{title} allows every address"
            for block in (peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer):
                wide = block["cidr"] == "0.0.0.0/0"
                assert not block["cidr"].startswith("169.254.169.") and (
                    not wide or "169.254.0.0/16" in block["except"]
                )


@each_overlay
def test_every_setting_has_reached_its_place(name: str) -> None:
    text = str(overlay(name))
    assert "192.0.2." not in text and "leti-settings" not in text
    assert of_kind(overlay(name), "ConfigMap")["leti-store"]["data"]["AWS_DEFAULT_REGION"] == "us-east-1"


@each_overlay
def test_the_api_server_is_reached_behind_its_service_and_at_the_address_that_pods_dial(name: str) -> None:
    (rule,) = of_kind(overlay(name), "NetworkPolicy")["leti-api-server"]["spec"]["egress"]
    assert {port["port"] for port in rule["ports"]} == {443, 6443}
    blocks = [peer["ipBlock"]["cidr"] for peer in rule["to"]]
    assert len(blocks) >= 2 and sum(block.endswith(".1/32") for block in blocks) == 1


def test_eks_accounts_carry_a_role_each() -> None:
    accounts = of_kind(overlay("eks"), "ServiceAccount")
    roles = {title: each["metadata"].get("annotations", {}) for title, each in accounts.items()}
    named = {title: found["eks.amazonaws.com/role-arn"] for title, found in roles.items() if found}
    assert named.keys() == {"leti-stage", "leti-execute"} and len(set(named.values())) == 2


def test_accelerators_are_limited_by_quota_where_there_are_any() -> None:
    for name in ("gke", "eks"):
        hard = [each["spec"]["hard"] for each in of_kind(overlay(name), "ResourceQuota").values()]
        assert any("requests.nvidia.com/gpu" in each for each in hard)
    assert any(
        "requests.google.com/tpu" in q["spec"]["hard"] for q in of_kind(overlay("gke"), "ResourceQuota").values()
    )


def test_the_pods_of_the_local_store_are_as_restricted_as_ours() -> None:
    objects = [each for each in overlay("kind") if each["kind"] in ("Deployment", "Job")]
    assert len(objects) == 2
    for each in objects:
        spec = each["spec"]["template"]["spec"]
        assert spec["securityContext"]["runAsNonRoot"] and spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False and context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert re.search(r":RELEASE\.[\w.-]+$", container["image"]) and "memory" in container["resources"]["limits"]


def test_the_local_store_has_two_users_and_neither_is_root() -> None:
    secrets = of_kind(overlay("kind"), "Secret")
    names = {
        base64.b64decode(secrets[title]["data"][key]) if "data" in secrets[title] else secrets[title]["stringData"][key]
        for title, key in (
            ("leti-store", "AWS_ACCESS_KEY_ID"),
            ("leti-store-execute", "AWS_ACCESS_KEY_ID"),
            ("minio-root", "MINIO_ROOT_USER"),
        )
    }
    assert len(names) == 3


def on_top(folder: Path, text: str) -> list[Object]:
    """Return what a user's own overlay makes: `text` beside a reference to the eks overlay."""
    folder.mkdir(parents=True)
    path = Path(*[".."] * len(folder.parts[1:])) / MANIFESTS.relative_to("/") / "overlays/eks"
    head = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
    (folder / "kustomization.yaml").write_text(f"{head}resources: [{path}]\n{text}")
    return build(folder)


def test_a_digest_set_in_an_overlay_reaches_the_template(tmp_path: Path) -> None:
    digest = "sha256:" + "1" * 64
    images = f"images: [{{name: leti-execute, newName: registry.example.com/judge, digest: '{digest}'}}]\n"
    made = of_kind(on_top(tmp_path / "mine", images), "WorkflowTemplate")
    for body in made.values():
        values = {each["name"]: each.get("value") for each in body["spec"]["arguments"]["parameters"]}
        assert values["image-execute"] == f"registry.example.com/judge@{digest}"
        assert values["image-ctl"] == load_profile(body["metadata"]["name"].removeprefix("leti-")).images.ctl
        assert values["start"] == "0" and values["run"] is None


def test_another_namespace_takes_everything_along(tmp_path: Path) -> None:
    made = on_top(tmp_path / "mine", "namespace: research\n")
    namespaces = {each["metadata"].get("namespace") for each in made if each["kind"] not in CLUSTER_WIDE}
    subjects = {s.get("namespace") for b in of_kind(made, "RoleBinding").values() for s in b["subjects"]}
    assert namespaces == {"research"} and subjects == {"research", None}
    assert "research" in of_kind(made, "Namespace")


def test_a_name_prefix_is_followed_by_what_refers_to_the_names(tmp_path: Path) -> None:
    made = on_top(tmp_path / "mine", "namePrefix: b-\n")
    body = of_kind(made, "WorkflowTemplate")["b-leti-eks-l4"]
    assert body["spec"]["serviceAccountName"] == "b-leti-stage"
    assert body["spec"]["executor"]["serviceAccountName"] == "b-leti-executor"
    execute = next(each for each in body["spec"]["templates"] if each["name"] == "execute")
    assert execute["serviceAccountName"] == "b-leti-execute"
    assert execute["container"]["envFrom"][0]["configMapRef"]["name"] == "b-leti-store"
    token = of_kind(made, "Secret")["b-leti-executor.service-account-token"]
    assert token["metadata"]["annotations"]["kubernetes.io/service-account.name"] == "b-leti-executor"
    assert execute.get("priorityClassName") == "b-leti-batch"


def components(folder: Path, *names: str) -> list[Object]:
    """Return what an overlay with more components makes."""
    up = Path(*[".."] * len(folder.parts[1:])) / MANIFESTS.relative_to("/") / "components"
    return on_top(folder, f"components: [{', '.join(f'{up}/{name}' for name in names)}]\n")


def test_the_other_components_build_on_top(tmp_path: Path) -> None:
    made = components(tmp_path / "mine", "kueue", "log-archive", "tpu")
    queue = of_kind(made, "ClusterQueue")["leti"]["spec"]["resourceGroups"]
    assert {flavor["name"] for group in queue for flavor in group["flavors"]} == of_kind(made, "ResourceFlavor").keys()
    assert of_kind(made, "LocalQueue")["leti-accelerators"]["spec"]["clusterQueue"] == "leti"
    assert "s3" in of_kind(made, "ConfigMap")["leti-artifacts"]["data"]


def test_the_admission_policy_speaks_of_what_the_templates_use(tmp_path: Path) -> None:
    made = components(tmp_path / "mine", "admission")
    policy = of_kind(made, "ValidatingAdmissionPolicy")["leti-untrusted"]["spec"]
    binding = of_kind(made, "ValidatingAdmissionPolicyBinding")["leti-untrusted"]["spec"]
    assert binding["policyName"] == "leti-untrusted" and binding["validationActions"] == ["Deny"]
    assert policy["failurePolicy"] == "Fail"
    named = set(re.findall(r"'([^']+)'", " ".join(each["expression"] for each in _expressions(policy))))
    for body in of_kind(made, "WorkflowTemplate").values():
        execute = next(pod for pod in Manifest(body).pods if pod.template.is_untrusted)
        secrets = {each["name"] for each in _values([c for _, c in execute.containers], "secretRef")}
        executor = body["spec"]["executor"]["serviceAccountName"]
        used = {execute.spec["serviceAccountName"], execute.spec["runtimeClassName"], *secrets}
        assert named == used | {f"{executor}.service-account-token", "leti.dev/untrusted", "true"}
        assert body["spec"]["automountServiceAccountToken"] is False


def _expressions(policy: Object) -> list[Object]:
    return [*policy["variables"], *policy["validations"]]
