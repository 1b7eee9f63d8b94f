"""Every check of a cluster, passing on one that is fit and failing on one that lacks the one thing it is about."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from leti_ctl.backends.argo.api import connect
from leti_ctl.commands.doctor import doctor as command
from leti_ctl.config import profiles
from leti_ctl.config.profiles import Profile
from leti_ctl.doctor import access, capacity, cluster, examine, install, template
from leti_ctl.doctor.report import Finding, Subject
from stages.contract.errors import UsageError
from stages.contract.spec import RunSpec
from tests.conftest import ROOT
from tests.kube import kinds
from tests.kube.api import ApiServer, Fault
from tests.leti_ctl.doctor import fit

CHECKS = (*install.CHECKS, *access.CHECKS, *template.CHECKS, *capacity.CHECKS)
PROFILE = "eks-h100"
Spoil = Callable[[ApiServer], object]


@cache
def load_profile(name: str, *overrides: str) -> Profile:
    return profiles.load_profile(name, overrides)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    with ApiServer() as running:
        monkeypatch.setenv("KUBECONFIG", str(running.write_kubeconfig(tmp_path / "kubeconfig")))
        yield running


def ask(server: ApiServer, name: str, profile: Profile | None = None, spec: RunSpec | None = None) -> list[Finding]:
    """Return what one check finds."""
    loaded = profile or load_profile(PROFILE)
    reached = cluster.Cluster(connect()[0], "leti")
    subject = replace(Subject("s3://unused/here", spec), profile=loaded, cluster=reached)
    return [finding for _, finding in examine([check for check in CHECKS if check.name == name], subject)]


@pytest.mark.parametrize("name", [check.name for check in CHECKS])
def test_on_a_fit_cluster_all_is_well(server: ApiServer, name: str) -> None:
    fit.make_fit(server, load_profile(PROFILE))
    found = ask(server, name)
    assert found and all(finding.level == "ok" for finding in found), found


def forbid(verb: str, resource: str) -> Spoil:
    return lambda server: server.denied.add((verb, resource))


def controller(image: str, *, ready: int = 1, args: list[str] | None = None) -> Spoil:
    one = fit.deployment(image, ready=ready, args=args)
    return lambda server: fit.edit(server, kinds.DEPLOYMENTS, "workflow-controller", "argo", **one)


def settings(**data: str) -> Spoil:
    name = "workflow-controller-configmap"
    return lambda server: fit.edit(server, kinds.CONFIGMAPS, name, "argo", data=data)


def quota(**hard: str) -> Spoil:
    named = {key.replace("__", "/").replace("_", "."): value for key, value in hard.items()}
    status = {"hard": named, "used": {}}
    return lambda server: fit.edit(server, fit.kind("resourcequotas"), "leti", spec={"hard": named}, status=status)


def minimal(server: ApiServer) -> None:
    found = server.objects.get(kinds.CRDS, "", "workflows.argoproj.io")
    schema = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    fit.edit(server, kinds.CRDS, "workflows.argoproj.io", spec=found["spec"])


def small_gpus(server: ApiServer) -> None:
    fit.edit(server, kinds.NODES, "gpus", **{k: v for k, v in fit.node({}, gpu="4").items() if k == "status"})


def no_plugin(server: ApiServer) -> None:
    fit.edit(server, kinds.NODES, "gpus", status={"allocatable": fit.BIG})


def hand_edited(server: ApiServer) -> None:
    found = server.objects.get(kinds.TEMPLATES, "leti", f"leti-{PROFILE}")
    fit.edit(server, kinds.TEMPLATES, f"leti-{PROFILE}", spec={**found["spec"], "parallelism": 1})


def unpinned(server: ApiServer) -> None:
    found = server.objects.get(kinds.TEMPLATES, "leti", f"leti-{PROFILE}")
    found["spec"]["arguments"]["parameters"] = [
        {**one, "value": "leti-gpu:latest"} if one["name"] == "image-accelerator" else one
        for one in found["spec"]["arguments"]["parameters"]
    ]
    fit.edit(server, kinds.TEMPLATES, f"leti-{PROFILE}", spec=found["spec"])


def other_version(server: ApiServer) -> None:
    marked = {"annotations": {"leti.dev/manifest-sha256": "f" * 64}}
    fit.edit(server, kinds.TEMPLATES, f"leti-{PROFILE}", metadata=marked)


def scoped(server: ApiServer) -> None:
    hard = {"requests.cpu": "1"}
    spec = {"hard": hard, "scopes": ["BestEffort"]}
    fit.edit(server, fit.kind("resourcequotas"), "leti", spec=spec, status={"hard": hard, "used": {}})


def limit_range(server: ApiServer) -> None:
    body = {"spec": {"limits": [{"type": "Container", "max": {"memory": "64Gi"}}]}}
    fit.put(server, fit.kind("limitranges"), "small", body)


def gone(where: kinds.Kind, name: str, namespace: str = "leti") -> Spoil:
    return lambda server: fit.remove(server, where, name, namespace)


def old_kubernetes(server: ApiServer) -> None:
    server.version = "v1.25.9"


def relaxed(server: ApiServer) -> None:
    fit.edit(server, kinds.NAMESPACES, "leti", metadata={"labels": {}})


def emptied(server: ApiServer) -> None:
    fit.edit(server, kinds.SECRETS, "leti-trainer.service-account-token", data={})


def keyed(server: ApiServer) -> None:
    fit.put(server, kinds.SECRETS, "leti-store", {"stringData": {"AWS_ACCESS_KEY_ID": "x"}})


def old_jobset(server: ApiServer) -> None:
    one = fit.deployment("registry.k8s.io/jobset/jobset:v0.8.1")
    fit.edit(server, kinds.DEPLOYMENTS, "jobset-controller-manager", "jobset-system", **one)


def one_role(server: ApiServer) -> None:
    role = {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/leti-stage"}}
    fit.edit(server, kinds.SERVICE_ACCOUNTS, "leti-execute", metadata=role)


def no_role(server: ApiServer) -> None:
    fit.edit(server, kinds.SERVICE_ACCOUNTS, "leti-execute", metadata={"annotations": {}})


def other_config(server: ApiServer) -> None:
    """Helm names the ConfigMap after its release, and pins images by digest."""
    image = f"{IMAGE}@{fit.DIGEST}"
    one = fit.deployment(image, args=["--configmap", "helm-controller-configmap"])
    fit.edit(server, kinds.DEPLOYMENTS, "workflow-controller", "argo", **one)
    fit.put(server, kinds.CONFIGMAPS, "helm-controller-configmap", {"data": {"config": "{}"}}, namespace="argo")


def ingress_only(server: ApiServer) -> None:
    spec = {"podSelector": {}, "policyTypes": ["Ingress"]}
    fit.edit(server, fit.kind("networkpolicies"), "leti-default-deny", spec=spec)


def trainers_only(server: ApiServer) -> None:
    spec = {"podSelector": {"matchLabels": {"leti.dev/stage": "train"}}, "policyTypes": ["Egress"]}
    fit.edit(server, fit.kind("networkpolicies"), "leti-default-deny", spec=spec)


IMAGE = "quay.io/argoproj/workflow-controller"
SPOILED: list[tuple[str, str, Spoil, tuple[str, ...]]] = [
    ("kubernetes", "fail", old_kubernetes, ("v1.25.9", "1.26")),
    ("kubernetes", "fail", lambda s: s.faults.append(Fault("GET", "/version", 401)), ("log in again",)),
    ("namespace", "fail", gone(kinds.NAMESPACES, "leti"), ("leti does not exist", "apply -k")),
    ("namespace", "warn", relaxed, ("nothing", "kubectl label namespace leti")),
    ("argo CRDs", "fail", gone(kinds.CRDS, "workflowtasksets.argoproj.io"), ("workflowtasksets", "install Argo")),
    ("argo CRDs", "warn", minimal, ("minimal", "full CRDs")),
    ("argo CRDs", "warn", forbid("get", kinds.CRDS.title), ("unknown",)),
    ("argo controller", "fail", controller(f"{IMAGE}:v3.6.19"), ("v3.6.19", "3.7")),
    ("argo controller", "warn", controller(f"{IMAGE}:v4.3.0"), ("newer",)),
    ("argo controller", "warn", controller(f"{IMAGE}:latest"), ("version tag",)),
    ("argo controller", "fail", controller(f"{IMAGE}:v4.1.2", ready=0), ("no ready pod", "kubectl describe")),
    ("argo controller", "fail", controller(f"{IMAGE}:v4.1.2", args=["--namespaced"]), ("argo only", "leti")),
    ("argo controller", "fail", controller(f"{IMAGE}:v4.1.2", args=["--namespaced", "--managed-namespace=other"]),
     ("other only",)),
    ("argo controller", "warn", gone(kinds.DEPLOYMENTS, "workflow-controller", "argo"), ("was not found",)),
    ("argo settings", "fail", settings(), ("allowPrivilegeEscalation", "restricted")),
    ("argo settings", "fail", settings(config="executor: {securityContext: {allowPrivilegeEscalation: false}}"),
     ("drop: [ALL]",)),
    ("argo settings", "fail", settings(executor=fit.EXECUTOR, instanceID="blue"), ("instanceID", "blue")),
    ("jobset", "fail", gone(kinds.CRDS, "jobsets.jobset.x-k8s.io"), ("install JobSet", "train_backend: pod")),
    ("jobset", "fail", old_jobset, ("v0.8.1", "0.10")),
    ("jobset", "warn", gone(kinds.DEPLOYMENTS, "jobset-controller-manager", "jobset-system"), ("was not found",)),
    ("gvisor", "fail", gone(kinds.RUNTIME_CLASSES, "gvisor"), ("no RuntimeClass gvisor", "runsc")),
    ("rights", "fail", forbid("create", kinds.WORKFLOWS.title), ("create workflows", "leti-user")),
    ("rights", "fail", forbid("get", "pods/log"), ("get pods/log",)),
    ("rights", "fail", forbid("delete", kinds.JOBSETS.title), ("delete jobsets",)),
    ("accounts", "fail", gone(kinds.SERVICE_ACCOUNTS, "leti-trainer"), ("leti-trainer", "apply -k")),
    ("tokens", "fail", gone(kinds.SECRETS, "leti-executor.service-account-token"), ("fails to start",)),
    ("tokens", "fail", emptied, ("holds no token",)),
    ("tokens", "warn", forbid("get", "secrets"), ("may not read Secrets",)),
    ("identity", "fail", one_role, ("are both", "role of its own")),
    ("identity", "warn", no_role, ("leti-execute names no cloud identity",)),
    ("network", "warn", ingress_only, ("no NetworkPolicy", "network-policies")),
    ("network", "warn", trainers_only, ("limits the egress",)),
    ("network", "warn", forbid("list", "networkpolicies.networking.k8s.io"), ("unknown", "may not list")),
    ("argo settings", "fail", other_config, ("helm-controller-configmap", "allowPrivilegeEscalation")),
    ("store settings", "warn", gone(kinds.CONFIGMAPS, "leti-store"), ("cloud identity", "create ConfigMap")),
    ("store settings", "fail", keyed, ("leti-store-execute",)),
    ("template", "fail", gone(kinds.TEMPLATES, f"leti-{PROFILE}"), (f"render --profile {PROFILE}",)),
    ("template", "fail", other_version, ("another leti", "ffffffffffff")),
    ("template", "warn", hand_edited, ("was edited",)),
    ("template", "warn", unpinned, ("image-accelerator leti-gpu:latest", "digest")),
    ("nodes", "warn", gone(kinds.NODES, "gpus"), ("pool train", "autoscaler")),
    ("nodes", "fail", small_gpus, ("8 nvidia.com/gpu", "has 4")),
    ("nodes", "fail", no_plugin, ("device plugin",)),
    ("nodes", "warn", forbid("list", "nodes"), ("unknown", "may not list nodes")),
    ("quotas", "fail", quota(requests_nvidia_com__gpu="4"), ("4 left", "8")),
    ("quotas", "fail", quota(pods="0"), ("pods",)),
    ("quotas", "warn", scoped, ("some pods only", "scope")),
    ("quotas", "warn", quota(limits_cpu="100"), ("limits.cpu", "requests.cpu")),
    ("quotas", "warn", gone(fit.kind("resourcequotas"), "leti"), ("no ResourceQuota",)),
    ("limit ranges", "fail", limit_range, ("LimitRange small", "64Gi memory", "train")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "level", "spoil", "words"), SPOILED, ids=[f"{s[0]}-{s[3][0]}" for s in SPOILED])
def test_one_thing_amiss_is_found_with_its_remedy(
    server: ApiServer, name: str, level: str, spoil: Spoil, words: tuple[str, ...]
) -> None:
    fit.make_fit(server, load_profile(PROFILE))
    spoil(server)
    found = [finding for finding in ask(server, name) if finding.level != "ok"]
    text = " ".join(f"{finding.found} {finding.remedy}" for finding in found)
    assert level in [finding.level for finding in found] and all(finding.remedy for finding in found), found
    assert all(word in text for word in words), text


def test_every_check_is_seen_to_find_something() -> None:
    assert {check.name for check in CHECKS} - {"kueue", "references", "hub token", "run"} == {
        spoiled[0] for spoiled in SPOILED
    }


def test_of_several_controllers_the_one_that_minds_the_namespace_counts(server: ApiServer) -> None:
    fit.make_fit(server, load_profile(PROFILE))
    other = fit.deployment(f"{IMAGE}:v3.4.0", args=["--namespaced"])
    fit.put(server, kinds.NAMESPACES, "another", {})
    fit.put(server, kinds.DEPLOYMENTS, "aaa-workflow-controller", other, namespace="another")
    assert [finding.level for finding in ask(server, "argo controller")] == ["ok"]


def test_argo_4_1_under_gvisor_of_ones_own_needs_mount_hints(server: ApiServer) -> None:
    fit.make_fit(server, load_profile(PROFILE))
    found = ask(server, "gvisor", load_profile(PROFILE, "mount_hints=false"))
    assert [finding.level for finding in found] == ["ok", "fail"] and "mount_hints: true" in found[1].remedy
    on_gke = load_profile("gke-h100")
    assert not on_gke.mount_hints and [finding.level for finding in ask(server, "gvisor", on_gke)] == ["ok"]


def test_a_queue_is_looked_for_and_must_be_active(server: ApiServer) -> None:
    queued = load_profile(PROFILE, "pools.train.queue=gpus")
    assert "no LocalQueue gpus" in ask(server, "kueue", queued)[0].found
    status = {"conditions": [{"type": "Active", "status": "False", "message": "its ClusterQueue is stopped"}]}
    body = {"spec": {"clusterQueue": "team"}, "status": status}
    fit.put(server, fit.kind("localqueues"), "gpus", body)
    assert "is stopped" in ask(server, "kueue", queued)[0].found
    fit.edit(server, fit.kind("localqueues"), "gpus", status={})
    assert ask(server, "kueue", queued)[0].level == "ok"


def test_what_a_profile_names_must_be_there(server: ApiServer) -> None:
    fit.make_fit(server, load_profile(PROFILE))
    names = ("images.pull_secrets=[regcred]", "archive_logs=logs", "pools.train.priority_class=high")
    naming = load_profile(PROFILE, *names)
    found = ask(server, "references", naming)[0]
    assert found.level == "fail" and "Secret regcred, ConfigMap logs, PriorityClass high" in found.found
    fit.put(server, kinds.SECRETS, "regcred", {})
    fit.put(server, kinds.CONFIGMAPS, "logs", {})
    fit.put(server, fit.kind("priorityclasses"), "high", {"value": 1})
    assert ask(server, "references", naming)[0].level == "ok"


def test_a_gated_stream_needs_the_hubs_token(server: ApiServer) -> None:
    gated = RunSpec.model_validate({"pretraining": {"source": "bigcode/the-stack"}})
    assert ask(server, "hub token", spec=gated)[0].level == "fail"
    assert ask(server, "hub token", spec=RunSpec())[0].level == "ok"
    fit.put(server, kinds.SECRETS, "leti-hub", {"stringData": {"HF_TOKEN": "x"}})
    assert ask(server, "hub token", spec=gated)[0].level == "ok"


def test_a_run_on_fewer_gpus_fits_smaller_nodes(server: ApiServer) -> None:
    fit.make_fit(server, load_profile(PROFILE))
    small_gpus(server)
    assert "fail" in [finding.level for finding in ask(server, "nodes")]
    assert {finding.level for finding in ask(server, "nodes", spec=RunSpec())} == {"ok"}


def test_a_run_that_the_profile_cannot_do_fails(server: ApiServer) -> None:
    several = RunSpec.model_validate({"train": {"processes": 16}})
    found = ask(server, "run", spec=several)[0]
    assert found.level == "fail" and "train.processes: 16" in found.found
    assert ask(server, "run", spec=RunSpec())[0].level == "ok"
    huge = replace(Subject("s3://unused/here", RunSpec(), 10**12), profile=load_profile(PROFILE))
    assert "scratch_gib" in next(capacity.run(huge)).found


def test_the_role_for_people_allows_what_is_asked_for() -> None:
    rules = yaml.safe_load((ROOT / "manifests" / "base" / "role-user.yaml").read_text())["rules"]
    allowed = {(g, r, v) for one in rules for g in one["apiGroups"] for r in one["resources"] for v in one["verbs"]}
    for group, resource, sub, verbs in access.NEEDED:
        assert {(group, f"{resource}/{sub}" if sub else resource, verb) for verb in verbs} <= allowed


def test_the_settings_that_come_with_leti_pass(server: ApiServer) -> None:
    fit.make_fit(server, load_profile(PROFILE))
    ours = yaml.safe_load((ROOT / "manifests" / "controller" / "workflow-controller-configmap.yaml").read_text())
    fit.edit(server, kinds.CONFIGMAPS, "workflow-controller-configmap", "argo", data=ours["data"])
    assert [finding.level for finding in ask(server, "argo settings")] == ["ok"]


def test_a_plain_pod_trains_without_jobset_and_its_account(server: ApiServer) -> None:
    plain = load_profile(PROFILE, "train_backend=pod")
    fit.make_fit(server, plain)
    fit.remove(server, kinds.CRDS, "jobsets.jobset.x-k8s.io")
    fit.remove(server, kinds.SERVICE_ACCOUNTS, "leti-trainer")
    server.denied.add(("delete", kinds.JOBSETS.title))
    for name in ("jobset", "accounts", "rights", "tokens"):
        assert [finding.level for finding in ask(server, name, plain)] == ["ok"], name


@pytest.mark.parametrize(("text", "value"), [("500m", 0.5), ("2Gi", 2 << 30), ("1k", 1000), ("1e3", 1000), (8, 8)])
def test_quantities_are_read_as_kubernetes_reads_them(text: str | float, value: float) -> None:
    assert capacity.quantity(text) == value


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(command, ["--backend", "argo", "--profile", PROFILE, *arguments])


def test_the_command_ends_with_0_on_a_fit_cluster_and_1_on_another(server: ApiServer, s3_uri: str) -> None:
    fit.make_fit(server, load_profile(PROFILE))
    done = doctor("--store", s3_uri, "--json")
    rows = json.loads(done.stdout)["checks"]
    assert done.exit_code == 0, [row for row in rows if row["level"] != "ok"]
    assert {check.name for check in CHECKS} <= {row["check"] for row in rows}
    fit.remove(server, kinds.SERVICE_ACCOUNTS, "leti-stage")
    done = doctor("--store", s3_uri)
    assert done.exit_code == 1 and "no service account leti-stage" in done.stdout


def test_a_folder_is_no_store_for_pods(server: ApiServer, tmp_path: Path) -> None:
    done = doctor("--store", str(tmp_path / "store"))
    assert done.exit_code == 1 and "which no pod sees" in done.stdout


def test_without_a_cluster_there_is_nothing_to_examine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    done = doctor()
    assert isinstance(done.exception, UsageError) and "kubeconfig" in str(done.exception)
