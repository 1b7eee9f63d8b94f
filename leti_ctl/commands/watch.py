"""`leti-ctl watch`: follow a run, wherever it goes on."""

from __future__ import annotations

import click

from leti_ctl import options


@click.command()
@click.argument("run")
@options.store
def watch(run: str, store_uri: str) -> None:
    """Follow a run to its end: iterations, stages and parts, what runs, what waits and why.

    A table on a terminal, a line per change elsewhere. Watching changes nothing; interrupt it at any time.
    """
    from leti_ctl import control
    from leti_ctl.config import contexts
    from leti_ctl.follow import watching
    from leti_ctl.follow.board import make_board
    from stages.contract.store import open_store

    opened = control.open_run(open_store(store_uri), run)
    driver = control.find_driver(opened)
    on_cluster = driver.is_workflow if driver else bool(control.workflows(opened))
    try:
        if on_cluster:
            from leti_ctl.backends.argo import drive

            if error := drive.watch(opened, contexts.current()[1]):
                raise error
            return
        with make_board() as board:
            for picture in watching.pictures(opened):
                board.show(picture)
    except KeyboardInterrupt:
        click.echo(f"the run goes on; `leti-ctl stop {control.address(opened)}` ends it", err=True)
