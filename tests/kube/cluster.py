"""A whole fake cluster: API server, Argo's and JobSet's controllers, a kubelet. One context manager."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from tests.kube.api import ApiServer
from tests.kube.controller import WorkflowController
from tests.kube.jobset import JobSetController
from tests.kube.kinds import CONFIGMAPS, PODS, SECRETS, WORKFLOWS
from tests.kube.kubelet import Kubelet
from tests.kube.nodes import Nodes
from tests.kube.objects import Object
from tests.kube.refusals import Refused
from tests.kube.workflow import Settings


class FakeCluster:
    """`with FakeCluster(folder) as cluster:`; leaving it fails the test when a part of the fake broke."""

    def __init__(self, folder: Path, settings: Settings | None = None) -> None:
        self.folder = folder
        self.api = ApiServer()
        self.objects = self.api.objects
        self.settings = settings or Settings()

    def __enter__(self) -> FakeCluster:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._parts = contextlib.ExitStack()
        self._parts.enter_context(self.api)
        self.api.install_argo()
        self.kubeconfig = self.api.write_kubeconfig(self.folder / "kubeconfig")
        kubelet = Kubelet(self.objects, self.folder / "pods", kubeconfig=self.kubeconfig)
        self.kubelet = self._parts.enter_context(kubelet)
        self.api.logs = self.kubelet.log_path
        self.jobsets = self._parts.enter_context(JobSetController(self.objects, self.kubelet))
        self.controller = WorkflowController(self.objects, self.settings).__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.controller.__exit__(None, None, None)
        self._parts.close()
        faults = [*self.controller.faults, *self.jobsets.faults, *self.kubelet.faults]
        assert error is not None or not faults, "\n".join(faults)

    def restart_controller(self) -> None:
        """Kill Argo's controller and start another, which knows only what the API server does."""
        self.controller.__exit__(None, None, None)
        self.controller = WorkflowController(self.objects, Settings(self.settings.pace, self.settings.compressed))
        self.controller.__enter__()

    def kubectl(self, *arguments: str, text: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the real kubectl against this cluster; skips the test where there is none."""
        program = shutil.which("kubectl")
        if program is None:
            pytest.skip("kubectl is not installed")
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self.folder)}
        done = subprocess.run(
            [program, *arguments], env=environment, input=text, capture_output=True, text=True, timeout=200, check=False
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def put_secret(self, name: str, **values: str) -> None:
        """Create a Secret in the namespace `leti`, in the place of one that is there."""
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        with contextlib.suppress(Refused):
            self.objects.delete(SECRETS, "leti", name)
        self.objects.create(
            SECRETS, "leti", {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}
        )

    def put_settings(self, name: str, **values: str) -> None:
        """Create or fill a ConfigMap in the namespace `leti`."""
        with contextlib.suppress(Refused):
            self.objects.delete(CONFIGMAPS, "leti", name)
        self.objects.create(
            CONFIGMAPS, "leti", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": values}
        )

    def workflows(self) -> list[Object]:
        """Return the Workflows of the namespace `leti`."""
        return self.objects.list(WORKFLOWS, "leti")

    def pods(self, phase: str = "Running", **labels: str) -> list[str]:
        """Return the names of pods in a phase, by `leti.dev/` labels."""
        selector = ",".join(f"leti.dev/{key}={value}" for key, value in labels.items())
        found = self.objects.list(PODS, "leti", labels=selector)
        return [pod["metadata"]["name"] for pod in found if pod["status"]["phase"] == phase]

    def wait(self, condition: Callable[[], Any], what: str, *, timeout: float = 200) -> Any:
        """Return the first true value of `condition`; fails saying `what` was waited for."""
        ends = time.monotonic() + timeout
        while time.monotonic() < ends:
            if value := condition():
                return value
            assert not self.controller.faults, self.controller.faults[0]
            errors = [one for one in self.workflows() if one.get("status", {}).get("phase") == "Error"]
            assert not errors, f"{what} will not happen; {self.summary()}"
            time.sleep(0.05)
        raise AssertionError(f"{what} did not happen within {timeout:.0f} s; {self.summary()}")

    def summary(self) -> str:
        """Return what a person needs to see why nothing goes on: workflows, and the nodes that are not well."""
        lines = []
        for workflow in self.workflows():
            status = workflow.get("status", {})
            lines.append(f"{workflow['metadata']['name']}: {status.get('phase')} {status.get('message', '')}")
            for node in Nodes(workflow).by_id.values():
                if node["phase"] not in ("Succeeded", "Skipped", "Omitted") and node["type"] in ("Pod", "Retry"):
                    lines.append(f"  {node['name']}: {node['phase']} {node.get('message', '')}")
        return "\n".join(lines[-40:])
