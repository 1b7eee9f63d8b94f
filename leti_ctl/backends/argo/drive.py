"""What the commands do for a run on a cluster, with what they print about it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import click
import yaml

from leti_ctl import control, launch
from leti_ctl.backends.argo import submission
from leti_ctl.backends.argo.cluster import Cluster, find_cluster, is_completed, phase
from leti_ctl.backends.argo.follow import Watcher
from leti_ctl.backends.argo.state import failures, sightings
from leti_ctl.config.contexts import Context
from leti_ctl.config.profiles import load_profile
from leti_ctl.follow.board import make_board
from leti_ctl.results import tables
from stages.contract.errors import LetiError
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import open_store

GONE = "gone from the cluster"


class Wanted(NamedTuple):
    """What a person asked for besides the spec."""

    context: Context
    profile: str | None
    why: str
    """Why the run goes to a cluster."""
    follow: bool
    as_json: bool


def show_manifest(spec: RunSpec, name: str, store_uri: str, wanted: Wanted) -> dict[str, Any]:
    """Return the Workflow that `submit` would create; no cluster and no store is asked."""
    from leti_ctl.backends.argo.workflow import workflow

    profile = load_profile(_profile_name(wanted))
    _warn(submission.prepare(spec, name, store_uri, profile))
    return workflow(name, Run(open_store(store_uri), name).uri, spec, profile)


def as_yaml(manifest: dict[str, Any]) -> str:
    """Return a manifest as a YAML document."""
    return "---\n" + yaml.safe_dump(manifest, sort_keys=False, width=1000)


def check_on_server(spec: RunSpec, name: str, store_uri: str, wanted: Wanted) -> str:
    """Have the API server check the Workflow without keeping it; return what it would be called."""
    target = submission.open_target(wanted.context, _profile_name(wanted))
    _warn(submission.prepare(spec, name, store_uri, target.profile))
    record = submission.submit(Run(open_store(store_uri), name), spec, target, dry_run=True)
    return f"workflow {record.namespace}/{record.name}"


def submit(spec: RunSpec, name: str, store_uri: str, wanted: Wanted) -> None:
    """Make a new run and its first workflow, and follow it."""
    target = submission.open_target(wanted.context, _profile_name(wanted))
    _warn(submission.prepare(spec, name, store_uri, target.profile))
    submission.check_template(target)
    run = launch.create(spec, store_uri, name, here=False)
    try:
        record = submission.submit(run, run.spec, target, bid=control.Bid(control.unclaimed(run)))
    except LetiError as error:
        error.args = (f"{error}; the run is made: `leti-ctl resume {control.address(run)} --backend argo` tries again",)
        raise
    _follow(run, record, target.cluster, wanted)


def resume(run: Run, spec: RunSpec, wanted: Wanted, bid: control.Bid) -> None:
    """Go on with a run in a new workflow, from its first iteration with something to do."""
    control.check_amendment(run, spec)
    last = next(iter(control.workflows(run)[-1:]), None)
    context = wanted.context if last is None else _where(wanted.context, last)
    target = submission.open_target(context, wanted.profile or (last.profile if last else None))
    _warn(submission.prepare(spec, run.name, run.store.uri, target.profile))
    start = submission.first_incomplete(run, spec)
    if start is None:
        control.amend(run, spec, bid)
        launch.print_summary(run, as_json=wanted.as_json)
        return
    submission.refuse_driven(bid)
    _follow(run, submission.submit(run, spec, target, start=start, bid=bid), target.cluster, wanted)


def cluster_of(run: Run, context: Context) -> Cluster:
    """Return the cluster of the run's last workflow, as a person's own context or else the run's record names it."""
    record = control.workflows(run)[-1]
    return find_cluster(_where(context, record), record)


def watch(run: Run, context: Context) -> LetiError | None:
    """Follow the run's last workflow to its end; return why it failed, or None."""
    record = control.workflows(run)[-1]
    watcher = Watcher(run, record, cluster_of(run, context))
    with make_board() as board:
        for picture in watcher.pictures():
            board.show(picture)
    return watcher.error()


def stop(run: Run, context: Context, *, at_once: bool) -> str:
    """End the run's last workflow, and one that was made meanwhile; return what was done, in words."""
    told: list[str] = []
    last: control.Workflow | None = None
    while (record := control.workflows(run)[-1]) != last:
        told.append(submission.stop(run, record, cluster_of(run, context), at_once=at_once))
        last = record
    return "; ".join(told)


def sight_of(run: Run, context: Context) -> dict[str, Any]:
    """Return what the cluster knows of the run: its workflow's phase, and which pods wait or failed and why.

    An unreachable cluster is no error here but an entry: the store answers for the rest.
    """
    record = control.workflows(run)[-1]
    known: dict[str, Any] = {"workflow": f"{record.namespace}/{record.name}", "url": record.url, "phase": None}
    try:
        cluster = cluster_of(run, context)
        found = cluster.find_workflow(record.name)
        if found is None:
            return {**known, "phase": GONE, "message": "what is known is from the store"}
        seen = [] if is_completed(found) else sightings(cluster.pods(run.name))
        told = failures(found) if is_completed(found) and phase(found) != "Succeeded" else []
        status = found.get("status") or {}
        waiting = [
            {"pod": one.name, "stage": one.place.stage, "iteration": one.place.iteration, "reason": one.reason}
            for one in seen
            if one.reason and one.is_active
        ]
        message = status.get("message") or ""
        return {**known, "phase": phase(found), "message": message, "waiting": waiting, "failed": told}
    except LetiError as error:
        return {**known, "message": f"not reached: {error}"}


def agree(stored: str, found: dict[str, Any]) -> str:
    """Return a run's phase by the store's word and the cluster's: a workflow that ended unseen is not running."""
    ended = {"Failed": "Failed", "Error": "Failed", GONE: "Stopped"}
    return ended.get(found["phase"], stored) if stored == "Running" else stored


def _follow(run: Run, record: control.Workflow, cluster: Cluster, wanted: Wanted) -> None:
    where = f"workflow {record.namespace}/{record.name} (backend argo: {wanted.why})"
    click.echo(f"run {run.name} is {where}, artifacts in {run.uri}", err=True)
    if record.url:
        click.echo(record.url, err=True)
    if not wanted.follow:
        if wanted.as_json:
            click.echo(json.dumps({"run": run.name, "uri": run.uri, "workflow": record.model_dump()}, indent=2))
        return
    watcher = Watcher(run, record, cluster)
    try:
        with make_board() as board:
            for picture in watcher.pictures():
                board.show(picture)
    except KeyboardInterrupt:
        address = control.address(run)
        click.echo(f"the run goes on; `leti-ctl watch {address}` follows, `leti-ctl stop {address}` ends it", err=True)
        return
    launch.print_summary(run, as_json=wanted.as_json)
    if error := watcher.error():
        raise error


def print_cluster(found: dict[str, Any]) -> None:
    """Print what `sight_of` returned."""
    out = tables.console()
    message = f" · {found['message']}" if found.get("message") else ""
    out.print(f"workflow {found['workflow']}  {found['phase'] or 'unknown'}{message}", markup=False, soft_wrap=True)
    for pod in found.get("waiting", []):
        out.print(f"  {pod['pod']} waits: {pod['reason']}", markup=False, style="yellow", soft_wrap=True)
    for line in found.get("failed", []):
        out.print(f"  {line}", markup=False, style="red", soft_wrap=True)
    if found["url"]:
        out.print(f"  {found['url']}", markup=False, soft_wrap=True)


def _profile_name(wanted: Wanted) -> str:
    return submission.profile_name(wanted.context, wanted.profile)


def _where(context: Context, record: control.Workflow) -> Context:
    """Lay a person's own context over where the run's record says its workflow is.

    The record's name of a kubeconfig context is another person's; one's own context for a cluster comes first.
    """
    mine = context if context.backend == "argo" else Context()
    return mine.model_copy(
        update={"namespace": record.namespace, "kube_context": mine.kube_context or record.kube_context}
    )


def _warn(lines: list[str]) -> None:
    for line in lines:
        click.echo(f"warning: {line}", err=True)
