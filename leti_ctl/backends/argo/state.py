"""What a Workflow and its pods tell about units: running since when, waiting for what, failed with what message."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterable
from typing import Any

from leti_ctl.backends.argo.api import Object
from leti_ctl.backends.argo.names import ITERATION, PART, SPLIT, STAGE
from leti_ctl.follow.sight import Place, Sighting

_ACTIVE = ("Pending", "Running", "Unknown")
_PATIENT = ("ContainerCreating", "PodInitializing")
"""What every container waits for at first; worth no word."""


def nodes(workflow: Object) -> dict[str, Any] | None:
    """Return a Workflow's nodes by id, unpacked if need be.

    None where they are elsewhere (offloaded to a database) or packed in a way this Python cannot undo; whoever asks
    then looks at pods and at the store.
    """
    status = workflow.get("status") or {}
    if status.get("nodes"):
        return dict(status["nodes"])
    if status.get("offloadNodeStatusVersion"):
        return None
    packed = status.get("compressedNodes")
    if not packed:
        return {}
    try:
        found = json.loads(gzip.decompress(base64.b64decode(packed)))
    except (ValueError, OSError, EOFError):
        return None
    return found if isinstance(found, dict) else None


def failures(workflow: Object) -> list[str]:
    """Return what failed in a Workflow, one line each, as far as its nodes tell; its own message otherwise."""
    from leti_ctl.backends.argo.failures import final

    told = [
        {**node, "podName": node.get("id")}
        for node in (nodes(workflow) or {}).values()
        if node.get("phase") in ("Failed", "Error")
    ]
    lines = [f"{failure.label}: {failure.message}" for failure in final(told)]
    message = str((workflow.get("status") or {}).get("message") or "")
    return list(dict.fromkeys(lines)) or ([message] if message else [])


def sightings(pods: Iterable[Object]) -> list[Sighting]:
    """Return what is known of each pod of a run, finished ones included."""
    return [_sighting(pod) for pod in pods if STAGE in (pod["metadata"].get("labels") or {})]


def place_of(pod: Object) -> Place:
    """Return what a pod works on, by its labels; what a stage has no label for is that of a unit without."""
    labels = pod["metadata"].get("labels") or {}
    numbers = re.findall(r"\d+", labels.get(PART, ""))
    part = f"{numbers[0]}/{numbers[1]}" if len(numbers) == 2 else "0/1"
    iteration = labels.get(ITERATION, "0")
    return Place(labels[STAGE], int(iteration) if iteration.isdecimal() else 0, labels.get(SPLIT, "train"), part)


def _sighting(pod: Object) -> Sighting:
    phase = str((pod.get("status") or {}).get("phase") or "Pending")
    is_leaving = "deletionTimestamp" in pod["metadata"]
    reason = "being removed" if is_leaving and phase in _ACTIVE else waiting(pod)
    return Sighting(place_of(pod), pod["metadata"]["name"], phase, reason, phase in _ACTIVE)


def waiting(pod: Object) -> str:
    """Return why a pod does not run yet, or why it ended badly; empty where it does or ended well."""
    status = pod.get("status") or {}
    phase = status.get("phase")
    if phase == "Failed":
        return _ended(status)
    if phase == "Succeeded":
        return ""
    for one in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        held = (one.get("state") or {}).get("waiting") or {}
        if held.get("reason") and held["reason"] not in _PATIENT:
            return _line(held["reason"], held.get("message"))
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _line(str(condition.get("reason") or "Unschedulable"), condition.get("message"))
    return ""


def _ended(status: Object) -> str:
    if status.get("reason"):
        return _line(status["reason"], status.get("message"))
    for one in status.get("containerStatuses") or []:
        ended = (one.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            return f"{one['name']}: {ended.get('reason') or 'Error'} (exit code {ended['exitCode']})"
    return str(status.get("message") or "failed")


def _line(reason: str, message: str | None) -> str:
    text = " ".join((message or "").split())
    return f"{reason}: {text[:160]}" if text else reason
