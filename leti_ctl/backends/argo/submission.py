"""Starting a run on a cluster, going on with one, and ending one: the store's records and the cluster's objects."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any, NamedTuple

from leti_ctl import control, decisions
from leti_ctl.backends.argo import templates
from leti_ctl.backends.argo.check import check_structure
from leti_ctl.backends.argo.cluster import SUBMISSION, Cluster, is_completed, open_cluster, phase
from leti_ctl.backends.argo.names import MANIFEST_DIGEST, SPEC_DIGEST, check_run_name, template_name, workflow_name
from leti_ctl.backends.argo.workflow import workflow
from leti_ctl.config.contexts import DEFAULT_NAMESPACE, Context
from leti_ctl.config.profiles import Profile, load_profile, refuse
from leti_ctl.config.specs import PATH_FIELDS
from leti_ctl.pipeline import done_units, plan
from stages.contract.errors import LetiError, SpecError, Stopped, UsageError
from stages.contract.run import Run
from stages.contract.spec import RunSpec

ENDING_SECONDS = 120.0
POLL_SECONDS = 1.0


class Target(NamedTuple):
    """A cluster and what a run must know of it."""

    cluster: Cluster
    profile: Profile
    named: str
    """What `--profile` takes to load the profile again: a name, or a file's whole path."""
    argo_url: str | None = None


def profile_name(context: Context, option: str | None) -> str:
    """Return the profile that an option or a context names; `UsageError` when neither does."""
    named = option or context.profile
    if named is None:
        raise UsageError(
            "--backend argo: which node pools? name them with --profile P (such as gke-l4 or kind), or set profile in "
            "the context file"
        )
    return named


def open_target(context: Context, profile: str | None) -> Target:
    """Return the cluster that a context names, with a profile."""
    named = profile_name(context, profile)
    loaded = load_profile(named)
    if Path(named).is_file():
        named = str(Path(named).absolute())
    cluster = open_cluster(context.kube_context, context.namespace or loaded.namespace, DEFAULT_NAMESPACE)
    return Target(cluster, loaded, named, context.argo_url)


def prepare(spec: RunSpec, run_name: str, store_uri: str, profile: Profile) -> list[str]:
    """Refuse what cannot run on a cluster before anything is written; return warnings, one line each."""
    check_run_name(run_name)
    refuse(spec, profile)
    check_store(store_uri)
    return [
        f"{field}: {value} is a path of this machine; pods find it only if it is in their image, at the same place"
        for field, value in local_paths(spec).items()
    ]


def check_store(store_uri: str) -> None:
    """Raise `UsageError` for a store that pods cannot reach."""
    if not store_uri.startswith("s3://"):
        raise UsageError(f"--store {store_uri!r}: pods on a cluster reach no folder of this machine; use s3://bucket")


def local_paths(spec: RunSpec) -> dict[str, str]:
    """Return the fields of a spec that name a file or folder of this machine."""
    found = {}
    for field in PATH_FIELDS:
        section, name = field.split(".")
        value = getattr(getattr(spec, section), name)
        if isinstance(value, str) and Path(value).is_absolute():
            found[field] = value
    return found


def build(run: Run, spec: RunSpec, target: Target, *, attempt: int, start: int) -> dict[str, Any]:
    """Return the Workflow of an attempt, checked and marked as this submission's."""
    made = workflow(run.name, run.uri, spec, target.profile, attempt=attempt, start=start)
    made["metadata"]["namespace"] = target.cluster.namespace
    made["metadata"]["annotations"][SUBMISSION] = secrets.token_hex(8)
    if faults := check_structure(made):
        raise SpecError(f"workflow {made['metadata']['name']}: {faults[0]}")
    return made


def check_template(target: Target) -> None:
    """Raise `UsageError` unless the profile's WorkflowTemplate is in the cluster, as this version renders it."""
    name = template_name(target.profile)
    found = target.cluster.find_template(name)
    remedy = f"apply it: leti-ctl render --profile {target.named} | kubectl apply -n {target.cluster.namespace} -f -"
    if found is None:
        raise UsageError(f"workflow template {target.cluster.namespace}/{name} is not in the cluster; {remedy}")
    there = (found["metadata"].get("annotations") or {}).get(MANIFEST_DIGEST, "")
    ours = templates.digest(templates.workflow_spec(target.profile))
    if there != ours:
        raise UsageError(
            f"workflow template {target.cluster.namespace}/{name} is another version ({there[:12] or 'unmarked'}, this "
            f"leti-ctl renders {ours[:12]}); {remedy}"
        )


def submit(
    run: Run, spec: RunSpec, target: Target, *, start: int = 0, dry_run: bool = False, bid: control.Bid | None = None
) -> control.Workflow:
    """Take the run for its next Workflow and create that; with `dry_run` the server checks it and nothing is kept.

    Raises `UsageError` when a workflow of the run is still going, or when somebody else has taken the run since the
    bidder looked; `Stopped` when the run was stopped while the Workflow was made.
    """
    check_template(target)
    bid = bid or control.Bid(control.newest(run))
    attempt = _next_attempt(run, target.cluster)
    made = build(run, spec, target, attempt=attempt, start=start)
    record = control.Workflow(
        attempt=attempt,
        name=made["metadata"]["name"],
        namespace=target.cluster.namespace,
        kube_context=target.cluster.kube_context,
        server=target.cluster.api.host,
        profile=target.named,
        start=start,
        at=control.now(),
        url=link(target, made["metadata"]["name"]),
    )
    if dry_run:
        target.cluster.create(made, dry_run=True)
        return record
    # As the run's records have it, whichever version of leti wrote its spec.
    made["metadata"]["annotations"][SPEC_DIGEST] = run.spec_sha256
    # Claimed first: whoever is killed between the two leaves a workflow that can be found.
    driver = control.Driver(backend="argo", host=host(record), pid=0, born=0, since=record.at, workflow=record)
    held = control.claim(bid, driver, spec)
    try:
        target.cluster.create(made)
    except UsageError:
        held.end(control.REFUSED)
        raise
    _take_back(held, record, target.cluster)
    return record


def _take_back(held: control.Epoch, record: control.Workflow, cluster: Cluster) -> None:
    """End a workflow that was just made if it lost the run, or was stopped, before it was there to be found."""
    lost = held.lost()
    if lost or held.is_stop_requested():
        cluster.shut_down(record.name, "Terminate")
        held.end("Failed")
        if lost:
            raise UsageError(lost)
        raise Stopped(f"run {held.run.name} was stopped while its workflow was made; `leti-ctl resume` goes on")


def host(record: control.Workflow) -> str:
    """Return the name that a workflow has as a driver."""
    return f"{record.namespace}/{record.name}"


def refuse_driven(bid: control.Bid) -> None:
    """Raise `UsageError` while a process drives the run; a workflow that does is found in the cluster."""
    if not (bid.after.driver and bid.after.driver.is_workflow):
        bid.check()


def link(target: Target, name: str) -> str | None:
    """Return the address of a workflow in the Argo UI."""
    base = target.argo_url
    return base and f"{base.rstrip('/')}/workflows/{target.cluster.namespace}/{name}"


def first_incomplete(run: Run, spec: RunSpec) -> int | None:
    """Return the iteration a workflow has to begin with, or None when everything is committed."""
    last = decisions.effective(run, spec)
    whole = plan(last)
    done = done_units(run, last, whole)
    return min((unit.iteration for unit in whole.units if unit not in done), default=None)


def _next_attempt(run: Run, cluster: Cluster) -> int:
    """Number the next Workflow after all that were, in the cluster or by the store's records."""
    existing = cluster.workflows(run.name)
    going = [one for one in existing if not is_completed(one)]
    if going:
        name = going[-1]["metadata"]["name"]
        raise UsageError(
            f"run {run.name}: workflow {cluster.namespace}/{name} is {phase(going[-1])}; follow it with `leti-ctl "
            f"watch {control.address(run)}`, or end it with `leti-ctl stop {control.address(run)}`"
        )
    names = {str(one["metadata"]["name"]) for one in existing}
    attempt = control.next_attempt(run)
    while workflow_name(run.name, attempt) in names:
        attempt += 1
    return attempt


def stop(run: Run, record: control.Workflow, cluster: Cluster, *, at_once: bool) -> str:
    """End a run's workflow and remove its JobSets; return what was done, in words.

    Asked to stop, Argo ends the pods and still runs the exit handler, which records the end. `at_once` terminates: no
    exit handler runs, so the end is recorded from here.
    """
    # Marked first: who has claimed the run and not yet made the workflow looks for the mark when it is made.
    held = control.epoch_of(run, host(record)) or control.unclaimed(run)
    held.request_stop()
    how = "Terminate" if at_once else "Stop"
    found = cluster.shut_down(record.name, how)
    reaped = cluster.reap(run.name)
    ended = _wait(cluster, record.name) if at_once or not found else None
    if ended is not None:
        # What applies JobSets may have been at it while it was being ended.
        reaped += cluster.reap(run.name)
        held.end(ended)
    removed = f"; removed {', '.join(reaped)}" if reaped else ""
    if not found:
        return f"workflow {record.namespace}/{record.name} is gone from the cluster{removed}"
    return f"workflow {record.namespace}/{record.name} was asked to {how.lower()}{removed}"


def _wait(cluster: Cluster, name: str) -> str:
    """Wait for a workflow's end and return its phase; Failed for one that is gone."""
    ends = time.monotonic() + ENDING_SECONDS
    while True:
        found = cluster.find_workflow(name)
        if found is None:
            return "Failed"
        if is_completed(found):
            return phase(found)
        if time.monotonic() > ends:
            raise LetiError(
                f"workflow {cluster.namespace}/{name} is still {phase(found)} after {ENDING_SECONDS:.0f} s; is the "
                "Argo controller running? See `leti-ctl doctor`"
            )
        time.sleep(POLL_SECONDS)
