"""Which failures another attempt may cure, as the expressions Argo's controller evaluates.

A preempted pod shows up as status Error ("pod deleted") or as Failed with the kubelet's message; a stage ends with 75
(`RetryableError`) or 143 (asked to stop) where a second try may help, and is killed with 137 when it outgrows its
memory. Everything else it says itself is final. `backoff.maxDuration` stays unset: it would end every later attempt
that long after the *first* one began.

Argo passes on the *message* of a pod's status and never its reason ("Evicted", "UnexpectedAdmissionError"), so the
patterns below are of messages: the kubelet's (pkg/kubelet: kubelet.go, eviction, nodeshutdown) and Argo's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_DISRUPTIONS = (
    "node shutdown",
    "nodeshutdown",
    "pod deleted",
    "preempt",
    "evict",
    "node was low on",
    "node had condition",
    "node lost",
    # The kubelet did not admit the pod: devices not registered yet after a reboot, or taken in the meantime.
    "pod was rejected",
    "which is unexpected",
    "have enough resource",
    # Pods of a node that is gone are marked failed while their containers, as far as anyone knows, still run.
    "pod failed: ",
    "find failed message for pod",
)
DISRUPTED = f"(?i)({'|'.join(_DISRUPTIONS)})"
LIMIT = 10
MEMORY_LIMIT = 4
"""The attempt (from 0) after which being killed for memory is final: it has had the most there is, even where the first
attempts were preempted and told nothing about memory."""
_OUTGREW = "OOMKilled|exit code 1(28|37)"
"""How it shows. Where the kernel kills gVisor's Sentry and with it all containers of the pod, the reason may be missing
and the exit code is 128 before gVisor's September 2026 (gvisor issues 2433 and 14679)."""
_REPEATING = (
    "specified deadline",
    "exceeded its deadline",
    "is forbidden",
    "is invalid",
    # The runtime cannot start the image's command; its exit code, 128, is a killed sandbox's too.
    "starterror",
    # More scratch than the pool gives: the kubelet's three ways to say so.
    "usage of emptydir volume",
    "ephemeral local storage usage exceeds",
    "exceeded its local ephemeral storage",
)
REFUSED = f"(?i)({'|'.join(_REPEATING)})"
"""Ends that would repeat: the deadline of one attempt, its disk, a pod the API server does not take."""
_SETTLED = ("failure condition", "no matches for kind", "have a resource type", "has been deleted while")
GIVEN_UP = f"(?i)({'|'.join((*_REPEATING, *_SETTLED))})"
"""The same for what watches a JobSet: its own failure, a cluster that has none, somebody who removed it."""
_LOST = f"(lastRetry.status == 'Error' || lastRetry.message matches '{DISRUPTED}')"
_KILLED = "asInt(lastRetry.exitCode) in [75, 128, 137, 143]"
_OUT_OF_MEMORY = f"(lastRetry.message matches 'OOMKilled|exit code 128' && asInt(retries) >= {MEMORY_LIMIT})"


def stage() -> dict[str, Any]:
    """Return the strategy of pods that run a stage."""
    return _strategy(f"!(lastRetry.message matches '{REFUSED}') && !{_OUT_OF_MEMORY} && ({_LOST} || {_KILLED})")


def watcher() -> dict[str, Any]:
    """Return the strategy of pods that only watch a resource: it goes on, and applying it again re-attaches.

    Whatever is not known to be settled is tried again. Argo's executor itself gives up on an API server or an admission
    webhook that is away for a second, with exit code 1, and the JobSet has trained on in the meantime.
    """
    return _strategy(f"!(lastRetry.message matches '{GIVEN_UP}')")


def memory(values: Sequence[str]) -> str:
    """Return the expression for the first value, and for a larger one after an attempt that was killed for its memory.

    That is the second value in the second attempt, the third in the third, the last ever after. A pod that was merely
    preempted asks for what it had: machines of the pool may have no more, and it would wait for ever.
    """
    first, *more = values
    *grown, last = more or [first]
    text = f"'{last}'"
    for number, value in reversed(list(enumerate(grown, start=1))):
        text = f"(asInt(retries) == {number} ? '{value}' : {text})"
    return f"{{{{=lastRetry.message matches '{_OUTGREW}' ? {text} : '{first}'}}}}"


def until_attempt(number: int, before: str, after: str) -> str:
    """Return the expression for `before` in the first `number` attempts and `after` in those that follow."""
    return f"{{{{=asInt(retries) < {number} ? '{before}' : '{after}'}}}}"


def _strategy(expression: str) -> dict[str, Any]:
    backoff = {"duration": "20s", "factor": "2", "cap": "10m"}
    return {"limit": str(LIMIT), "retryPolicy": "Always", "backoff": backoff, "expression": expression}
