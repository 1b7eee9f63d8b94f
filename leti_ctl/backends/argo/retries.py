"""Which failures another attempt may cure, as the expressions Argo's controller evaluates.

A preempted pod shows up as status Error ("pod deleted") or as Failed with the kubelet's message; a stage ends with 75
(`RetryableError`) or 143 (asked to stop) where a second try may help, and is killed with 137 when it outgrows its
memory. Everything else it says itself is final. `backoff.maxDuration` stays unset: it would end every later attempt
that long after the *first* one began.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

DISRUPTED = "(?i)(node shutdown|nodeshutdown|pod deleted|preempt|evict|node was low on|node lost|unexpected admission)"
LIMIT = 10
MEMORY_LIMIT = 3
"""Attempts after the first that may follow a pod killed for its memory; by then it has had the most there is."""
REFUSED = "(?i)(specified deadline|exceeded its deadline|failure condition|is forbidden|is invalid)"
"""Ends that would repeat: the deadline of one attempt, the JobSet's own failure, a pod the API server does not take."""
_FINAL = f"lastRetry.message matches '{REFUSED}'"
_LOST = f"(lastRetry.status == 'Error' || lastRetry.message matches '{DISRUPTED}')"
_KILLED = "asInt(lastRetry.exitCode) in [75, 137, 143]"
_OUT_OF_MEMORY = f"(lastRetry.message matches 'OOMKilled' && asInt(retries) >= {MEMORY_LIMIT})"


def stage() -> dict[str, Any]:
    """Return the strategy of pods that run a stage."""
    return _strategy(f"!({_FINAL}) && !{_OUT_OF_MEMORY} && ({_LOST} || {_KILLED})")


def watcher() -> dict[str, Any]:
    """Return the strategy of pods that only watch a resource: it goes on, and applying it again re-attaches."""
    return _strategy(f"!({_FINAL}) && ({_LOST} || asInt(lastRetry.exitCode) in [137, 143])")


def by_attempt(values: Sequence[str]) -> str:
    """Return the expression for the first value in the first attempt, the second in the second, the last ever after."""
    *first, last = values
    text = f"'{last}'"
    for number, value in reversed(list(enumerate(first))):
        rest = f"({text})" if "?" in text else text
        text = f"asInt(retries) == {number} ? '{value}' : {rest}"
    return f"{{{{={text}}}}}"


def until_attempt(number: int, before: str, after: str) -> str:
    """Return the expression for `before` in the first `number` attempts and `after` in those that follow."""
    return f"{{{{=asInt(retries) < {number} ? '{before}' : '{after}'}}}}"


def _strategy(expression: str) -> dict[str, Any]:
    backoff = {"duration": "20s", "factor": "2", "cap": "10m"}
    return {"limit": str(LIMIT), "retryPolicy": "Always", "backoff": backoff, "expression": expression}
