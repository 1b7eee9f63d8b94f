"""`leti-ctl logs`: what the stages of a run logged."""

from __future__ import annotations

import click

from leti_ctl import options


@click.command()
@click.argument("run")
@click.option("--stage", type=click.Choice(["prepare", "generate", "execute", "build", "train", "evaluate"]))
@click.option("--iteration", type=click.IntRange(min=0), help="Only this iteration.")
@click.option("--split", metavar="PASS", help="Only this sampling pass: train, test, ...")
@options.store
@options.as_json
def logs(run: str, stage: str | None, iteration: int | None, split: str | None, store_uri: str, as_json: bool) -> None:
    """Print what the stages of a run logged, every attempt, oldest first.

    With --json one JSON object per line, as logged.
    """
    import json

    from leti_ctl import control, journal
    from stages.contract.store import open_store

    opened = control.open_run(open_store(store_uri), run)
    for entry in journal.entries(opened, stage=stage, iteration=iteration, split=split):
        click.echo(json.dumps(entry) if as_json else journal.as_text(entry))
