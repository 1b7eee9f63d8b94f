"""The client against a real HTTP server: what it asks, what it repeats, and what it says when it is refused."""

from __future__ import annotations

import base64
import gzip
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from leti_ctl.backends.argo import state
from leti_ctl.backends.argo.api import ApiError, connect
from leti_ctl.backends.argo.cluster import SUBMISSION, Cluster, is_completed, phase
from stages.contract.errors import RetryableError, UsageError
from tests.kube.api import ApiServer, Fault
from tests.kube.kinds import JOBSETS, PODS, WORKFLOWS

Object = dict[str, Any]


def workflow(name: str = "demo-0", *, token: str = "t", run: str = "demo") -> Object:
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": name, "labels": {"leti.dev/run": run}, "annotations": {SUBMISSION: token}},
        "spec": {"workflowTemplateRef": {"name": "leti-kind"}},
    }


def set_status(server: ApiServer, name: str, **status: Any) -> None:
    def edit(item: Object) -> None:
        item["status"] = {**item.get("status", {}), **status}

    server.objects.change(WORKFLOWS, "leti", name, edit)


def pod(name: str, *, stage: str = "generate", run: str = "demo", part: str = "0-of-4", **status: Any) -> Object:
    labels = {"leti.dev/run": run, "leti.dev/stage": stage, "leti.dev/iteration": "2", "leti.dev/split": "train"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {**labels, "leti.dev/part": part}},
        "spec": {"containers": [{"name": "main", "image": "i"}]},
        "status": status,
    }


def test_a_workflow_is_created_once_and_found(server: ApiServer, cluster: Cluster) -> None:
    made = cluster.create(workflow())
    assert made["metadata"]["uid"]
    assert cluster.find_workflow("demo-0") == made
    assert cluster.find_workflow("demo-1") is None
    assert [one["metadata"]["name"] for one in cluster.workflows("demo")] == ["demo-0"]
    assert cluster.workflows("other") == []
    assert phase(made) == "Pending" and not is_completed(made)


@pytest.mark.parametrize("fault", [Fault("POST", "workflows", 504, carried_out=True), Fault("POST", "workflows", 503)])
def test_a_create_whose_reply_was_lost_makes_one_workflow(server: ApiServer, cluster: Cluster, fault: Fault) -> None:
    server.faults.append(fault)
    made = cluster.create(workflow())
    assert [one["metadata"]["uid"] for one in cluster.workflows("demo")] == [made["metadata"]["uid"]]


def test_a_create_on_a_connection_that_broke_makes_one_workflow(server: ApiServer, cluster: Cluster) -> None:
    server.faults.append(Fault("POST", "workflows", carried_out=True, hang_up=True))
    cluster.create(workflow())
    assert len(cluster.workflows("demo")) == 1


def test_a_name_that_somebody_else_took_is_refused(server: ApiServer, cluster: Cluster) -> None:
    cluster.create(workflow(token="theirs"))
    with pytest.raises(UsageError, match="leti/demo-0 exists already"):
        cluster.create(workflow(token="ours"))


def test_a_dry_run_keeps_nothing_and_typos_are_refused(server: ApiServer, cluster: Cluster) -> None:
    cluster.create(workflow(), dry_run=True)
    assert cluster.workflows() == []
    assert "dryRun=All" in server.requests[-2] and "fieldValidation=Strict" in server.requests[-2]


@pytest.mark.parametrize("code", [429, 500, 503])
def test_an_overloaded_server_is_asked_again(server: ApiServer, cluster: Cluster, code: int) -> None:
    server.faults.append(Fault("GET", "workflows", code, times=2, retry_after=0))
    assert cluster.workflows() == []
    server.faults.append(Fault("GET", "workflows", code, times=9))
    with pytest.raises(RetryableError, match=f"list workflows.argoproj.io: {code}"):
        cluster.workflows()


def test_a_conflict_on_a_patch_is_tried_again(server: ApiServer, cluster: Cluster) -> None:
    cluster.create(workflow())
    server.faults.append(Fault("PATCH", "workflows", 409))
    assert cluster.shut_down("demo-0", "Stop")
    assert server.objects.get(WORKFLOWS, "leti", "demo-0")["spec"]["shutdown"] == "Stop"
    assert not cluster.shut_down("demo-9", "Stop")


def test_long_lists_come_page_by_page(server: ApiServer, cluster: Cluster) -> None:
    for number in range(5):
        server.objects.create(WORKFLOWS, "leti", workflow(f"demo-{number}"))
    path = WORKFLOWS.plural
    found, version = cluster.api.list(f"/apis/argoproj.io/v1alpha1/namespaces/leti/{path}", limit=2)
    assert len(found) == 5 and int(version) > 0
    assert sum("continue=" in request for request in server.requests) == 2


def test_refusals_name_verb_resource_and_remedy(server: ApiServer, cluster: Cluster) -> None:
    server.denied.add(("create", "workflows.argoproj.io"))
    server.faults.append(Fault("POST", "workflows", 403))
    with pytest.raises(ApiError, match=r"you may not create workflows\.argoproj\.io in namespace 'leti'.*leti-user"):
        cluster.create(workflow())


def test_wrong_credentials_are_told(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(server.write_kubeconfig(tmp_path / "other", token="wrong")))
    api, _ = connect()
    with pytest.raises(ApiError, match="does not accept the credentials"):
        Cluster(api, "leti").workflows()


def test_a_missing_kubeconfig_or_context_is_one_line(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"kubeconfig .*nowhere.*set KUBECONFIG"):
        connect("nowhere")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(UsageError, match=r"kubeconfig .*/none: .*set KUBECONFIG"):
        connect()


def test_an_unreachable_server_is_told_with_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ApiServer() as gone:
        monkeypatch.setenv("KUBECONFIG", str(gone.write_kubeconfig(tmp_path / "kubeconfig")))
    api, _ = connect()
    api.pause = 0.001
    with pytest.raises(RetryableError, match=r"cluster http://127.0.0.1:\d+: .*check the network"):
        Cluster(api, "leti").workflows()


def test_a_watch_yields_changes_until_the_workflow_is_completed(server: ApiServer, cluster: Cluster) -> None:
    cluster.create(workflow())
    seen = []
    for found in cluster.watch("demo-0", every=5):
        seen.append(phase(found))
        if len(seen) == 1:
            set_status(server, "demo-0", phase="Running")
        elif seen[-1] == "Running":
            set_status(server, "demo-0", phase="Failed")
    assert (seen[0], seen[-1]) == ("Pending", "Failed") and "Running" in seen


def test_a_watch_goes_on_after_410_and_after_a_cut(server: ApiServer, cluster: Cluster) -> None:
    cluster.create(workflow())
    found = cluster.watch("demo-0", every=1)
    assert phase(next(found)) == "Pending"
    set_status(server, "demo-0", phase="Running")
    server.objects.compact()
    assert phase(next(found)) == "Pending"  # what is known, while the watch starts anew
    assert phase(next(found)) == "Running"
    server.faults.append(Fault("GET", "workflows", hang_up=True))
    set_status(server, "demo-0", phase="Running", progress="1/2")
    threading.Timer(0.2, set_status, (server, "demo-0"), {"phase": "Succeeded"}).start()
    assert [phase(one) for one in found][-1] == "Succeeded"


def test_a_watch_of_a_workflow_that_is_deleted_ends(server: ApiServer, cluster: Cluster) -> None:
    assert list(cluster.watch("demo-0")) == []
    cluster.create(workflow())
    found = cluster.watch("demo-0", every=5)
    next(found)
    server.objects.delete(WORKFLOWS, "leti", "demo-0")
    assert all(phase(one) == "Pending" for one in found)


def test_only_the_runs_jobsets_are_reaped(server: ApiServer, cluster: Cluster) -> None:
    for name, run in (("a-i0", "a"), ("a-i1", "a"), ("b-i0", "b")):
        body = {
            "apiVersion": "jobset.x-k8s.io/v1alpha2",
            "kind": "JobSet",
            "metadata": {"name": name, "labels": {"leti.dev/run": run}},
            "spec": {"replicatedJobs": []},
        }
        server.objects.create(JOBSETS, "leti", body)
    assert cluster.reap("a") == ["a-i0", "a-i1"]
    assert [one["metadata"]["name"] for one in server.objects.list(JOBSETS)] == ["b-i0"]
    assert cluster.reap("a") == []


UNSCHEDULABLE = {
    "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"
}  # fmt: skip


def container(kind: str, **state: Any) -> Object:
    return {"name": "main", "state": {kind: state}}


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"phase": "Pending", "conditions": [UNSCHEDULABLE]}, "Unschedulable: 0/3 nodes are available"),
        (
            {
                "phase": "Pending",
                "containerStatuses": [container("waiting", reason="ErrImagePull", message="no\nsuch")],
            },
            "ErrImagePull: no such",
        ),
        ({"phase": "Pending", "initContainerStatuses": [container("waiting", reason="PodInitializing")]}, ""),
        ({"phase": "Running", "containerStatuses": [container("running")]}, ""),
        ({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}, "Evicted: low on memory"),
        (
            {"phase": "Failed", "containerStatuses": [container("terminated", exitCode=137, reason="OOMKilled")]},
            "main: OOMKilled (exit code 137)",
        ),
    ],
)
def test_why_a_pod_waits_or_failed_is_one_line(status: Object, reason: str) -> None:
    (seen,) = state.sightings([pod("p", **status)])
    assert seen.reason == reason
    assert seen.place == ("generate", 2, "train", "0/4")


NODES = {"n": {"id": "n", "displayName": "execute", "phase": "Failed", "message": "main: Error (exit code 65)"}}


@pytest.mark.parametrize(
    ("status", "found"),
    [
        ({"nodes": NODES}, NODES),
        ({"compressedNodes": base64.b64encode(gzip.compress(json.dumps(NODES).encode())).decode()}, NODES),
        ({"compressedNodes": "KLUv/SQA"}, None),
        ({"offloadNodeStatusVersion": "fnv:1"}, None),
        ({}, {}),
    ],
)
def test_nodes_are_read_however_they_are_kept(status: Object, found: Object | None) -> None:
    assert state.nodes({"status": status}) == found


def test_failures_come_from_nodes_and_else_from_the_workflow() -> None:
    assert state.failures({"status": {"nodes": NODES, "message": "m"}}) == ["execute: main: Error (exit code 65)"]
    assert state.failures({"status": {"offloadNodeStatusVersion": "x", "message": "m"}}) == ["m"]


def test_a_log_is_read_as_lines_of_text_and_followed(server: ApiServer, cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes("2026-01-01T00:00:00.0Z stdout F h\u00e9\n2026-01-01T00:00:00.0Z stdout F two\n".encode())
    server.logs = lambda pod, container: path
    server.objects.create(PODS, "leti", pod("p"))
    with pytest.raises(ApiError) as waiting:
        list(cluster.log("p", "main"))
    assert waiting.value.code == 400

    def run(item: Object) -> None:
        item["status"] = {"phase": "Running", "containerStatuses": [{"name": "main", "state": {"running": {}}}]}

    server.objects.change(PODS, "leti", "p", run, subresource="status")
    assert [line.decode() for line in cluster.log("p", "main")] == ["h\u00e9", "two"]
    threading.Timer(0.2, server.objects.delete, (PODS, "leti", "p"), {"grace": 0}).start()
    assert [line.decode() for line in cluster.log("p", "main", follow=True)] == ["h\u00e9", "two"]
