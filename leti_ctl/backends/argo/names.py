"""Names and labels that Kubernetes accepts, from names that people chose."""

from __future__ import annotations

import hashlib
import re

from leti_ctl.config.profiles import Profile
from stages.contract.errors import UsageError

SLUG_CHARS = 30
"""Longest slug: a JobSet's pods are called `SLUG-i9999-node-0-999-abcde`, and 63 characters is all a pod may have."""
RUN = "leti.dev/run"
STAGE = "leti.dev/stage"
ITERATION = "leti.dev/iteration"
SPLIT = "leti.dev/split"
PART = "leti.dev/part"
UNTRUSTED = "leti.dev/untrusted"
SPEC_DIGEST = "leti.dev/spec-sha256"
MANIFEST_DIGEST = "leti.dev/manifest-sha256"
RUN_URI = "leti.dev/run-uri"
PART_OF = "app.kubernetes.io/part-of"
QUEUE = "kueue.x-k8s.io/queue-name"
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


def slug(run_name: str) -> str:
    """Return a DNS-1035 label of at most 30 characters; different names give different slugs.

    A name that is such a label already is its own slug; any other keeps what it can and ends in a digest of the whole.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", run_name.lower()).strip("-")
    plain = plain if plain[:1].isalpha() else f"r-{plain}".rstrip("-")
    if plain == run_name and len(plain) <= SLUG_CHARS and not re.search(r"-[0-9a-f]{8}$", plain):
        return plain
    digest = hashlib.sha256(run_name.encode()).hexdigest()[:8]
    return f"{plain[: SLUG_CHARS - 9].rstrip('-')}-{digest}"


def check_run_name(run_name: str) -> None:
    """Raise `UsageError` for a run name that cannot be a label: pods and workflows are found by it."""
    if not _LABEL.fullmatch(run_name):
        raise UsageError(
            f"--name {run_name!r}: on a cluster a run's name is a label; use at most 63 letters, digits, dots, dashes "
            "and underscores, a letter or digit first and last"
        )


def workflow_name(run_name: str, attempt: int) -> str:
    """Return the name of the Workflow of a run's attempt (from 0): posting it twice makes one run, not two."""
    return f"{slug(run_name)}-{attempt}"


def template_name(profile: Profile) -> str:
    """Return the name of a profile's WorkflowTemplate."""
    return f"leti-{profile.name}"
