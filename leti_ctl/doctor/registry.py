"""Which checks a backend has, and the subject they are asked about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from leti_ctl.config import contexts, specs
from leti_ctl.doctor import machine, sandbox, storage
from leti_ctl.doctor.report import Check, Subject
from leti_ctl.estimate.rates import load_rates
from leti_ctl.estimate.work import count_parameters
from stages.contract.errors import UsageError

LOCAL: tuple[Check, ...] = (*machine.CHECKS, *sandbox.CHECKS, *storage.CHECKS)


def subject(store_uri: str, *, preset: str | None, file: Path | None) -> Subject:
    """Return what every backend's checks are asked about: the store, and the run if one is named."""
    if not (preset or file):
        return Subject(store_uri)
    spec = specs.load_spec(preset=preset, file=file, overrides=(), iterations=None)
    try:
        return Subject(store_uri, spec, count_parameters(spec.model.source, load_rates()))
    except UsageError:
        return Subject(store_uri, spec)


def for_backend(backend: str, known: Subject, *, profile: str | None) -> tuple[tuple[Check, ...], Subject]:
    """Return the backend's checks and the subject with what they need."""
    if backend == "local":
        return LOCAL, known
    # Here, so that examining this machine needs no kubernetes client.
    from leti_ctl.doctor import access, capacity, cluster, install, template

    there = (*install.CHECKS, *access.CHECKS, *template.CHECKS, *capacity.CHECKS)
    found = cluster.reach(contexts.current()[1], profile)
    return (*machine.CLIENT, *there, *storage.CHECKS), replace(known, **found)
