"""`leti-ctl stop`: end a run's driver, process or workflow."""

from __future__ import annotations

import click

from leti_ctl import options


@click.command()
@click.argument("run")
@click.option(
    "--now", is_flag=True, help="On a cluster: terminate. Pods get no time to save, and no exit handler runs."
)
@options.store
@options.as_json
def stop(run: str, now: bool, store_uri: str, as_json: bool) -> None:
    """Stop a run; everything it committed stays and `leti-ctl resume` goes on from there.

    On a cluster the workflow is asked to stop and the run's JobSets are removed.
    """
    import json

    from leti_ctl import control
    from leti_ctl.config import contexts
    from stages.contract.store import open_store

    opened = control.open_run(open_store(store_uri), run)
    driver = control.find_driver(opened)
    if driver and driver.is_workflow:
        from leti_ctl.backends.argo import drive

        applied, detail = True, drive.stop(opened, contexts.current()[1], at_once=now)
    else:
        applied = control.request_stop(opened)
        detail = "asked to stop" if applied else "not running"
    click.echo(json.dumps({"target": run, "applied": applied, "detail": detail}) if as_json else f"{run}: {detail}")
