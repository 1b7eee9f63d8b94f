"""A cluster's disasters on small pods: what Argo reports of each, and that what is retried goes on."""

from __future__ import annotations

import base64
import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kube.cluster import FakeCluster
from tests.kube.kinds import JOBSETS, PODS, SECRETS, SERVICE_ACCOUNTS, WORKFLOWS
from tests.kube.nodes import Nodes
from tests.kube.objects import Object
from tests.kube.workflow import Settings

pytestmark = pytest.mark.slow
SPEC = """
entrypoint: p
serviceAccountName: leti-stage
automountServiceAccountToken: false
executor: {serviceAccountName: leti-executor}
templates:
- name: p
  retryStrategy:
    limit: "3"
    retryPolicy: Always
    backoff: {duration: 1s, factor: "2", cap: 1m}
    expression: >-
      lastRetry.status == 'Error' || asInt(lastRetry.exitCode) in [75, 137, 143]
      || lastRetry.message matches '(?i)(node shutdown|node was low on)'
  podSpecPatch: |
    containers: [{name: main, resources: {limits: {memory: "{{= asInt(retries) == 0 ? '1Gi' : '2Gi'}}"}}}]
  outputs: {parameters: [{name: said, valueFrom: {path: /out/said}}]}
  container:
    image: leti:1
    command: [python, -c]
    args:
    - |
      import os, sys, time
      print('hello', flush=True)
      time.sleep(float(os.environ['SLEEP']))
      open(os.environ['OUT'] + '/said', 'w').write(os.environ['SLEEP'])
      sys.exit(int(os.environ['CODE']))
    env: [{name: OUT, value: /out}]
    envFrom: [{configMapRef: {name: knobs}}]
    volumeMounts: [{name: out, mountPath: /out}]
  volumes: [{name: out, emptyDir: {}}]
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[FakeCluster]:
    with FakeCluster(tmp_path / "cluster", Settings(pace=0.01)) as made:
        for name in ("leti-stage", "leti-executor", "leti-trainer"):
            made.objects.create(SERVICE_ACCOUNTS, "leti", {"metadata": {"name": name}})
            made.put_secret(f"{name}.service-account-token", token="t")
        made.put_settings("knobs", SLEEP="60", CODE="0")
        yield made


def submit(cluster: FakeCluster, spec: str = SPEC, name: str = "w") -> None:
    body = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": name}}
    cluster.objects.create(WORKFLOWS, "leti", {**body, "spec": yaml.safe_load(spec)})


def node(cluster: FakeCluster, name: str) -> Object:
    return Nodes(cluster.objects.get(WORKFLOWS, "leti", "w")).find(name) or {}


def wait_for_pod(cluster: FakeCluster) -> list[str]:
    """Wait until the controller knows that `w(0)` runs: a pod that goes while its node is Pending is made anew."""
    cluster.wait(lambda: node(cluster, "w(0)").get("phase") == "Running", "a running node")
    return cluster.pods()


def end(cluster: FakeCluster) -> Object:
    def is_over() -> Any:
        status = cluster.objects.get(WORKFLOWS, "leti", "w").get("status", {})
        return status if status.get("finishedAt") else None

    return dict(cluster.wait(is_over, "the end"))


@pytest.mark.parametrize(
    ("fate", "phase", "message"),
    [
        ("deleted", "Failed", "main: Error (exit code 143)"),
        ("lost", "Error", "pod deleted"),
        ("oom", "Failed", "main: OOMKilled (exit code 137)"),
        ("shutdown", "Failed", "Pod was terminated in response to imminent node shutdown."),
        ("evicted", "Failed", "The node was low on resource: memory. Threshold quantity: 100Mi."),
    ],
)
def test_a_pod_that_a_cluster_takes_away_is_started_again(
    cluster: FakeCluster, fate: str, phase: str, message: str
) -> None:
    submit(cluster)
    (pod,) = wait_for_pod(cluster)
    cluster.put_settings("knobs", SLEEP="0", CODE="0")
    cluster.kubelet.disrupt(pod, fate)
    assert end(cluster)["phase"] == "Succeeded"
    first = node(cluster, "w(0)")
    # A deleted pod may be seen ended, or only gone.
    assert (first["phase"], first["message"]) in [(phase, message), ("Error", "pod deleted")]
    assert node(cluster, "w")["outputs"]["parameters"] == [{"name": "said", "value": "0"}]
    second = cluster.objects.get(
        PODS, "leti", Nodes(cluster.objects.get(WORKFLOWS, "leti", "w")).pod_name(node(cluster, "w(1)"))
    )
    assert (
        next(c for c in second["spec"]["containers"] if c["name"] == "main")["resources"]["limits"]["memory"] == "2Gi"
    )


@pytest.mark.parametrize(("code", "attempts"), [("1", 1), ("75", 4)])
def test_exit_codes_decide_whether_to_try_again(cluster: FakeCluster, code: str, attempts: int) -> None:
    cluster.put_settings("knobs", SLEEP="0", CODE=code)
    submit(cluster)
    assert end(cluster)["phase"] == "Failed"
    assert len(node(cluster, "w")["children"]) == attempts
    assert node(cluster, "w(0)")["message"] == f"main: Error (exit code {code})"


def test_an_image_that_cannot_be_pulled_leaves_the_node_pending_with_the_reason(cluster: FakeCluster) -> None:
    cluster.kubelet.broken_images.add("leti")
    cluster.put_settings("knobs", SLEEP="0", CODE="0")
    submit(cluster)
    cluster.wait(lambda: "ImagePullBackOff" in node(cluster, "w(0)").get("message", ""), "the reason")
    assert node(cluster, "w(0)")["phase"] == "Pending"
    cluster.kubelet.broken_images.clear()
    assert end(cluster)["phase"] == "Succeeded"


def test_a_restarted_controller_goes_on_where_the_other_was(cluster: FakeCluster) -> None:
    cluster.put_settings("knobs", SLEEP="3", CODE="0")
    submit(cluster)
    wait_for_pod(cluster)
    cluster.restart_controller()
    assert end(cluster)["phase"] == "Succeeded"
    assert len(cluster.objects.list(PODS)) == 1


def test_without_the_executors_token_no_pod_starts(cluster: FakeCluster) -> None:
    cluster.objects.delete(SECRETS, "leti", "leti-executor.service-account-token")
    submit(cluster)
    status = end(cluster)
    assert status["phase"] == "Error" and 'secrets "leti-executor.service-account-token" not found' in status["message"]


def test_nodes_are_compressed_as_for_large_workflows(cluster: FakeCluster) -> None:
    cluster.settings.compressed = True
    cluster.put_settings("knobs", SLEEP="0", CODE="0")
    submit(cluster)
    status = end(cluster)
    assert "nodes" not in status and node(cluster, "w")["phase"] == "Succeeded"
    assert gzip.decompress(base64.b64decode(status["compressedNodes"])).startswith(b'{"w"')


def test_a_mutex_holds_the_second_workflow_back(cluster: FakeCluster) -> None:
    held = SPEC + "synchronization: {mutexes: [{name: one}]}\n"
    submit(cluster, held)
    (pod,) = wait_for_pod(cluster)
    submit(cluster, held, name="second")

    def second() -> Any:
        return cluster.objects.get(WORKFLOWS, "leti", "second").get("status", {})

    cluster.wait(lambda: second().get("phase") == "Pending", "waiting")
    assert "leti/Mutex/one" in second()["message"]
    cluster.put_settings("knobs", SLEEP="0", CODE="0")
    cluster.kubelet.disrupt(pod, "deleted")
    cluster.wait(lambda: second().get("phase") == "Succeeded", "its turn")


def test_a_pod_that_fits_no_node_says_so(cluster: FakeCluster) -> None:
    submit(cluster, SPEC.replace("  volumes:", "  nodeSelector: {gpu: l4}\n  volumes:"))
    cluster.wait(lambda: "Unschedulable" in node(cluster, "w(0)").get("message", ""), "the reason")
    taint = {"key": "gpu", "value": "present", "effect": "NoSchedule"}
    cluster.kubelet.add_node("gpu-0", labels={"gpu": "l4"}, taints=[taint])
    time.sleep(0.2)
    assert cluster.pods() == []
    cluster.put_settings("knobs", SLEEP="0", CODE="0")
    cluster.kubelet.add_node("gpu-1", labels={"gpu": "l4"})
    assert end(cluster)["phase"] == "Succeeded"


def jobset(command: str) -> str:
    rank = {"fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}
    pod = {
        "restartPolicy": "Never",
        "containers": [{
            "name": "main", "image": "leti:1", "command": ["python", "-c", command],
            "env": [{"name": "RANK", "valueFrom": rank},
                    {"name": "MEET", "value": "js-node-0-0.js:29500"}],
        }],
    }  # fmt: skip
    rules = [
        {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [78]}},
    ]
    job = {
        "parallelism": 2,
        "completions": 2,
        "backoffLimit": 0,
        "podFailurePolicy": {"rules": rules},
        "template": {"spec": pod},
    }
    reason = {"onJobFailureReasons": ["PodFailurePolicy"]}
    policy = [
        {"name": "disrupted", "action": "RestartJobSetAndIgnoreMaxRestarts", **reason,
         "onJobFailureMessagePatterns": [".*DisruptionTarget.*"]},
        {"name": "final", "action": "FailJobSet", **reason},
    ]  # fmt: skip
    manifest = {
        "apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": {"name": "js", "namespace": "leti"},
        "spec": {"failurePolicy": {"maxRestarts": 0, "restartStrategy": "BlockingRecreate", "rules": policy},
                 "replicatedJobs": [{"name": "node", "replicas": 1, "template": {"spec": job}}]},
    }  # fmt: skip
    resource = {
        "action": "apply", "setOwnerReference": True, "manifest": json.dumps(manifest),
        "successCondition": "status.terminalState == Completed", "failureCondition": "status.terminalState == Failed",
    }  # fmt: skip
    template = {
        "name": "t",
        "serviceAccountName": "leti-trainer",
        "executor": {"serviceAccountName": "leti-trainer"},
        "resource": resource,
    }
    template["retryStrategy"] = {"limit": "3", "retryPolicy": "OnError", "backoff": {"duration": "1s"}}
    return yaml.safe_dump({"entrypoint": "t", "automountServiceAccountToken": False, "templates": [template]})


MEET = """
import os, socket, time
host, port = os.environ['MEET'].split(':')
if os.environ['RANK'] == '0':
    with socket.create_server((host, int(port))) as server:
        server.accept()[0].close()
else:
    while True:
        try:
            socket.create_connection((host, int(port))).close()
            break
        except OSError:
            time.sleep(0.05)
"""


def test_a_jobset_meets_and_completes_and_its_watcher_sees_it(cluster: FakeCluster) -> None:
    submit(cluster, jobset(MEET))
    assert end(cluster)["phase"] == "Succeeded", cluster.summary()
    js = cluster.objects.get(JOBSETS, "leti", "js")
    assert js["status"]["terminalState"] == "Completed"
    assert js["metadata"]["ownerReferences"][0]["name"] == "w"


def test_a_disrupted_jobset_restarts_whole_and_a_lost_watcher_comes_back(cluster: FakeCluster) -> None:
    submit(cluster, jobset("import time; time.sleep(60)"))

    def running() -> list[str]:
        return [pod for pod in cluster.pods() if pod.startswith("js-")]

    cluster.wait(lambda: len(running()) == 2, "two pods")
    cluster.kubelet.disrupt(running()[0], "shutdown")
    cluster.wait(lambda: sorted(running()) == ["js-node-0-0-00001", "js-node-0-1-00001"], "the restart")
    cluster.wait(lambda: node(cluster, "w(0)").get("phase") == "Running", "the watcher's node")
    (watcher,) = [pod for pod in cluster.pods() if pod.startswith("w")]
    cluster.kubelet.disrupt(watcher, "lost")
    cluster.wait(lambda: node(cluster, "w(1)").get("phase") == "Running", "another watcher")
    assert cluster.objects.get(JOBSETS, "leti", "js")["status"]["restarts"] == 1
    cluster.objects.delete(WORKFLOWS, "leti", "w")
    cluster.wait(lambda: not cluster.objects.list(JOBSETS) and not cluster.pods(), "that all is gone")


def test_a_jobset_whose_spec_is_wrong_fails_for_good(cluster: FakeCluster) -> None:
    submit(cluster, jobset("import sys; sys.exit(78)"))
    assert end(cluster)["phase"] == "Failed"
    assert cluster.objects.get(JOBSETS, "leti", "js")["status"]["restarts"] == 0
    assert node(cluster, "w")["message"] == "main: Error (exit code 1)"
