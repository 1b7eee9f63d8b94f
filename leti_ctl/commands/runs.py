"""`leti-ctl runs`: the runs of a store."""

from __future__ import annotations

import click

from leti_ctl import options


@click.command()
@click.option("--seeds", is_flag=True, help="Runs that differ in their seed alone in one row: mean and deviation.")
@options.store
@options.as_json
def runs(seeds: bool, store_uri: str, as_json: bool) -> None:
    """List the runs of a store with their phase and progress.

    With --seeds, what they came to: per spec the selected iteration's scores over its seeds; --json has every metric of
    every iteration.
    """
    import json

    from leti_ctl import control
    from leti_ctl.results import seeds as seeding
    from leti_ctl.results import summary, tables
    from stages.contract.store import open_store

    store = open_store(store_uri)
    if seeds:
        groups = [seeding.across(group) for group in seeding.of_store(store)]
        if as_json:
            click.echo(json.dumps({"as_of": control.now(), "store": store.uri, "groups": groups}, indent=2))
        else:
            tables.print_spreads(groups)
        return
    rows = [summary.outline(store, name) for name in control.run_names(store)]
    if as_json:
        click.echo(json.dumps({"as_of": control.now(), "store": store.uri, "runs": rows}, indent=2))
    else:
        columns = ("run", "phase", "backend", "iterations", "units", "model", "task")
        tables.print_rows(rows, columns, empty=f"no runs in {store.uri}")
