"""`leti-ctl stop`: end a run's driver."""

from __future__ import annotations

import click

from leti_ctl import options


@click.command()
@click.argument("run")
@options.store
@options.as_json
def stop(run: str, store_uri: str, as_json: bool) -> None:
    """Stop a run; everything it committed stays and `leti-ctl resume` goes on from there."""
    import json

    from leti_ctl import control
    from stages.contract.store import open_store

    opened = control.open_run(open_store(store_uri), run)
    applied = control.request_stop(opened)
    detail = "asked to stop" if applied else "not running"
    click.echo(json.dumps({"target": run, "applied": applied, "detail": detail}) if as_json else f"{run}: {detail}")
