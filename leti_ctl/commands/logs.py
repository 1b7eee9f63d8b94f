"""`leti-ctl logs`: what the stages of a run logged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from leti_ctl import options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from leti_ctl.follow.journal import Filter
    from stages.contract.run import Run


@click.command()
@click.argument("run")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is logged until the run ends.")
@click.option(
    "--stage",
    type=click.Choice(["plan", "prepare", "generate", "execute", "build", "train", "evaluate", "finalize"]),
)
@click.option("--iteration", type=click.IntRange(min=0), help="Only this iteration.")
@click.option("--split", metavar="PASS", help="Only this sampling pass: train, test, ...")
@click.option("--part", metavar="K", help="Only this part, from 0; also K/N.")
@options.store
@options.as_json
def logs(
    run: str,
    follow: bool,
    stage: str | None,
    iteration: int | None,
    split: str | None,
    part: str | None,
    store_uri: str,
    as_json: bool,
) -> None:
    """Print what the stages of a run logged, every attempt, oldest first.

    On a cluster pods are asked as long as they exist, then the store. With --json one JSON object per line, as logged.
    """
    import json

    from leti_ctl import control
    from leti_ctl.follow import journal
    from stages.contract.store import open_store

    opened = control.open_run(open_store(store_uri), run)
    wanted = journal.Filter(stage, iteration, split, part)
    for entry in _entries(opened, wanted, follow=follow):
        click.echo(json.dumps(entry) if as_json else journal.as_text(entry))


def _entries(run: Run, wanted: Filter, *, follow: bool) -> Iterator[dict[str, Any]]:
    from leti_ctl import control
    from leti_ctl.config import contexts
    from leti_ctl.follow import journal
    from stages.contract.errors import LetiError

    made = control.workflows(run)
    if not made:
        yield from journal.follow(run, wanted) if follow else journal.entries(run, wanted)
        return
    from leti_ctl.backends.argo import drive, logs

    try:
        cluster = drive.cluster_of(run, contexts.current()[1])
        found = logs.follow(run, made[-1], cluster, wanted) if follow else logs.entries(run, cluster, wanted)
        yield from found
    except LetiError as error:
        click.echo(f"warning: {error}; what follows is what the store kept", err=True)
        yield from journal.entries(run, wanted)
