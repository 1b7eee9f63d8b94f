"""Argo's workflow controller for tests: a thread that passes over every workflow whenever something changes."""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from types import TracebackType

from tests.kube.kinds import PODS, WORKFLOWS
from tests.kube.objects import Object, Objects
from tests.kube.refusals import Refused
from tests.kube.workflow import Operation, Settings

PASS_SECONDS = 0.05


class WorkflowController:
    """A context manager. Leaving it and entering a new one is a controller restart."""

    def __init__(self, objects: Objects, settings: Settings | None = None) -> None:
        self.objects = objects
        self.settings = settings or Settings()
        self.faults: list[str] = []
        """Bugs of the controller itself, with tracebacks; a test that ends with some has failed."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> WorkflowController:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        seen = -1
        requeue = True
        while not self._stop.is_set():
            with self.objects.changed:
                if self.objects.version == seen and not requeue:
                    self.objects.changed.wait(PASS_SECONDS)
                    continue
                seen = self.objects.version
            try:
                requeue = self.sync()
            except Exception:
                self.faults.append(traceback.format_exc())
                return
            time.sleep(PASS_SECONDS)

    def sync(self) -> bool:
        """Pass over every workflow that is not done; return whether one waits for time to go by."""
        requeue = False
        for workflow in self.objects.list(WORKFLOWS):
            if workflow.get("status", {}).get("phase") not in ("Succeeded", "Failed", "Error"):
                operation = Operation(self.objects, workflow, self.settings)
                after = operation.run()
                requeue = requeue or operation.requeue
                self._write(after)
        return requeue

    def _write(self, after: Object) -> None:
        """Write status and labels; a workflow that was deleted or patched in between is looked at again."""
        meta = after["metadata"]

        def edit(now: Object) -> None:
            now["status"] = {key: value for key, value in after["status"].items() if value is not None}
            now["metadata"]["labels"] = {**now["metadata"].get("labels", {}), **meta.get("labels", {})}

        with contextlib.suppress(Refused):
            self.objects.change(WORKFLOWS, meta["namespace"], meta["name"], edit)
        self._collect(after)

    def _collect(self, after: Object) -> None:
        """Delete the pods of a finished workflow where its podGC says so; the delay is left out of tests."""
        spec = after["status"].get("storedWorkflowTemplateSpec") or after["spec"]
        done = after["status"].get("phase") in ("Succeeded", "Failed", "Error")
        if not done or spec.get("podGC", {}).get("strategy") not in ("OnPodCompletion", "OnWorkflowCompletion"):
            return
        if "deleteDelayDuration" in spec["podGC"]:
            return
        for pod in self.objects.list(PODS, after["metadata"]["namespace"]):
            if pod["metadata"]["labels"].get("workflows.argoproj.io/workflow") == after["metadata"]["name"]:
                with contextlib.suppress(Refused):
                    self.objects.delete(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"])
