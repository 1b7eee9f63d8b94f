"""`leti-ctl status`: what a run has come to."""

from __future__ import annotations

import click

from leti_ctl import options


@click.command()
@click.argument("run")
@options.store
@options.as_json
def status(run: str, store_uri: str, as_json: bool) -> None:
    """Show a run: every iteration's scores, error types, speeds and seconds per stage.

    Of a run on a cluster also its workflow's phase, and which pods wait or failed and why; where the cluster cannot be
    reached the store answers alone.
    """
    import json

    from leti_ctl import control
    from leti_ctl.config import contexts
    from leti_ctl.results import summary, tables
    from stages.contract.store import open_store

    opened = control.open_run(open_store(store_uri), run)
    found = summary.summarize(opened)
    if control.workflows(opened):
        from leti_ctl.backends.argo import drive

        found["cluster"] = drive.sight_of(opened, contexts.current()[1])
        found["phase"] = drive.agree(found["phase"], found["cluster"])
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    tables.print_summary(found)
    if "cluster" in found:
        drive.print_cluster(found["cluster"])
