"""`leti-ctl suite`: make every run behind a paper's tables, and print the tables with ours beside the published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leti_ctl import options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leti_ctl.config.contexts import Choice
    from leti_ctl.suite.book import Table
    from leti_ctl.suite.resolve import Resolver, Wanted
    from leti_ctl.suite.trial import Trial
    from stages.contract.store import Store


AT_ONCE = 4


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
@options.backend
@options.profile
@click.option(
    "--parallel",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"On a cluster, run at most so many at once; default: {AT_ONCE}.",
)
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
    backend: str | None,
    profile: str | None,
    parallel: int | None,
    listing: bool,
    tables_only: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Make the runs behind the tables of a paper and print ours beside the published numbers.

    Runs are shared by their specs: what two tables need is made once, and what the store has already is not made again.
    On this machine they run one after another; on a cluster several at once, each as soon as the checkpoint it scores
    is committed. A run that fails leaves gaps in the tables and does not end the others. Interrupt at any time: a
    cluster goes on by itself, and the same command goes on from there.
    """
    from leti_ctl.config import contexts
    from leti_ctl.suite import book, drive
    from leti_ctl.suite.trial import Trial, find_sources
    from stages.contract.errors import LetiError

    chosen = book.load(name)
    trial = Trial(chosen, scale, overrides, find_sources(chosen, data) if data else {}, official_code)
    tables, choice = chosen.choose(only), contexts.choose(backend)
    store, resolver = _resolve(tables, trial, store_uri)
    if listing:
        _list(store, resolver, profile or _context_profile(choice), as_json=as_json)
        return
    failed = {} if tables_only else _drive(store, list(resolver.runs.values()), choice, profile, parallel)
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


def _context_profile(choice: Choice) -> str | None:
    from leti_ctl.config import contexts

    return contexts.current()[1].profile if choice.backend == "argo" else None


def _drive(
    store: Store, wanted: list[Wanted], choice: Choice, profile: str | None, parallel: int | None
) -> dict[str, str]:
    """Make the runs where they go; return why some could not be, by name."""
    from leti_ctl.config import contexts
    from leti_ctl.suite import drive
    from stages.contract.errors import UsageError

    if choice.backend == "local":
        if parallel is not None:
            raise UsageError(f"--parallel {parallel}: this machine makes one run after another (backend local)")
        return drive.drive_all(store, wanted)
    from leti_ctl.backends.argo.submission import open_target
    from leti_ctl.suite import fleet

    context = contexts.current()[1]
    place = fleet.Place(open_target(context, profile), context, choice.why)
    place.check(store)
    return fleet.Fleet(store, wanted, place, at_once=parallel or AT_ONCE).drive()


def _list(store: Store, resolver: Resolver, profile: str | None, *, as_json: bool) -> None:
    import json

    from leti_ctl.config import profiles
    from leti_ctl.suite import cost, text

    rows = cost.rows(store, resolver.runs.values(), profiles.load_profile(profile) if profile else None)
    if as_json:
        click.echo(json.dumps({"runs": rows, "total": cost.total(rows)}, indent=2))
    else:
        text.print_plan(rows, cost.total(rows))


def _document(tables: Mapping[str, Table], trial: Trial, resolver: Resolver, store: Store) -> dict[str, Any]:
    from leti_ctl import control
    from leti_ctl.suite import results
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
