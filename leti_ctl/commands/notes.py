"""`leti-ctl notes`: the failures that people or programs can write feedback on."""

from __future__ import annotations

import click

from leti_ctl import options


@click.command()
@click.argument("run")
@click.option("--iteration", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--missing", is_flag=True, help="Only those without a note.")
@click.option("--notes", "address", metavar="FILE|s3://...", help="Look notes up here; default: the run's.")
@options.store
def notes(run: str, iteration: int, missing: bool, address: str | None, store_uri: str) -> None:
    """Print the distinct failures of an iteration's training pass as JSONL, each a note as soon as `text` is written.

    The lines go into the file that the spec names as feedback.notes; then resume the run, or start one that takes them.
    """
    from leti_ctl import control
    from leti_ctl.artifacts.notes import find_requests
    from stages.contract.store import open_store

    opened = control.open_run(open_store(store_uri), run)
    for each in find_requests(opened, iteration, notes=address, missing=missing):
        click.echo(each.model_dump_json())
