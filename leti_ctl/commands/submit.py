"""`leti-ctl submit`: resolve a spec, create the run, drive it here or on a cluster and print what it came to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from leti_ctl import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leti_ctl.backends.argo.drive import Wanted
    from stages.contract.run import Run
    from stages.contract.spec import RunSpec


@click.command()
@options.preset
@options.spec_file
@options.iterations
@options.overrides
@options.store
@click.option("--name", metavar="RUN", help="Name of the run; by default the preset's or file's and the time.")
@click.option("--seeds", metavar="N,N,...", help="One run per seed, named NAME-sSEED; then mean and deviation.")
@options.backend
@options.profile
@options.follow
@click.option(
    "--dry-run",
    type=click.Choice(["client", "server"]),
    is_flag=False,
    flag_value="client",
    metavar="[client|server]",
    help="Print the resolved spec and the plan and start nothing; server: let the cluster check the workflow.",
)
@options.as_json
def submit(
    preset: str | None,
    file: Path | None,
    iterations: int | None,
    overrides: tuple[str, ...],
    store_uri: str,
    name: str | None,
    seeds: str | None,
    backend: str | None,
    profile: str | None,
    follow: bool,
    dry_run: str | None,
    as_json: bool,
) -> None:
    """Start a run and follow it to the end.

    The spec is a preset, a file, or a file laid over a preset; --set and --iterations override both. Where neither is
    named the context's preset is taken, or quickstart with --iterations alone. Interrupt at any time: here
    `leti-ctl resume` goes on from what is committed, and a cluster goes on by itself.
    """
    from leti_ctl import control, launch
    from leti_ctl.backends.local import drive as here
    from leti_ctl.config import contexts, specs
    from stages.contract.errors import UsageError

    if not (preset or file):
        preset = contexts.current()[1].preset or (None if iterations is None else contexts.DEFAULT_PRESET)
        if preset is None:
            raise UsageError("submit needs a spec: --preset NAME (see `leti-ctl presets`), -f RUN.yaml or --iterations")
        click.echo(f"neither --preset nor -f: preset {preset}; `leti-ctl presets` lists others", err=True)
    spec = specs.load_spec(preset=preset, file=file, overrides=overrides, iterations=iterations)
    choice = contexts.choose(backend)
    name = name or launch.make_name(file.stem if file else preset or "run")
    if seeds and dry_run:
        raise UsageError("--seeds with --dry-run: the plan of one seed is that of all; leave --seeds out")
    if choice.backend == "argo":
        from leti_ctl.backends.argo.drive import Wanted

        wanted = Wanted(contexts.current()[1], profile, choice.why, follow, as_json)
        if seeds:
            _seeds_on_cluster(spec, name, seeds, store_uri, wanted)
        else:
            _submit_to_cluster(spec, name, store_uri, wanted, dry_run)
        return
    if dry_run == "server":
        raise UsageError("--dry-run=server: backend local has no server to ask; use --dry-run, or --backend argo")
    if dry_run:
        launch.print_plan(spec, as_json=as_json)
        return
    if seeds:
        _seeds_here(spec, name, seeds, store_uri, choice.why, as_json)
        return
    run = launch.create(spec, store_uri, name)
    # A new run has no claim: who resumed it since, with a spec of its own perhaps, has it.
    here.drive(run, run.spec, why=choice.why, as_json=as_json, bid=control.Bid(control.unclaimed(run)))


def _seeded(spec: RunSpec, name: str, seeds: str) -> dict[str, RunSpec]:
    """Return the spec of each run by its name."""
    from leti_ctl.results import seeds as seeding

    return {f"{name}-s{seed}": spec.model_copy(update={"seed": seed}) for seed in seeding.parse(seeds)}


def _seeds_here(spec: RunSpec, name: str, seeds: str, store_uri: str, why: str, as_json: bool) -> None:
    """Drive one run after the other; all exist from the start, so that `resume` can go on with any of them."""
    from leti_ctl import launch
    from leti_ctl.backends.local import drive as here

    runs = [launch.create(each, store_uri, one) for one, each in _seeded(spec, name, seeds).items()]
    for run in runs:
        here.work(run, run.spec, why=why)
        if not as_json:
            launch.print_summary(run, as_json=False)
    _print_spread(runs, as_json)


def _seeds_on_cluster(spec: RunSpec, name: str, seeds: str, store_uri: str, wanted: Wanted) -> None:
    """Submit all runs, and follow one after the other to its end."""
    from leti_ctl import control
    from leti_ctl.backends.argo import drive
    from stages.contract.store import open_store

    named = _seeded(spec, name, seeds)
    for one, each in named.items():
        drive.submit(each, one, store_uri, wanted._replace(follow=False, as_json=False))
    runs = [control.open_run(open_store(store_uri), one) for one in named]
    errors = [drive.watch(run, wanted.context) for run in runs] if wanted.follow else []
    _print_spread(runs, wanted.as_json)
    if failed := next((error for error in errors if error), None):
        raise failed


def _print_spread(runs: Sequence[Run], as_json: bool) -> None:
    """Print what runs of several seeds came to together."""
    import json

    from leti_ctl.results import seeds as seeding
    from leti_ctl.results import tables

    found = [seeding.across(group) for group in seeding.groups(runs)]
    if as_json:
        click.echo(json.dumps({"groups": found}, indent=2))
    else:
        tables.print_spreads(found)


def _submit_to_cluster(spec: RunSpec, name: str, store_uri: str, wanted: Wanted, dry_run: str | None) -> None:
    from leti_ctl import launch
    from leti_ctl.backends.argo import drive

    if dry_run == "client":
        manifest = drive.show_manifest(spec, name, store_uri, wanted)
        launch.print_plan(spec, as_json=wanted.as_json, workflow=manifest)
        if not wanted.as_json:
            click.echo(drive.as_yaml(manifest), nl=False)
    elif dry_run == "server":
        click.echo(f"the cluster accepts {drive.check_on_server(spec, name, store_uri, wanted)}")
    else:
        drive.submit(spec, name, store_uri, wanted)
