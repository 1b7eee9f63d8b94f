"""What leti-ctl asks of a cluster: workflows, their template, pods, logs, JobSets. Plain dicts, one namespace."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from leti_ctl.backends.argo.api import Api, ApiError, Kind, Object, connect
from leti_ctl.backends.argo.names import RUN
from leti_ctl.config.contexts import Context
from leti_ctl.control import Workflow
from stages.contract.errors import RetryableError, UsageError

WORKFLOWS = Kind("argoproj.io", "v1alpha1", "workflows")
TEMPLATES = Kind("argoproj.io", "v1alpha1", "workflowtemplates")
JOBSETS = Kind("jobset.x-k8s.io", "v1alpha2", "jobsets")
PODS = Kind("", "v1", "pods")
SUBMISSION = "leti.dev/submission"
"""Annotation with a random token: tells a workflow whose reply was lost from one that somebody else made meanwhile."""
COMPLETED = ("Succeeded", "Failed", "Error")
WATCH_SECONDS = 240
LONGEST_BACKOFF = 30.0


class Cluster:
    """A namespace of an API server."""

    def __init__(self, api: Api, namespace: str, kube_context: str | None = None) -> None:
        self.api, self.namespace, self.kube_context = api, namespace, kube_context

    def create(self, workflow: Mapping[str, Any], *, dry_run: bool = False) -> Object:
        """Create a Workflow and return it as stored; `UsageError` when its name is another's.

        A request that timed out may have been carried out: its repetition finds the name taken, and the workflow under
        it is this one when it carries the same submission token.
        """
        query = {"fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}
        try:
            return self.api.create(self._path(WORKFLOWS), workflow, **query)
        except ApiError as error:
            if error.code != 409:
                raise
        name = str(workflow["metadata"]["name"])
        found = self.find_workflow(name)
        if found and _annotation(found, SUBMISSION) == _annotation(workflow, SUBMISSION) != "":
            return found
        raise UsageError(f"workflow {self.namespace}/{name} exists already; somebody else started the run meanwhile")

    def find_workflow(self, name: str) -> Object | None:
        """Return a Workflow, or None when there is none (any more)."""
        return self._find(WORKFLOWS, name)

    def find_template(self, name: str) -> Object | None:
        """Return a WorkflowTemplate, or None."""
        return self._find(TEMPLATES, name)

    def workflows(self, run_name: str | None = None) -> list[Object]:
        """Return the Workflows of a run, or of all runs, oldest first."""
        selector = RUN if run_name is None else f"{RUN}={run_name}"
        found, _ = self.api.list(self._path(WORKFLOWS), labelSelector=selector)
        return sorted(found, key=lambda one: str(one["metadata"].get("creationTimestamp", "")))

    def pods(self, run_name: str) -> list[Object]:
        """Return the pods of a run that still exist, those of JobSets among them, oldest first."""
        found, _ = self.api.list(self._path(PODS), labelSelector=f"{RUN}={run_name}")
        return sorted(found, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))

    def log(self, pod: str, container: str, *, follow: bool = False) -> Iterator[bytes]:
        """Yield the lines of a container's log; with `follow` until the container ends."""
        query = {"container": container, **({"follow": "true"} if follow else {})}
        # A stage in a long computation may be silent for a long time.
        yield from self.api.lines(PODS.path(self.namespace, pod, "log"), read_seconds=3600, **query)

    def watch(self, name: str, *, every: float = WATCH_SECONDS) -> Iterator[Object]:
        """Yield a Workflow's states: the present one, each change, and the last known one again every so often.

        Ends when it is completed or deleted. A lost connection, a server that forgot the version watched from (410) and
        a server that is away for a while are waited out; `RetryableError` after several minutes of that.
        """
        version, state, failed = "", None, 0
        while True:
            try:
                if not version:
                    state = self.find_workflow(name)
                    if state is None:
                        return
                    version = state["metadata"]["resourceVersion"]
                    yield state
                    if is_completed(state):
                        return
                for event in self._events(name, version, every):
                    failed, version = 0, event["object"]["metadata"]["resourceVersion"]
                    if event["type"] == "DELETED":
                        return
                    if event["type"] != "BOOKMARK":
                        state = event["object"]
                        yield state
                        if is_completed(state):
                            return
            except _Forgotten:
                version = ""
            except RetryableError:
                failed += 1
                if failed > 10:
                    raise
                time.sleep(min(self.api.pause * 2**failed, LONGEST_BACKOFF))
            if state is not None:
                yield state

    def _events(self, name: str, version: str, seconds: float) -> Iterator[Object]:
        query: dict[str, str | int] = {
            "watch": "true",
            "fieldSelector": f"metadata.name={name}",
            "resourceVersion": version,
            "timeoutSeconds": max(1, round(seconds)),
            "allowWatchBookmarks": "true",
        }
        try:
            for line in self.api.lines(self._path(WORKFLOWS), read_seconds=seconds + 30, **query):
                event: Object = json.loads(line)
                if event["type"] == "ERROR":
                    if event["object"].get("code") == 410:
                        raise _Forgotten
                    raise RetryableError(f"cluster {self.api.host}: watch: {event['object'].get('message')}")
                yield event
        except ApiError as error:
            if error.code == 410:
                raise _Forgotten from None
            raise

    def shut_down(self, name: str, how: str) -> bool:
        """Ask a Workflow to `Stop` (its exit handler still runs) or `Terminate`; return False when it is gone."""
        try:
            self.api.merge(self._path(WORKFLOWS, name), {"spec": {"shutdown": how}})
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        return True

    def reap(self, run_name: str) -> list[str]:
        """Delete the JobSets of a run, which outlive a workflow's end; return their names."""
        try:
            found, _ = self.api.list(self._path(JOBSETS), labelSelector=f"{RUN}={run_name}")
        except ApiError as error:
            if error.code == 404:  # no such kind: this cluster trains in plain pods
                return []
            raise
        names = [str(one["metadata"]["name"]) for one in found]
        for name in names:
            self.api.delete(self._path(JOBSETS, name), propagationPolicy="Foreground")
        return names

    def _find(self, kind: Kind, name: str) -> Object | None:
        try:
            return self.api.get(self._path(kind, name))
        except ApiError as error:
            if error.code != 404:
                raise
            if error.reason == "NotFound" or kind.plural not in str(error):
                return None
            raise

    def _path(self, kind: Kind, name: str = "") -> str:
        return kind.path(self.namespace, name)


class _Forgotten(Exception):
    """The server no longer knows the version that a watch goes on from."""


def open_cluster(kube_context: str | None, namespace: str | None, default: str) -> Cluster:
    """Return the cluster of a kubeconfig's context: the namespace given, else the context's own, else `default`."""
    api, own = connect(kube_context)
    return Cluster(api, namespace or own or default, kube_context)


def find_cluster(context: Context, record: Workflow) -> Cluster:
    """Return the cluster that a run's workflow is in, as a person's context or else the record names it."""
    return open_cluster(context.kube_context, context.namespace or record.namespace, record.namespace)


def phase(workflow: Object) -> str:
    """Return a Workflow's phase; Pending for one that no controller has looked at yet."""
    return str(workflow.get("status", {}).get("phase") or "Pending")


def is_completed(workflow: Object) -> bool:
    """Whether a Workflow has ended for good."""
    return phase(workflow) in COMPLETED


def main_container(pod: Object) -> str:
    """Return the container of a pod that runs the stage: `main` in Argo's pods, the only one in a JobSet's."""
    names = [str(one["name"]) for one in pod["spec"]["containers"]]
    return "main" if "main" in names else names[0]


def _annotation(item: Mapping[str, Any], key: str) -> str:
    return str((item["metadata"].get("annotations") or {}).get(key, ""))
