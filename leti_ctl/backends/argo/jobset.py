"""Training as a JobSet: one Job of as many pods as machines, started together and restarted together.

Argo applies the manifest, watches `status.terminalState` and removes the JobSet at the end of the workflow. A disrupted
pod (preemption, drain, eviction) restarts all of them at no cost; a spec, model or artifact that is wrong ends the
JobSet at once; anything else is a restart that is counted. Exit code 1 is among the latter on purpose: the peers of a
preempted pod end with it when their connection breaks, and may be seen first.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from leti_ctl.backends.argo import names, pods
from leti_ctl.config.profiles import Profile

RESOURCE = "jobsets.jobset.x-k8s.io"
NAME = "{{workflow.parameters.jobset}}-i{{inputs.parameters.iteration}}"
PORT = 29500
FINAL_CODES = (2, 65, 66, 73, 78)
"""UsageError, ArtifactError, ModelError, ResourceError, SpecError: another try would end the same."""
_NODES = "whole-number-train-nodes"
_RANK = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
DAY = 86_400


def manifest(profile: Profile, args: tuple[str, ...]) -> str:
    """Return the JobSet as the text of Argo's resource template, which is a template itself."""
    text = yaml.safe_dump(jobset(profile, args), sort_keys=False, width=1000)
    # Numbers must stay numbers when the parameter is put in, and YAML cannot write braces without quotes.
    return re.sub(r"whole-number-([a-z-]+)", r"{{workflow.parameters.\1}}", text)


def jobset(profile: Profile, args: tuple[str, ...]) -> dict[str, Any]:
    """Return the JobSet as a dict; its numbers of machines are words that `manifest` replaces."""
    pool = profile.pools["train"]
    labels = {names.PART_OF: "leti", names.RUN: "{{workflow.parameters.run}}", names.STAGE: "train"}
    unit = {names.ITERATION: "{{inputs.parameters.iteration}}"}
    queue = {names.QUEUE: pool.queue} if pool.queue else {}
    # A slice's machines are reached from one node pool only, and it must not hold two Jobs.
    exclusive = pool.device is not None and pool.device.hosts > 1
    annotations = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"} if exclusive else {}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "name": NAME,
            "namespace": "{{workflow.namespace}}",
            "labels": labels | unit | queue,
            **({"annotations": annotations} if annotations else {}),
        },
        "spec": {
            "ttlSecondsAfterFinished": 7 * DAY,
            "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
            "successPolicy": {"operator": "All", "targetReplicatedJobs": ["node"]},
            "failurePolicy": _failure_policy(profile.train_restarts),
            "replicatedJobs": [{"name": "node", "replicas": 1, "template": _job(profile, args, labels | unit)}],
        },
    }


def _failure_policy(restarts: int) -> dict[str, Any]:
    disrupted = {
        "name": "disrupted",
        "action": "RestartJobSetAndIgnoreMaxRestarts",
        "onJobFailureReasons": ["PodFailurePolicy"],
        "onJobFailureMessagePatterns": [".*DisruptionTarget.*"],
    }
    # Every other rule of the Job's own policy is about exit codes that are final.
    final = {"name": "final", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    return {"maxRestarts": restarts, "restartStrategy": "BlockingRecreate", "rules": [disrupted, final]}


def _job(profile: Profile, args: tuple[str, ...], labels: dict[str, str]) -> dict[str, Any]:
    pool = profile.pools["train"]
    codes = {"containerName": "main", "operator": "In", "values": list(FINAL_CODES)}
    return {
        "spec": {
            "parallelism": _NODES,
            "completions": _NODES,
            "backoffLimit": 0,
            "activeDeadlineSeconds": round(pool.deadline_hours * 3600),
            "podFailurePolicy": {
                "rules": [
                    {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    {"action": "FailJob", "onExitCodes": codes},
                ]
            },
            "template": {
                "metadata": {
                    "labels": labels | pool.pod_labels,
                    **({"annotations": pool.pod_annotations} if pool.pod_annotations else {}),
                },
                "spec": _pod_spec(profile, args),
            },
        }
    }


def _pod_spec(profile: Profile, args: tuple[str, ...]) -> dict[str, Any]:
    pool = profile.pools["train"]
    pulled = [{"name": name} for name in profile.images.pull_secrets]
    return {
        "restartPolicy": "Never",
        "serviceAccountName": "leti-stage",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": pool.grace_seconds,
        **({"imagePullSecrets": pulled} if pulled else {}),
        **pods.placement(pool),
        **({"affinity": pods.spot_affinity(pool.spot, "In")} if pool.spot else {}),
        "securityContext": pods.POD_SECURITY,
        "containers": [_container(profile, args)],
        "volumes": pods.volumes(pool),
    }


def _container(profile: Profile, args: tuple[str, ...]) -> dict[str, Any]:
    pool = profile.pools["train"]
    made = pods.container(profile, pods.Work(("python", "-m", "stages.train"), args, "accelerator", "train"))
    # A TPU machine's chips are given out together; GPUs as many as there are processes.
    whole = pool.device is not None and pool.device.resource == "google.com/tpu"
    made["resources"] = pods.resources(pool, devices=None if whole else "{{workflow.parameters.train-processes}}")
    made["env"] += [
        {"name": "LETI_NODES", "value": "{{workflow.parameters.train-nodes}}"},
        {"name": "LETI_NODE_RANK", "valueFrom": {"fieldRef": {"fieldPath": _RANK}}},
        {"name": "LETI_RENDEZVOUS", "value": f"{NAME}-node-0-0.{NAME}:{PORT}"},
    ]
    made["ports"] = [{"name": "rendezvous", "containerPort": PORT}]
    return made
