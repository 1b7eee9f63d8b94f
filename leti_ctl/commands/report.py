"""`leti-ctl report`: what runs measured, to be looked at."""

from __future__ import annotations

from pathlib import Path

import click

from leti_ctl import options


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.html",
    help="The page [default: report.html].",
)
@click.option(
    "--figures", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Every figure as PNG and SVG."
)
@click.option(
    "--data", type=click.Path(path_type=Path), metavar="FILE.json|DIR", help="Every number: JSON, or CSVs in a folder."
)
@click.option(
    "--theme", type=click.Choice(["light", "dark"]), default="light", show_default=True, help="Of exported figures."
)
@click.option("--audit/--no-audit", default=True, help="Audit every run (default), or leave that out.")
@options.store
@options.as_json
def report(
    runs: tuple[str, ...],
    out: Path | None,
    figures: Path | None,
    data: Path | None,
    theme: str,
    audit: bool,
    store_uri: str,
    as_json: bool,
) -> None:
    """Write a page about a run, or about several laid over each other; it needs no network.

    Learning curves, error types, pass@k, sample efficiency, canaries, times, cost, lineage and audit, and a browser of
    problems, solutions and feedback. With --figures or --data alone no page is written.
    """
    import json

    from leti_ctl import control
    from leti_ctl.report.write import Wanted, write
    from stages.contract.store import open_store

    store = open_store(store_uri)
    opened = [control.open_run(store, name) for name in runs]
    page = out or (None if figures or data else Path("report.html"))
    written = write(opened, Wanted(page, figures, data, theme, audit))
    if as_json:
        click.echo(json.dumps({kind: [str(path) for path in paths] for kind, paths in written.items()}, indent=2))
        return
    for kind, paths in written.items():
        where = paths[0] if len(paths) == 1 else f"{len(paths)} files in {paths[0].parent}"
        click.echo(f"{kind}: {where}")
