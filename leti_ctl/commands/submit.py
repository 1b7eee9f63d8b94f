"""`leti-ctl submit`: resolve a spec, create the run, drive it here or on a cluster and print what it came to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from leti_ctl import options

if TYPE_CHECKING:
    from leti_ctl.backends.argo.drive import Wanted
    from stages.contract.spec import RunSpec


@click.command()
@options.preset
@options.spec_file
@options.iterations
@options.overrides
@options.store
@click.option("--name", metavar="RUN", help="Name of the run; by default the preset's or file's and the time.")
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
    from leti_ctl import contexts, launch, specs
    from stages.contract.errors import UsageError

    if not (preset or file):
        preset = contexts.current()[1].preset or (None if iterations is None else contexts.DEFAULT_PRESET)
        if preset is None:
            raise UsageError("submit needs a spec: --preset NAME (see `leti-ctl presets`), -f RUN.yaml or --iterations")
        click.echo(f"neither --preset nor -f: preset {preset}; `leti-ctl presets` lists others", err=True)
    spec = specs.load_spec(preset=preset, file=file, overrides=overrides, iterations=iterations)
    choice = contexts.choose(backend)
    name = name or launch.make_name(file.stem if file else preset or "run")
    if choice.backend == "argo":
        from leti_ctl.backends.argo.drive import Wanted

        wanted = Wanted(contexts.current()[1], profile, choice.why, follow, as_json)
        _submit_to_cluster(spec, name, store_uri, wanted, dry_run)
        return
    if dry_run == "server":
        raise UsageError("--dry-run=server: backend local has no server to ask; use --dry-run, or --backend argo")
    if dry_run:
        launch.print_plan(spec, as_json=as_json)
        return
    run = launch.create(spec, store_uri, name)
    launch.drive(run, run.spec, why=choice.why, as_json=as_json)


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
