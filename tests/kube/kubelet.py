"""A scheduler and a kubelet: pods get a node, and their main container's real command becomes a process here.

What of a container is real: the command, its arguments, the environment (from the manifest, ConfigMaps, Secrets and
nothing else but `IMAGE`), exit codes, signals, grace periods, deadlines, logs, output files. What is not: the image
(this checkout stands in), users and the root file system. A volume is a folder of the pod; a path at or below a
mount is rewritten to it where it is a whole argument, a whole value of a variable, or follows `=` in an argument.
The address of a JobSet's first pod becomes a loopback port.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.kube import scheduling, volumes
from tests.kube.executor import report
from tests.kube.kinds import NODES, PODS
from tests.kube.logs import record
from tests.kube.objects import Object, Objects, now
from tests.kube.refusals import Refused

ROOT = Path(__file__).parents[2]
IMAGE = {
    "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
    "PYTHONPATH": str(ROOT),
    "PYTHONUNBUFFERED": "1",
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "no_proxy": "127.0.0.1,localhost",
}
"""What an image brings along: the environment of its Dockerfile."""
POLL_SECONDS = 0.05


@dataclass
class Running:
    """A pod on this kubelet."""

    pod: Object
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    fate: str = ""
    """What a test ordered: `oom`, `evicted`, `shutdown`, `lost`; the kubelet's own are `deleted` and `deadline`."""
    started: float = field(default_factory=time.monotonic)


class Kubelet:
    """A context manager; runs the pods of every node of the fake cluster."""

    def __init__(self, objects: Objects, folder: Path, *, kubeconfig: Path | None = None) -> None:
        self.objects, self.folder, self.kubeconfig = objects, folder, kubeconfig
        self.running: dict[str, Running] = {}
        self.broken_images: set[str] = set()
        """Images that cannot be pulled (a substring of their names)."""
        self.doubled: set[str] = set()
        """Pods (a substring of their names) whose command runs twice, as after a network partition; each once."""
        self.hosts: dict[str, int] = {}
        self.faults: list[str] = []
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Kubelet:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.add_node("node-0")
        self._spawn(self._work)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for one in list(self.running.values()):
            for process in one.processes:
                _signal(process, signal.SIGKILL)
        for thread in self._threads:
            thread.join(10)

    def add_node(self, name: str, *, labels: dict[str, str] | None = None, **spec: Any) -> None:
        """Add a node; `allocatable` and `taints` as in a Node object."""
        allocatable = {"cpu": "64", "memory": "256Gi", "pods": "110", **spec.pop("allocatable", {})}
        self.objects.create(NODES, "", {
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
            "spec": spec,
        })  # fmt: skip
        status = {
            "allocatable": allocatable,
            "capacity": allocatable,
            "conditions": [{"type": "Ready", "status": "True"}],
        }
        self.objects.change(NODES, "", name, lambda node: {**node, "status": status}, subresource="status")

    def log_path(self, pod: Object, container: str) -> Path:
        """Return where a container logs."""
        return self.folder / str(pod["metadata"]["uid"]) / f"{container}.log"

    def disrupt(self, pod: str, fate: str) -> None:
        """End a running pod as a cluster does: `oom`, `evicted`, `shutdown`, `lost`; `deleted` is a plain deletion."""
        found = next(one for one in self.running.values() if one.pod["metadata"]["name"] == pod)
        if fate == "deleted":
            self.objects.delete(PODS, found.pod["metadata"]["namespace"], pod)
            return
        found.fate = fate
        for process in found.processes:
            _signal(process, signal.SIGTERM if fate in ("evicted", "shutdown") else signal.SIGKILL)

    def _spawn(self, work: Callable[..., None], *arguments: Any) -> None:
        def guarded() -> None:
            try:
                work(*arguments)
            except Exception:
                self.faults.append(traceback.format_exc())

        thread = threading.Thread(target=guarded, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while not self._stop.is_set():
            for pod in self.objects.list(PODS):
                uid = pod["metadata"]["uid"]
                if not pod["spec"].get("nodeName"):
                    scheduling.schedule(self.objects, pod)
                elif uid not in self.running and pod["status"]["phase"] == "Pending":
                    self.running[uid] = Running(pod, self.folder / uid)
                    self._spawn(self._run, self.running[uid])
            with self.objects.changed:
                self.objects.changed.wait(POLL_SECONDS)

    def _run(self, one: Running) -> None:
        """Take one pod from Pending to its end."""
        try:
            one.folder.mkdir()
            if self._prepare(one):
                self._execute(one)
        finally:
            for process in one.processes:
                _signal(process, signal.SIGKILL)
                process.wait()
            shutil.rmtree(one.folder / "volumes", ignore_errors=True)
            if self._find(one) is not None and not self._stop.is_set():
                self._settle_deletion(one)

    def _prepare(self, one: Running) -> bool:
        """Pull the image and set up volumes, trying again until it works or the pod is to end."""
        while not self._stop.is_set():
            pod = self._find(one)
            if pod is None or "deletionTimestamp" in pod["metadata"]:
                return False
            if self._is_late(one):
                self._end(one, "Failed", reason="DeadlineExceeded", message=LATE)
                return False
            waiting = self._obstacle(one)
            if waiting is None:
                return True
            state = {"waiting": {"reason": waiting[0], "message": waiting[1]}}
            self._update(one, "Pending", state)
            time.sleep(POLL_SECONDS)
        return False

    def _obstacle(self, one: Running) -> tuple[str, str] | None:
        spec = one.pod["spec"]
        for container in spec["containers"]:
            image = container["image"]
            if any(broken in image for broken in self.broken_images):
                return "ImagePullBackOff", f'Back-off pulling image "{image}"'
            if not re.fullmatch(r"[a-z0-9][\w.\-/:]*(@sha256:[0-9a-f]{64})?", image):
                return "InvalidImageName", f'Failed to apply default image tag "{image}"'
        try:
            scheduling.check_admission(self.objects, one.pod)
            volumes.mount(self.objects, one.pod, one.folder)
            volumes.environment(self.objects, one.pod, _main(one.pod))
        except KeyError as missing:
            return "CreateContainerConfigError", str(missing.args[0])
        return None

    def _execute(self, one: Running) -> None:
        container = _main(one.pod)
        mounts = volumes.mounts(container, one.folder)
        command = [volumes.rewrite(part, mounts) for part in (*container["command"], *container.get("args", []))]
        if command[0] in ("python", "python3"):
            command[0] = sys.executable
        environment = volumes.environment(self.objects, one.pod, container)
        made = {key: volumes.rewrite(self._locate(value), mounts) for key, value in environment.items()}
        if command[0] == "argoexec":
            command = [sys.executable, "-m", "tests.kube.executor", *command[1:]]
            made["KUBECONFIG"] = str(self.kubeconfig)
            made["HOME"] = str(one.folder)
        twins = [name for name in self.doubled if name in one.pod["metadata"]["name"]]
        self.doubled -= set(twins)
        for _ in range(2 if twins else 1):
            one.processes.append(self._start(one, command, made))
        self._update(one, "Running", {"running": {"startedAt": now()}})
        code = self._wait(one)
        if code is not None:
            self._conclude(one, code)

    def _start(self, one: Running, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**IMAGE, **environment}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        assert process.stdout
        self._spawn(record, process.stdout, self.log_path(one.pod, "main"))
        return process

    def _wait(self, one: Running) -> int | None:
        """Return main's exit code; None when the cluster was left meanwhile."""
        asked = None
        main = one.processes[0]
        while not self._stop.is_set():
            code = main.poll()
            if code is not None and not (code == 0 and any(twin.poll() is None for twin in one.processes)):
                return 128 - code if code < 0 else code
            pod = self._find(one)
            if asked is None and (pod is None or "deletionTimestamp" in pod["metadata"] or self._is_late(one)):
                one.fate = one.fate or ("deadline" if pod and "deletionTimestamp" not in pod["metadata"] else "deleted")
                asked = time.monotonic()
                for process in one.processes:
                    _signal(process, signal.SIGTERM if pod else signal.SIGKILL)
            grace = min(one.pod["spec"].get("terminationGracePeriodSeconds", 30), 10)
            if asked is not None and time.monotonic() > asked + grace:
                _signal(main, signal.SIGKILL)
            time.sleep(POLL_SECONDS / 2)
        return None

    def _conclude(self, one: Running, code: int) -> None:
        ended: Object = {"exitCode": code, "reason": "Error" if code else "Completed", "finishedAt": now()}
        if one.fate == "oom":
            ended.update(exitCode=137, reason="OOMKilled")
        if one.fate in ("", "oom"):
            try:
                report(self.objects, one.pod, one.folder, code)
            except Refused as refused:
                self._end(one, "Failed", {"terminated": ended}, wait=refused.message)
                return
            self._end(one, "Failed" if ended["exitCode"] else "Succeeded", {"terminated": ended})
        elif one.fate == "lost":
            with contextlib.suppress(Refused):
                self.objects.delete(PODS, one.pod["metadata"]["namespace"], one.pod["metadata"]["name"], grace=0)
        elif one.fate == "deadline":
            self._end(one, "Failed", {"terminated": ended}, reason="DeadlineExceeded", message=LATE)
        else:
            self._end(one, "Failed", {"terminated": ended}, **DISRUPTED.get(one.fate, {}))

    def _end(
        self,
        one: Running,
        phase: str,
        state: Object | None = None,
        *,
        reason: str = "",
        message: str = "",
        wait: str = "",
    ) -> None:
        self._update(one, phase, state or {"waiting": {"reason": "PodInitializing"}}, reason, message, wait)

    def _update(
        self, one: Running, phase: str, state: Object, reason: str = "", message: str = "", wait: str = ""
    ) -> None:
        """Write the pod's status, if it is still there."""

        def edit(pod: Object) -> None:
            failed = {"terminated": {"exitCode": 1, "reason": "Error", "message": wait}}
            beside = state if "terminated" not in state else {"terminated": {"exitCode": 0, "reason": "Completed"}}
            statuses = [
                {"name": c["name"], "image": c["image"], "imageID": "", "ready": False, "restartCount": 0,
                 "state": state if c["name"] in ("main", _main(pod)["name"]) else failed if wait else beside}
                for c in pod["spec"]["containers"]
            ]  # fmt: skip
            status = pod["status"]
            status.update(phase=phase, containerStatuses=statuses)
            status.update({key: value for key, value in (("reason", reason), ("message", message)) if value})
            status.setdefault("startTime", now())
            if one.fate in ("evicted", "shutdown"):
                why = {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}
                status["conditions"] = [c for c in status.get("conditions", []) if c["type"] != why["type"]] + [why]

        meta = one.pod["metadata"]
        with contextlib.suppress(Refused):
            if self._find(one) is not None:
                self.objects.change(PODS, meta["namespace"], meta["name"], edit, subresource="status")

    def _settle_deletion(self, one: Running) -> None:
        """Remove a pod that was marked for deletion, now that nothing of it runs; wait for the mark on others."""
        meta = one.pod["metadata"]
        while not self._stop.is_set():
            pod = self._find(one)
            if pod is None or (
                pod["status"]["phase"] in ("Succeeded", "Failed") and "deletionTimestamp" not in pod["metadata"]
            ):
                return
            if "deletionTimestamp" in pod["metadata"]:
                with contextlib.suppress(Refused):
                    self.objects.delete(PODS, meta["namespace"], meta["name"], grace=0)
                return
            time.sleep(POLL_SECONDS)

    def _find(self, one: Running) -> Object | None:
        meta = one.pod["metadata"]
        found = self.objects.find(PODS, meta["namespace"], meta["name"])
        return found if found and found["metadata"]["uid"] == meta["uid"] else None

    def _is_late(self, one: Running) -> bool:
        limit = one.pod["spec"].get("activeDeadlineSeconds")
        return limit is not None and time.monotonic() > one.started + limit

    def _locate(self, value: str) -> str:
        """Return `HOST:PORT` with a loopback port where HOST names a pod by its subdomain, else the value."""
        return re.sub(r"^[a-z0-9-]+-0-0\.[a-z0-9-]+(\.[a-z0-9.-]+)?:\d+$", self._port, value)

    def _port(self, found: re.Match[str]) -> str:
        return f"127.0.0.1:{self.hosts[found[0].partition(':')[0]]}"


LATE = "Pod was active on the node longer than the specified deadline"
DISRUPTED = {
    "evicted": {"reason": "Evicted", "message": "The node was low on resource: memory. Threshold quantity: 100Mi."},
    "shutdown": {"reason": "Terminated", "message": "Pod was terminated in response to imminent node shutdown."},
}


def _main(pod: Object) -> Object:
    """Return the container that does the work: the one called main, or the only one."""
    containers = pod["spec"]["containers"]
    found: Object = next((one for one in containers if one["name"] == "main"), containers[0])
    return found


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
