"""`leti-ctl submit`: resolve a spec, create the run, drive it on this machine and print what it came to."""

from __future__ import annotations

from pathlib import Path

import click

from leti_ctl import options


@click.command()
@click.option("--preset", metavar="NAME", help="Start from a preset; see `leti-ctl presets`.")
@click.option(
    "-f", "--file", type=click.Path(path_type=Path), metavar="RUN.yaml", help="Run spec, laid over the preset."
)
@options.iterations
@options.overrides
@options.store
@click.option("--name", metavar="RUN", help="Name of the run; by default the preset's or file's and the time.")
@click.option("--dry-run", is_flag=True, help="Print the resolved spec and the plan; start nothing.")
@options.as_json
def submit(
    preset: str | None,
    file: Path | None,
    iterations: int | None,
    overrides: tuple[str, ...],
    store_uri: str,
    name: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Start a run and follow it to the end.

    The spec is a preset, a file, or a file laid over a preset; --set and --iterations override both. Interrupt at any
    time: `leti-ctl resume` goes on from what is committed.
    """
    from leti_ctl import launch, specs
    from stages.contract.errors import UsageError

    if not (preset or file):
        raise UsageError("submit needs a spec: --preset NAME (see `leti-ctl presets`), -f RUN.yaml, or both")
    spec = specs.load_spec(preset=preset, file=file, overrides=overrides, iterations=iterations)
    if dry_run:
        launch.print_plan(spec, as_json=as_json)
        return
    run = launch.create(spec, store_uri, name or launch.make_name(file.stem if file else preset or "run"))
    launch.drive(run, spec, as_json=as_json)
