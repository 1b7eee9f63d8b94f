"""The fake API server as real clients see it: the Kubernetes client here, kubectl in test_kubectl."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.kube.api import TOKEN, ApiServer, Fault
from tests.kube.kinds import CONFIGMAPS, JOBSETS, PODS, WORKFLOWS
from tests.kube.strict import SCHEMAS

GROUP = ("argoproj.io", "v1alpha1", "leti", "workflows")
WORKFLOW_PATH = "/apis/argoproj.io/v1alpha1/namespaces/leti/workflows"


def workflow(name: str = "w", **labels: str) -> dict[str, Any]:
    spec = {"entrypoint": "a", "templates": [{"name": "a", "container": {"image": "i", "command": ["true"]}}]}
    meta = {"name": name, "labels": labels} if name else {"generateName": "g-", "labels": labels}
    return {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": meta, "spec": spec}


def call(api: ApiServer, method: str, path: str, body: Any = None, kind: str = "application/json") -> tuple[int, Any]:
    request = urllib.request.Request(
        api.url + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": kind},
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_the_real_client_creates_reads_patches_and_deletes(client: Any) -> None:
    from kubernetes.client import ApiException, CustomObjectsApi

    custom = CustomObjectsApi(client)
    made = custom.create_namespaced_custom_object(*GROUP, workflow(run="r1"))
    assert made["metadata"]["uid"] and made["metadata"]["generation"] == 1
    with pytest.raises(ApiException, match="AlreadyExists"):
        custom.create_namespaced_custom_object(*GROUP, workflow())
    patched = custom.patch_namespaced_custom_object(*GROUP, "w", {"spec": {"shutdown": "Stop", "entrypoint": None}})
    assert patched["spec"] == {"shutdown": "Stop", "templates": made["spec"]["templates"]}
    assert patched["metadata"]["generation"] == 2
    custom.delete_namespaced_custom_object(*GROUP, "w")
    with pytest.raises(ApiException, match="404"):
        custom.get_namespaced_custom_object(*GROUP, "w")


def test_names_are_generated_selectors_select_and_pages_follow_each_other(api: ApiServer) -> None:
    for number in range(5):
        code, made = call(api, "POST", WORKFLOW_PATH, workflow("", run=f"r{number % 2}"))
        assert code == 201 and made["metadata"]["name"].startswith("g-")
    assert len(call(api, "GET", f"{WORKFLOW_PATH}?labelSelector=run%3Dr0")[1]["items"]) == 3
    assert len(call(api, "GET", f"{WORKFLOW_PATH}?labelSelector=run+notin+(r0),run")[1]["items"]) == 2
    seen, token = [], ""
    while True:
        _, page = call(api, "GET", f"{WORKFLOW_PATH}?limit=2{token}")
        seen += [item["metadata"]["name"] for item in page["items"]]
        if "continue" not in page["metadata"]:
            break
        token = f"&continue={page['metadata']['continue'].replace('=', '%3D')}"
    assert len(set(seen)) == 5
    assert call(api, "GET", f"{WORKFLOW_PATH}?fieldSelector=status.phase%3DRunning")[0] == 400


def test_stale_writes_are_refused_and_status_is_no_subresource_of_workflows(api: ApiServer) -> None:
    _, made = call(api, "POST", WORKFLOW_PATH, workflow())
    call(api, "PATCH", f"{WORKFLOW_PATH}/w", {"spec": {"suspend": True}}, "application/merge-patch+json")
    code, said = call(api, "PUT", f"{WORKFLOW_PATH}/w", made)
    assert (code, said["reason"]) == (409, "Conflict")
    assert call(api, "PATCH", f"{WORKFLOW_PATH}/w/status", {}, "application/merge-patch+json")[0] == 404
    assert call(api, "PATCH", f"{WORKFLOW_PATH}/w", {}, "application/strategic-merge-patch+json")[0] == 415
    steps = [{"op": "test", "path": "/spec/suspend", "value": True}, {"op": "remove", "path": "/spec/suspend"}]
    code, after = call(api, "PATCH", f"{WORKFLOW_PATH}/w", steps, "application/json-patch+json")
    assert code == 200 and "suspend" not in after["spec"]


def test_a_dry_run_keeps_nothing_and_strict_validation_names_the_field(api: ApiServer) -> None:
    code, _ = call(api, "POST", f"{WORKFLOW_PATH}?dryRun=All", workflow())
    assert code == 201 and api.objects.find(WORKFLOWS, "leti", "w") is None
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "imag": "i"}]},
    }
    code, said = call(api, "POST", "/api/v1/namespaces/leti/pods?fieldValidation=Strict", pod)
    assert code == 400 and 'unknown field "spec.containers[0].imag"' in said["message"]
    if not SCHEMAS.is_dir():
        pytest.skip("the strict schemas of Argo are not beside this checkout")
    wrong = workflow()
    wrong["spec"]["templates"][0]["retryStrategi"] = {}
    code, said = call(api, "POST", f"{WORKFLOW_PATH}?fieldValidation=Strict", wrong)
    assert code == 400 and "retryStrategi" in said["message"]


def test_what_an_owner_owns_goes_with_it(api: ApiServer) -> None:
    owner = api.objects.create(WORKFLOWS, "leti", workflow())
    reference = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "w", "uid": owner["metadata"]["uid"]}
    api.objects.create(JOBSETS, "leti", {"metadata": {"name": "j", "ownerReferences": [reference]}, "spec": {}})
    assert call(api, "DELETE", f"{WORKFLOW_PATH}/w")[0] == 200
    assert api.objects.list(JOBSETS) == []


def watch(client: Any, **options: Any) -> list[tuple[str, str]]:
    from kubernetes.client import CustomObjectsApi
    from kubernetes.watch import Watch

    listed = CustomObjectsApi(client).list_namespaced_custom_object
    events = Watch().stream(listed, *GROUP, **options)
    return [(event["type"], event["object"]["metadata"]["name"]) for event in events]


def test_a_watch_replays_what_came_after_its_version_and_ends_in_time(api: ApiServer, client: Any) -> None:
    first = api.objects.create(WORKFLOWS, "leti", workflow("a", run="x"))["metadata"]["resourceVersion"]
    api.objects.create(WORKFLOWS, "leti", workflow("b", run="x"))
    api.objects.create(WORKFLOWS, "leti", workflow("c", run="y"))
    api.objects.change(WORKFLOWS, "leti", "a", lambda item: item["metadata"]["labels"].update(run="y"))
    assert watch(client, resource_version=first, label_selector="run=x", timeout_seconds=1) == [
        ("ADDED", "b"),
        ("DELETED", "a"),
    ]


def test_a_watch_from_a_forgotten_version_is_gone(api: ApiServer, client: Any) -> None:
    from kubernetes.client import ApiException

    old = api.objects.create(WORKFLOWS, "leti", workflow("a"))["metadata"]["resourceVersion"]
    api.objects.create(WORKFLOWS, "leti", workflow("b"))
    api.objects.compact()
    with pytest.raises(ApiException, match="too old resource version"):
        watch(client, resource_version=old, timeout_seconds=1)


def test_faults_refuse_lose_or_cut(api: ApiServer) -> None:
    api.faults += [Fault("POST", "/workflows", code=429, retry_after=3), Fault("POST", "/workflows", carried_out=True)]
    assert call(api, "POST", WORKFLOW_PATH, workflow())[0] == 429
    assert api.objects.find(WORKFLOWS, "leti", "w") is None
    assert call(api, "POST", WORKFLOW_PATH, workflow())[0] == 500
    assert api.objects.find(WORKFLOWS, "leti", "w") is not None
    assert call(api, "POST", WORKFLOW_PATH, workflow())[0] == 409


def test_access_is_reviewed_and_refused_by_the_same_list(api: ApiServer) -> None:
    api.denied.add(("create", "workflows.argoproj.io"))
    asked = {"verb": "create", "resource": "workflows", "group": "argoproj.io", "namespace": "leti"}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert call(api, "POST", path, review)[1]["status"]["allowed"] is False
    assert call(api, "POST", WORKFLOW_PATH, workflow())[0] == 403
    asked["verb"] = "get"
    assert call(api, "POST", path, review)[1]["status"]["allowed"] is True


def make_pod(api: ApiServer, folder: Path, state: dict[str, Any]) -> Path:
    containers = [{"name": name, "image": "i"} for name in ("wait", "main")]
    api.objects.create(
        PODS, "leti", {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers}}
    )
    status = {"phase": "Running", "containerStatuses": [{"name": "main", "state": state}]}
    api.objects.change(PODS, "leti", "p", lambda pod: {**pod, "status": status}, subresource="status")
    log = folder / "main.log"
    log.write_text("2026-01-01T00:00:00.000000000Z stdout F one\n2026-01-01T00:00:01.000000000Z stdout F two\n")
    api.logs = lambda pod, container: log
    return log


def test_logs_follow_until_the_container_ends(api: ApiServer, client: Any, tmp_path: Path) -> None:
    from kubernetes.client import ApiException, CoreV1Api

    log = make_pod(api, tmp_path, {"running": {}})
    core = CoreV1Api(client)
    with pytest.raises(ApiException, match=r"choose one of: \[wait main\]"):
        core.read_namespaced_pod_log("p", "leti")
    tail = core.read_namespaced_pod_log("p", "leti", container="main", tail_lines=1, _preload_content=False)
    assert tail.read() == b"two\n"

    def finish() -> None:
        time.sleep(0.2)
        with open(log, "a") as file:
            file.write("2026-01-01T00:00:02.000000000Z stdout F three\n")
        done = {"name": "main", "state": {"terminated": {"exitCode": 0}}}
        api.objects.change(
            PODS, "leti", "p", lambda p: p["status"].update(containerStatuses=[done]), subresource="status"
        )

    writer = threading.Thread(target=finish)
    writer.start()
    followed = core.read_namespaced_pod_log("p", "leti", container="main", follow=True, _preload_content=False)
    assert followed.read() == b"one\ntwo\nthree\n"
    writer.join()


def test_a_container_that_waits_has_no_log(api: ApiServer, client: Any, tmp_path: Path) -> None:
    from kubernetes.client import ApiException, CoreV1Api

    make_pod(api, tmp_path, {"waiting": {"reason": "ContainerCreating"}})
    with pytest.raises(ApiException, match="is waiting to start: ContainerCreating"):
        CoreV1Api(client).read_namespaced_pod_log("p", "leti", container="main")


def test_a_wrong_token_is_unauthorized(api: ApiServer) -> None:
    request = urllib.request.Request(api.url + WORKFLOW_PATH, headers={"Authorization": "Bearer other"})
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        urllib.request.urlopen(request, timeout=120)
    refused.value.close()


def test_applying_drops_what_is_no_longer_wanted(api: ApiServer) -> None:
    path = "/api/v1/namespaces/leti/configmaps/c?fieldManager=me"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1", "b": "2"}}
    assert call(api, "PATCH", path, body, "application/apply-patch+yaml")[0] == 201
    api.objects.change(CONFIGMAPS, "leti", "c", lambda item: item["data"].update(other="kept"))
    body["data"] = {"a": "3"}
    code, after = call(api, "PATCH", path, body, "application/apply-patch+yaml")
    assert code == 200 and after["data"] == {"a": "3", "other": "kept"}
