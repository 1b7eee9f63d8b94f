"""A JobSet controller for tests: pods with their names, addresses and ranks, restarts together, and failure policies.

Jobs are not kept as objects: their pods belong to the JobSet. Unknown fields of the parts it acts on are errors.
"""

from __future__ import annotations

import contextlib
import copy
import re
import socket
import threading
import traceback
from types import TracebackType
from typing import Any, NamedTuple

from tests.kube.kinds import JOBSETS, PODS
from tests.kube.kubelet import Kubelet
from tests.kube.nodes import known
from tests.kube.objects import Object, Objects, now
from tests.kube.pods import owner
from tests.kube.refusals import Refused

POLL_SECONDS = 0.05
NAME_LABEL = "jobset.sigs.k8s.io/jobset-name"
ATTEMPT_LABEL = "jobset.sigs.k8s.io/restart-attempt"
INDEX = "batch.kubernetes.io/job-completion-index"
ACTIONS = ("FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts")


class JobFailure(NamedTuple):
    """Why a Job failed, in the words of its condition."""

    reason: str
    message: str


class JobSetController:
    """A context manager: a thread that brings every JobSet further."""

    def __init__(self, objects: Objects, kubelet: Kubelet) -> None:
        self.objects, self.kubelet = objects, kubelet
        self.faults: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> JobSetController:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            try:
                for jobset in self.objects.list(JOBSETS):
                    if not jobset.get("status", {}).get("terminalState") and not jobset["spec"].get("suspend"):
                        self.sync(jobset)
            except Exception:
                self.faults.append(traceback.format_exc())
                return

    def sync(self, jobset: Object) -> None:
        """Start, restart or settle one JobSet."""
        self._check(jobset)
        attempt = jobset.get("status", {}).get("restarts", 0)
        name, namespace = jobset["metadata"]["name"], jobset["metadata"]["namespace"]
        pods = self.objects.list(PODS, namespace, labels=f"{NAME_LABEL}={name}")
        old = [pod for pod in pods if pod["metadata"]["labels"][ATTEMPT_LABEL] != str(attempt)]
        for pod in old:
            # BlockingRecreate: nothing starts before the last of them is gone.
            if "deletionTimestamp" not in pod["metadata"]:
                self.objects.delete(PODS, namespace, pod["metadata"]["name"])
        if old:
            return
        status = jobset.get("status", {})
        if status.get("started") != attempt:
            self._create(jobset, attempt)
            self._set(jobset, restarts=attempt, started=attempt)
            return
        failure = self._failure(jobset, pods)
        if failure:
            self._fail(jobset, failure)
        elif all(pod["status"]["phase"] == "Succeeded" for pod in pods):
            self._settle(jobset, "Completed", "AllJobsCompleted", "jobset completed successfully")

    def _check(self, jobset: Object) -> None:
        spec = jobset["spec"]
        known("JobSet.spec", spec, "replicatedJobs", "failurePolicy", "successPolicy", "network", "suspend",
              "ttlSecondsAfterFinished")  # fmt: skip
        for job in spec["replicatedJobs"]:
            known("replicatedJob", job, "name", "replicas", "template")
            known("job", job["template"]["spec"], "parallelism", "completions", "backoffLimit", "podFailurePolicy",
                  "template", "activeDeadlineSeconds", "completionMode")  # fmt: skip
            if job["template"]["spec"].get("backoffLimit") != 0 or job.get("replicas", 1) != 1:
                raise AssertionError("only single Jobs with backoffLimit 0 are known here")
            if job["template"]["spec"]["template"]["spec"].get("restartPolicy") != "Never":
                raise AssertionError("restartPolicy must be Never: the default OnFailure restarts within the pod")

    def _create(self, jobset: Object, attempt: int) -> None:
        for job in jobset["spec"]["replicatedJobs"]:
            name = f"{jobset['metadata']['name']}-{job['name']}-0"
            for index in range(job["template"]["spec"]["parallelism"]):
                pod = self._pod(jobset, job, index, attempt)
                if len(pod["metadata"]["name"]) > 63:
                    raise AssertionError(f"{pod['metadata']['name']}: JobSet's webhook allows 63 characters")
                self.objects.create(PODS, jobset["metadata"]["namespace"], pod)
            self.kubelet.hosts[f"{name}-0.{jobset['metadata']['name']}"] = _free_port()

    def _pod(self, jobset: Object, job: Object, index: int, attempt: int) -> Object:
        name = jobset["metadata"]["name"]
        host = f"{name}-{job['name']}-0-{index}"
        template = copy.deepcopy(job["template"]["spec"]["template"])
        meta = template.get("metadata", {})
        for container in template["spec"]["containers"]:
            ranked = {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}}
            container.setdefault("env", []).append({"name": "JOB_COMPLETION_INDEX", "valueFrom": ranked})
        labels = {NAME_LABEL: name, "jobset.sigs.k8s.io/replicatedjob-name": job["name"],
                  "jobset.sigs.k8s.io/job-index": "0", ATTEMPT_LABEL: str(attempt), INDEX: str(index)}  # fmt: skip
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{host}-{attempt:05d}",
                "labels": {**meta.get("labels", {}), **labels},
                "annotations": {**meta.get("annotations", {}), INDEX: str(index)},
                "ownerReferences": [owner(jobset)],
            },
            "spec": {**template["spec"], "hostname": host, "subdomain": name},
        }

    def _failure(self, jobset: Object, pods: list[Object]) -> JobFailure | None:
        """Return why a Job failed: a pod that ended badly, or one that is gone."""
        wanted = sum(job["template"]["spec"]["parallelism"] for job in jobset["spec"]["replicatedJobs"])
        policy = jobset["spec"]["replicatedJobs"][0]["template"]["spec"].get("podFailurePolicy", {})
        for pod in pods:
            if pod["status"]["phase"] == "Failed":
                return _judge(policy, pod)
        if len(pods) < wanted:
            return JobFailure("BackoffLimitExceeded", "Job has reached the specified backoff limit")
        return None

    def _fail(self, jobset: Object, failure: JobFailure) -> None:
        policy = jobset["spec"].get("failurePolicy", {})
        known("failurePolicy", policy, "maxRestarts", "restartStrategy", "rules")
        status = jobset["status"]
        action = next((rule["action"] for rule in policy.get("rules", []) if _applies(rule, failure)), "RestartJobSet")
        counted = status.get("restartsCountTowardsMax", 0) + (action == "RestartJobSet")
        if action == "FailJobSet" or counted > policy.get("maxRestarts", 0):
            self._settle(jobset, "Failed", "FailedJobs", f"jobset failed due to: {failure.message}")
            return
        self._set(jobset, restarts=status["restarts"] + 1, restartsCountTowardsMax=counted)

    def _settle(self, jobset: Object, state: str, reason: str, message: str) -> None:
        condition = {"type": state, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now()}
        self._set(jobset, terminalState=state, conditions=[condition])

    def _set(self, jobset: Object, **fields: Any) -> None:
        meta = jobset["metadata"]

        def edit(item: Object) -> None:
            item.setdefault("status", {}).update(fields)

        with contextlib.suppress(Refused):
            self.objects.change(JOBSETS, meta["namespace"], meta["name"], edit, subresource="status")


def _judge(policy: Object, pod: Object) -> JobFailure:
    """Return what the Job controller makes of a failed pod under its pod failure policy."""
    place = f"{pod['metadata'].get('namespace')}/{pod['metadata']['name']}"
    codes = {
        one["name"]: one["state"].get("terminated", {}).get("exitCode") for one in pod["status"]["containerStatuses"]
    }
    types = {one["type"] for one in pod["status"].get("conditions", []) if one["status"] == "True"}
    for number, rule in enumerate(policy.get("rules", [])):
        known("podFailurePolicy rule", rule, "action", "onPodConditions", "onExitCodes")
        if rule["action"] != "FailJob":
            raise AssertionError(f"podFailurePolicy action {rule['action']} is not known here")
        ending = f"matching FailJob rule at index {number}"
        for condition in rule.get("onPodConditions", []):
            if condition["type"] in types:
                return JobFailure("PodFailurePolicy", f"Pod {place} has condition {condition['type']} {ending}")
        asked = rule.get("onExitCodes")
        if asked and asked["operator"] == "In" and codes.get(asked["containerName"]) in asked["values"]:
            code = codes[asked["containerName"]]
            said = f"Container {asked['containerName']} for pod {place} failed with exit code {code} {ending}"
            return JobFailure("PodFailurePolicy", said)
    return JobFailure("BackoffLimitExceeded", "Job has reached the specified backoff limit")


def _applies(rule: Object, failure: JobFailure) -> bool:
    known("failurePolicy rule", rule, "name", "action", "onJobFailureReasons", "onJobFailureMessagePatterns",
          "targetReplicatedJobs")  # fmt: skip
    if rule["action"] not in ACTIONS or not re.fullmatch(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", rule["name"]):
        raise AssertionError(f"failurePolicy rule {rule}: JobSet's webhook refuses it")
    reasons, patterns = rule.get("onJobFailureReasons"), rule.get("onJobFailureMessagePatterns")
    if reasons and failure.reason not in reasons:
        return False
    return not patterns or any(re.search(pattern, failure.message) for pattern in patterns)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
