"""`leti-ctl suite`: make every run behind a paper's tables, and print the tables with ours beside the published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leti_ctl import options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leti_ctl.suite.book import Table
    from leti_ctl.suite.resolve import Resolver
    from leti_ctl.suite.trial import Trial
    from stages.contract.store import Store


@click.command()
@click.argument("name", metavar="SUITE", default="paper")
@click.option("--only", multiple=True, metavar="TABLE", help="Only this table, such as table2; repeatable.")
@click.option(
    "--scale",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    help="Shrink every run to so much of itself, on a model of random weights: a trial in minutes.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with the data sets' files in their own layouts, in place of the hub.",
)
@click.option(
    "--official-code", is_flag=True, help="Run each preset's -official-code twin, where the paper's text differs."
)
@options.overrides
@options.store
@options.profile
@click.option("--list", "listing", is_flag=True, help="Print what would run and what it would take; run nothing.")
@click.option("--tables", "tables_only", is_flag=True, help="Print the tables of what is there; run nothing.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Also write tables.json, tables.csv and tables.md."
)
@options.as_json
def suite(
    name: str,
    only: tuple[str, ...],
    scale: float,
    data: Path | None,
    official_code: bool,
    overrides: tuple[str, ...],
    store_uri: str,
    profile: str | None,
    listing: bool,
    tables_only: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Make the runs behind the tables of a paper and print ours beside the published numbers.

    Runs are shared by their specs: what two tables need is made once, and what the store has already is not made again.
    They run on this machine, one after another. Interrupt at any time; the same command goes on.
    """
    from leti_ctl.suite import book, drive
    from leti_ctl.suite.trial import Trial, find_sources
    from stages.contract.errors import LetiError

    chosen = book.load(name)
    trial = Trial(chosen, scale, overrides, find_sources(chosen, data) if data else {}, official_code)
    tables = chosen.choose(only)
    store, resolver = _resolve(tables, trial, store_uri)
    if listing:
        _list(store, resolver, profile, as_json=as_json)
        return
    failed = {} if tables_only else drive.drive_all(store, list(resolver.runs.values()))
    _show(_document(tables, trial, resolver, store), failed, out, as_json=as_json)
    if failed:
        raise LetiError(drive.summary_of(failed))


def _resolve(tables: Mapping[str, Table], trial: Trial, store_uri: str) -> tuple[Store, Resolver]:
    from leti_ctl.suite.resolve import Resolver, known_runs
    from stages.contract.store import open_store

    store = open_store(store_uri)
    resolver = Resolver(trial, known_runs(store))
    for name, table in tables.items():
        resolver.add(name, table)
    return store, resolver


def _list(store: Store, resolver: Resolver, profile: str | None, *, as_json: bool) -> None:
    import json

    from leti_ctl import contexts, profiles
    from leti_ctl.suite import cost, text

    named = profile or (contexts.current()[1].profile if contexts.choose(None).backend == "argo" else None)
    rows = cost.rows(store, resolver.runs.values(), profiles.load_profile(named) if named else None)
    if as_json:
        click.echo(json.dumps({"runs": rows, "total": cost.total(rows)}, indent=2))
    else:
        text.print_plan(rows, cost.total(rows))


def _document(tables: Mapping[str, Table], trial: Trial, resolver: Resolver, store: Store) -> dict[str, Any]:
    from leti_ctl import control
    from leti_ctl.suite import results
    from leti_ctl.suite.resolve import Wanted
    from leti_ctl.suite.score import Scores
    from stages.contract.run import Run
    from stages.contract.spec import RunSpec

    def open_run(one: Wanted) -> tuple[Run, RunSpec]:
        run = Run(store, one.name)
        return run, control.current_spec(run)

    return {
        "title": trial.suite.title,
        "scale": trial.scale,
        "warning": trial.warning,
        "store": store.uri,
        "tables": results.collect(tables, resolver, Scores(open_run)),
        "runs": {one.name: {"preset": one.preset, "tables": one.tables} for one in resolver.runs.values()},
    }


def _show(document: dict[str, Any], failed: Mapping[str, str], out: Path | None, *, as_json: bool) -> None:
    import json

    from leti_ctl.suite import results, text

    document = {**document, "failed": dict(failed)}
    title, warning, tables = (document[key] for key in ("title", "warning", "tables"))
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        text.print_tables(title, warning, tables)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "tables.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        (out / "tables.csv").write_text(results.to_csv(tables), encoding="utf-8")
        (out / "tables.md").write_text(results.to_markdown(title, warning, tables), encoding="utf-8")
        click.echo(f"wrote tables.json, tables.csv and tables.md to {out}", err=True)
