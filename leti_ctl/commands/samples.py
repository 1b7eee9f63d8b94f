"""`leti-ctl samples`: solutions beside their verdict and feedback."""

from __future__ import annotations

import click

from leti_ctl import options


@click.command()
@click.argument("run")
@click.option("--iteration", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--split", default="train", show_default=True, metavar="PASS", help="Sampling pass: train, test, ...")
@click.option("--problem", metavar="ID", help="Only this problem.")
@click.option("--outcome", metavar="OUTCOME", help="Only this outcome (passed, failed, ...) or error type.")
@click.option("--limit", type=click.IntRange(min=1), default=5, show_default=True, help="At most so many.")
@options.store
@options.as_json
def samples(
    run: str,
    iteration: int,
    split: str,
    problem: str | None,
    outcome: str | None,
    limit: int,
    store_uri: str,
    as_json: bool,
) -> None:
    """Read what the model wrote: prompt, solution, verdict and feedback, one sample after another."""
    import json

    from leti_ctl import control
    from leti_ctl.artifacts import samples as inspection
    from leti_ctl.results import tables
    from stages.contract.store import open_store

    opened = control.open_run(open_store(store_uri), run)
    wanted = inspection.Filter(iteration, split, problem, outcome, limit)
    found = inspection.read_samples(opened, wanted)
    if as_json:
        click.echo(json.dumps({"run": run, "samples": found}, indent=2))
    else:
        tables.print_samples(found)
