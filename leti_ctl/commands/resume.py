"""`leti-ctl resume`: go on with a run."""

from __future__ import annotations

import click

from leti_ctl import options


@click.command()
@click.argument("run")
@options.iterations
@options.overrides
@options.store
@options.take_over
@options.as_json
def resume(
    run: str, iterations: int | None, overrides: tuple[str, ...], store_uri: str, take_over: bool, as_json: bool
) -> None:
    """Go on with a run that was stopped, failed or killed; with --iterations, for longer than it was made for.

    Committed parts are kept, the rest is done. Only compatible fields may be changed; others are refused with a diff.
    """
    from leti_ctl import control, launch, specs
    from stages.contract.store import open_store

    opened = control.open_run(open_store(store_uri), run)
    wanted = specs.override(control.current_spec(opened), overrides=overrides, iterations=iterations)
    control.amend(opened, wanted)
    launch.drive(opened, wanted, as_json=as_json, take_over=take_over)
