"""Runs that start from other runs: what `submit` looks up before a spec is written, and who needs whose checkpoints."""

from __future__ import annotations

from leti_ctl import control
from leti_ctl.results import summary
from stages.contract.errors import NoRun, UsageError
from stages.contract.origin import complete, find_checkpoint
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import Store


def resolve(spec: RunSpec, store: Store) -> RunSpec:
    """Return the spec with nothing left open about the checkpoint it starts from; any other spec as it is.

    Fields of `model` that the spec does not set become the other run's, and a null `from_iteration` its best by its own
    selection, which is known when that run has ended. Raises what `find_checkpoint` raises, and `UsageError` for a
    run without a best iteration.
    """
    if spec.model.from_run is None:
        return spec
    other = control.open_run(store, spec.model.from_run)
    iteration = spec.model.from_iteration
    resolved = complete(spec, other.spec, _best(other) if iteration is None else iteration)
    find_checkpoint(store, resolved.model)
    return resolved


def _best(run: Run) -> int:
    found = summary.summarize(run)
    if found["phase"] != "Succeeded" or found["best"] is None:
        raise UsageError(
            f"model.from_iteration: null takes the best iteration of run {run.name}, which is {found['phase']} and "
            "has none for certain; name an iteration"
        )
    return int(found["best"]["iteration"])


def confirm(run: Run) -> None:
    """Look, when a run is made, whether what it starts from is still there and stays.

    From here on a collection of the other run sees this one. One that is at work may have looked before that.
    """
    model = run.spec.model
    if model.from_run is None:
        return
    epoch = control.newest(Run(run.store, model.from_run))
    if epoch.driver and epoch.driver.backend == "gc" and epoch.is_driven():
        raise UsageError(
            f"model.from_run: {model.from_run} is being collected by {epoch.driver.title} since {epoch.driver.since}; "
            f"run {run.name} is made: when that has ended, `leti-ctl resume {control.address(run)}` goes on"
        )
    find_checkpoint(run.store, model)


def claimed(run: Run) -> dict[int, list[str]]:
    """Return which of a run's checkpoints other runs of its store start from, and which runs those are.

    A damaged spec raises `ArtifactError`, and one that these credentials may not read `UsageError`: it could name any
    checkpoint.
    """
    found: dict[int, list[str]] = {}
    for name in control.run_names(run.store):
        other = Run(run.store, name)
        try:
            model = other.spec.model
        except NoRun:
            continue  # a folder without a spec is no run
        if model.from_run == run.name and name != run.name and model.from_iteration is not None:
            found.setdefault(model.from_iteration, []).append(name)
    return found
