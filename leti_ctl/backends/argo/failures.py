"""Argo's account of a workflow's failures, made into leti's: what failed for good, once, with its exit code."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from leti_ctl import control
from leti_ctl.backends.argo.retries import DISRUPTED, REFUSED
from stages.contract.errors import LetiError, RetryableError

_ATTEMPT = re.compile(r"\(\d+\)$")
"""What Argo appends to a node's name for each attempt; a fan-out's item follows its number: `chain(0:part:0/4)`."""
_EXIT_CODE = re.compile(r"exit code (\d+)")
_NOTHING = ("", "null", "[]")


def parse(reported: str) -> list[control.Failure]:
    """Return what the value of `workflow.failures` tells.

    It is a JSON list, or that list quoted once more, or `null`, or the beginning of a long list; anything else is kept
    as one failure with its text: the exit handler must not fail over how a failure was told.
    """
    if reported.strip() in _NOTHING:
        return []
    try:
        return final(_nodes(reported))
    except (ValueError, TypeError, AttributeError):
        return [_failure("workflow", "workflow", reported[:2000], "")]


def _nodes(reported: str) -> list[Mapping[str, Any]]:
    try:
        nodes = json.loads(reported)
        return (json.loads(nodes) if isinstance(nodes, str) else nodes) or []
    except ValueError:
        return _beginning(_unquoted(reported))


def _unquoted(reported: str) -> str:
    """Return the text within the beginning of a JSON string, whose last escape may have been cut in two."""
    for end in range(len(reported), max(len(reported) - 6, 0), -1) if reported.startswith('"') else ():
        with contextlib.suppress(ValueError):
            return str(json.loads(reported[:end] + '"'))
    return reported


def _beginning(listed: str) -> list[Mapping[str, Any]]:
    """Return the nodes that a list which was cut off tells in full; `ValueError` where there are none."""
    found, at, decoder = [], 1, json.JSONDecoder()
    try:
        while True:
            node, at = decoder.raw_decode(listed, at)
            found.append(node)
            at += len(listed[at:]) - len(listed[at:].lstrip(", "))
    except ValueError:
        if not found:
            raise
    return found


def final(nodes: Iterable[Mapping[str, Any]]) -> list[control.Failure]:
    """Return the failures that were not cured by another attempt and are not mere consequences of others.

    A node that is retried has a parent of the same name without the attempt's number, which fails only with the last
    attempt; an ancestor (DAG, steps) fails without a message of its own.
    """
    groups: dict[str, tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]] = {}
    for node in nodes:
        name = str(node.get("displayName") or "")
        whole, attempts = groups.setdefault(_ATTEMPT.sub("", name), ([], []))
        (attempts if _ATTEMPT.search(name) else whole).append(node)
    found = []
    for name, (whole, attempts) in groups.items():
        # Nodes of different chains share a name; as many attempts are final as nodes have failed.
        last = sorted(attempts, key=_at)[-len(whole) :] if whole and attempts else whole
        told = [node for node in last if (node.get("message") or "child ").partition(" ")[0] != "child"]
        found += [_failure(str(n.get("podName") or name), name, str(n["message"]), _at(n)) for n in told]
    return found


def _failure(unit: str, label: str, message: str, at: str) -> control.Failure:
    return control.Failure(
        unit=re.sub(r"[^A-Za-z0-9._-]+", "-", unit), label=label, exit_code=exit_code(message), message=message,
        at=at or control.now(),
    )  # fmt: skip


def exit_code(message: str) -> int:
    """Return the exit code a node's message tells; 75 for a lost pod, 1 where nothing is told."""
    if found := _EXIT_CODE.search(message):
        return int(found[1])
    lost = re.search(DISRUPTED, message) and not re.search(REFUSED, message)
    return RetryableError.exit_code if lost else LetiError.exit_code


def _at(node: Mapping[str, Any]) -> str:
    return str(node.get("finishedAt") or "")
