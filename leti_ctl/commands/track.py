"""`leti-ctl track`: runs told to MLflow or TensorBoard."""

from __future__ import annotations

import click

from leti_ctl import options


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--to",
    "targets",
    multiple=True,
    required=True,
    metavar="TRACKER:ADDRESS",
    help="mlflow:URI (a server, sqlite:///FILE; empty: MLFLOW_TRACKING_URI) or tensorboard:DIR; repeatable.",
)
@click.option("--experiment", default="leti", show_default=True, metavar="NAME", help="MLflow experiment.")
@click.option("--follow", is_flag=True, help="Go on for as long as a run is driven, telling what is new.")
@click.option("--every", type=click.FloatRange(min=0.1), default=30.0, show_default=True, help="Seconds; --follow.")
@options.store
@options.as_json
def track(
    runs: tuple[str, ...],
    targets: tuple[str, ...],
    experiment: str,
    follow: bool,
    every: float,
    store_uri: str,
    as_json: bool,
) -> None:
    """Tell runs, finished or not, to experiment trackers: every number, the spec, where the artifacts are.

    Repeating it adds what is new and nothing else. Artifacts stay in the store; trackers get their keys and digests.
    """
    import json

    from leti_ctl import control
    from leti_ctl.results import tables
    from leti_ctl.tracking import sink as tracking
    from stages.contract.store import open_store

    store = open_store(store_uri)
    opened = [control.open_run(store, name) for name in runs]
    sinks = {target: tracking.open_sink(target, experiment) for target in targets}
    try:
        for found in tracking.exports(opened, sinks, every if follow else None):
            rows = [{"to": target, **each._asdict()} for target, each in found]
            if as_json:
                click.echo(json.dumps({"exports": rows}))
            else:
                tables.print_rows(rows, ("run", "phase", "points", "new", "to"), empty="no runs")
    except KeyboardInterrupt:
        click.echo("what was told stays; the same command goes on from there", err=True)
