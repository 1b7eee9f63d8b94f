"""The real kubectl against the fake cluster: what an operator types, and what the manifests' users run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.kube.cluster import FakeCluster
from tests.kube.kinds import PODS, SECRETS, TEMPLATES, WORKFLOWS

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")]
OVERLAYS = sorted(path.parent.name for path in (ROOT / "manifests" / "overlays").glob("*/kustomization.yaml"))
WORKFLOW = """
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: hello, namespace: leti}
spec:
  entrypoint: a
  templates:
  - {name: a, container: {image: leti:1, command: [python, -c, "print('hello')"]}}
"""


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_overlay_is_accepted_twice(overlay: str, tmp_path: Path) -> None:
    with FakeCluster(tmp_path) as cluster:
        folder = str(ROOT / "manifests" / "overlays" / overlay)
        cluster.kubectl("apply", "-k", folder)
        again = cluster.kubectl("apply", "-k", folder).stdout.splitlines()
        # kubectl cannot know that a Secret's plain `stringData` is what `data` already holds.
        changed = [line for line in again if not line.endswith("unchanged") and not line.startswith("secret/")]
        assert again and changed == []
        assert cluster.objects.find(SECRETS, "leti", "leti-executor.service-account-token") is not None


def test_a_rendered_template_is_applied_by_the_server_and_updated(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "leti_ctl", "render", "--profile", "kind"]
    text = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    with FakeCluster(tmp_path) as cluster:
        cluster.kubectl("apply", "--server-side", "-n", "leti", "-f", "-", text=text)
        made = cluster.objects.get(TEMPLATES, "leti", "leti-kind")
        body = yaml.safe_load(text)
        assert made["spec"] == body["spec"]
        del body["spec"]["parallelism"]
        cluster.kubectl("apply", "--server-side", "-n", "leti", "-f", "-", text=yaml.safe_dump(body))
        assert "parallelism" not in cluster.objects.get(TEMPLATES, "leti", "leti-kind")["spec"]


def test_workflows_are_made_watched_stopped_and_deleted(tmp_path: Path) -> None:
    with FakeCluster(tmp_path) as cluster:
        cluster.kubectl("create", "-f", "-", text=WORKFLOW)
        cluster.kubectl("wait", "wf/hello", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s")
        (pod,) = cluster.pods("Succeeded")
        assert cluster.kubectl("logs", pod).stdout == "hello\n"
        sleeping = WORKFLOW.replace("hello}", "sleeps}").replace("name: hello", "name: sleeps").replace(
            "print('hello')", "import time; time.sleep(60)"
        )  # fmt: skip
        cluster.kubectl("create", "-f", "-", text=sleeping)
        (pod,) = cluster.wait(cluster.pods, "a running pod")
        cluster.kubectl("patch", "wf", "sleeps", "--type=merge", "-p", json.dumps({"spec": {"shutdown": "Terminate"}}))
        cluster.wait(lambda: cluster.objects.get(WORKFLOWS, "leti", "sleeps")["status"]["phase"] == "Failed", "its end")
        cluster.kubectl("delete", "wf", "--all", "--timeout=120s")
        cluster.wait(lambda: not cluster.objects.list(PODS), "that all is gone")


def test_what_kubectl_would_prune_silently_is_refused(tmp_path: Path) -> None:
    with FakeCluster(tmp_path) as cluster:
        wrong = cluster.kubectl("create", "-f", "-", text=WORKFLOW.replace("entrypoint", "entripoint"), check=False)
        if wrong.returncode == 0:
            pytest.skip("the strict schemas of Argo are not beside this checkout")
        assert "entripoint" in wrong.stderr
