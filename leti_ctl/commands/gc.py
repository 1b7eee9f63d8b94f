"""`leti-ctl gc`: what a run can do without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from leti_ctl import options

if TYPE_CHECKING:
    from leti_ctl.artifacts.garbage import Garbage
    from stages.contract.run import Run


@click.command()
@click.argument("run")
@click.option("--delete", is_flag=True, help="Remove it; without, only say what would be removed.")
@click.option("--best/--no-best", default=True, show_default=True, help="Keep the weights of the best checkpoint.")
@click.option("--every", type=click.IntRange(min=0), default=0, metavar="K", help="Keep those of every K-th iteration.")
@click.option(
    "--orphan-hours",
    type=click.FloatRange(min=0),
    default=24.0,
    show_default=True,
    metavar="H",
    help="Data nobody points to is garbage from this age.",
)
@options.store
@options.as_json
def gc(run: str, delete: bool, best: bool, every: int, orphan_hours: float, store_uri: str, as_json: bool) -> None:
    """Find, and with --delete remove, what a run can do without.

    That is data of killed writers, uploads that they never completed, weights of checkpoints other than the last, the
    best, every K-th and those that other runs of the store start from, and optimizer states other than the last.
    Where a policy forbids to list such uploads (s3:ListBucketMultipartUploads), it says so and sees to the rest.
    Nothing that unfinished work reads is touched; records and lineage stay, and an audit knows what was removed on
    purpose.
    """
    import json

    from leti_ctl import control
    from leti_ctl.artifacts import garbage
    from leti_ctl.inventory.catalog import Catalog
    from stages.contract.store import open_store

    opened = control.open_run(open_store(store_uri), run)
    retention = garbage.Retention(best, every, orphan_hours)
    found = garbage.collect(opened, retention) if delete else garbage.find(Catalog(opened), retention)
    if as_json:
        told = {"run": run, "deleted": delete, "rule": retention.rule, **_as_json(opened, found)}
        click.echo(json.dumps(told))
        return
    for line in _lines(opened, found):
        click.echo(line)
    done = "removed" if delete else "would be removed; --delete does it"
    count = len(found.orphans) + len(found.superseded) + len(found.leftovers)
    click.echo(f"{count} object{'s' * (count != 1)}, {found.bytes / 2**20:,.1f} MiB {done} ({retention.rule})")


def _as_json(run: Run, found: Garbage) -> dict[str, Any]:
    return {
        "bytes": found.bytes,
        "claimed": found.claimed,
        "orphans": [key for key, _ in found.orphans],
        "superseded": [each.key for each in found.superseded],
        "unfinished": [each.key.removeprefix(run.key("")) for each in found.leftovers],
        "unlisted": found.unlisted or None,
    }


def _lines(run: Run, found: Garbage) -> Iterator[str]:
    yield from (f"orphan      {size:>12,}  {key}" for key, size in found.orphans)
    yield from (f"superseded  {each.size:>12,}  {each.key}" for each in found.superseded)
    for each in found.leftovers:
        yield f"unfinished  {'':>12}  {each.key.removeprefix(run.key(''))}  ({each.name})"
    for iteration, names in sorted(found.claimed.items()):
        yield f"kept        checkpoint {iteration}, which {', '.join(names)} started from"
    if found.unlisted:
        yield f"unknown     uploads never completed, which could not be listed: {found.unlisted}"
