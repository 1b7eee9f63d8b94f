"""`leti-ctl runs`: the runs of a store."""

from __future__ import annotations

import click

from leti_ctl import options


@click.command()
@options.store
@options.as_json
def runs(store_uri: str, as_json: bool) -> None:
    """List the runs of a store with their phase and progress."""
    import json

    from leti_ctl import control, summary, tables
    from stages.contract.store import open_store

    store = open_store(store_uri)
    rows = [summary.outline(store, name) for name in control.run_names(store)]
    if as_json:
        click.echo(json.dumps({"as_of": control.now(), "store": store.uri, "runs": rows}, indent=2))
    else:
        columns = ("run", "phase", "backend", "iterations", "units", "model", "task")
        tables.print_rows(rows, columns, empty=f"no runs in {store.uri}")
