"""`leti-ctl status`: what a run has come to."""

from __future__ import annotations

import click

from leti_ctl import options


@click.command()
@click.argument("run")
@options.store
@options.as_json
def status(run: str, store_uri: str, as_json: bool) -> None:
    """Show a run: every iteration's scores, error types, speeds and seconds per stage."""
    import json

    from leti_ctl import control, summary, tables
    from stages.contract.store import open_store

    found = summary.summarize(control.open_run(open_store(store_uri), run))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        tables.print_summary(found)
