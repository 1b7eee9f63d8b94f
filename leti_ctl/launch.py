"""Creating a run: its name, what has to be true before the first minute is spent, and what is printed about it."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from collections.abc import Mapping
from typing import Any

import click

from leti_ctl import control
from leti_ctl.artifacts import ancestry
from leti_ctl.config import specs
from leti_ctl.pipeline import plan
from leti_ctl.results import summary, tables
from stages.contract.errors import SandboxUnavailable, SpecError, UsageError
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import open_store

NAME = re.compile(r"\w[\w.-]*")
"""A run's: it is a folder, a part of keys, and a word of the commands that messages name."""


def make_name(stem: str) -> str:
    """Return a run name nobody has: what it runs, when, and a little chance."""
    return f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def create(spec: RunSpec, store_uri: str, name: str, *, here: bool = True) -> Run:
    """Write the spec of a new run; `UsageError` when the name is taken. `here` says that this machine will run it.

    The run's spec says more than `spec` where that starts from another run's checkpoint (`ancestry.resolve`).
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"--name {name!r}: use letters, digits, dots, dashes and underscores, no dot or dash first")
    if here:
        check_machine(spec)
    run = Run(open_store(store_uri), name)
    if not run.create(ancestry.resolve(spec, run.store)):
        raise UsageError(f"--name {name!r}: the run exists; go on with it: leti-ctl resume {control.address(run)}")
    ancestry.confirm(run)
    return run


def print_summary(run: Run, *, as_json: bool) -> None:
    """Print what a run has come to."""
    found = summary.summarize(run)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        tables.print_summary(found)


def print_plan(spec: RunSpec, *, as_json: bool, workflow: Mapping[str, Any] | None = None) -> None:
    """Print the resolved spec and every unit in starting order; under JSON also the cluster's workflow."""
    whole = plan(spec)
    if as_json:
        units = [
            {"unit": unit.id, "stage": unit.stage, "iteration": unit.iteration, "split": unit.split,
             "part": str(unit.part), "after": [other.id for other in whole.after[unit]]}
            for unit in whole.units
        ]  # fmt: skip
        data = {"spec": spec.model_dump(mode="json"), "spec_sha256": spec.digest(), "plan": units}
        if workflow is not None:
            data["workflow"] = workflow
        click.echo(json.dumps(data, indent=2))
        return
    click.echo(f"{specs.to_yaml(spec)}\n# plan: {len(whole.units)} units, spec {spec.digest()[:12]}")
    for unit in whole.units:
        click.echo(f"#   {unit.label}")


def check_machine(spec: RunSpec) -> None:
    """Refuse now what would fail only after the first samples are generated."""
    if spec.train.nodes > 1:
        raise SpecError(
            f"train.nodes: {spec.train.nodes}, and this is one machine; set 1 and raise train.processes, or submit to "
            "a cluster with --backend argo"
        )
    if spec.execute.sandbox == "gvisor" and spec.runs_programs() and shutil.which("runsc") is None:
        raise SandboxUnavailable(
            "execute.sandbox: gvisor needs runsc, which is not on the PATH; install it (Debian: apt-get install -t "
            "bookworm-backports runsc) or choose the weaker --set execute.sandbox=process"
        )
