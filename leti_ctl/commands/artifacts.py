"""`leti-ctl artifacts`: list, read, fetch and compare what runs made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from leti_ctl import options


@click.group()
def artifacts() -> None:
    """List, read, fetch and compare the artifacts of runs."""


@artifacts.command("ls")
@click.argument("run")
@click.option("--iteration", type=click.IntRange(min=0), help="Only this iteration's.")
@options.store
@options.as_json
def ls(run: str, iteration: int | None, store_uri: str, as_json: bool) -> None:
    """List a run's artifacts: parts, rows, bytes, digest, when they were made."""
    import json

    from leti_ctl import control, holdings, tables
    from stages.contract.store import open_store

    rows = holdings.listing(control.open_run(open_store(store_uri), run), iteration)
    if as_json:
        click.echo(json.dumps({"run": run, "artifacts": rows}, indent=2))
        return
    shown = [{**row, "sha256": (row["sha256"] or "incomplete")[:12], "bytes": f"{row['bytes']:,}"} for row in rows]
    columns = ("artifact", "parts", "rows", "objects", "bytes", "sha256", "made", "seconds")
    tables.print_rows(shown, columns, empty=f"run {run} has no artifacts yet")


@artifacts.command("show")
@click.argument("run")
@click.argument("artifact")
@click.option("--limit", type=click.IntRange(min=1), default=5, show_default=True, help="At most so many rows.")
@options.store
@options.as_json
def show(run: str, artifact: str, limit: int, store_uri: str, as_json: bool) -> None:
    """Print the first rows of an artifact, such as iterations/0000/samples/train.

    Training rows (iterations/0000/examples) are printed as the text the model is trained on, special tokens included.
    """
    import json

    from leti_ctl import control, holdings
    from leti_ctl.audit.catalog import Catalog
    from stages.contract.store import open_store

    opened = control.open_run(open_store(store_uri), run)
    ref, part = holdings.find_ref(Catalog(opened), artifact)
    rows = list(holdings.rows(opened, ref, part, limit))
    if as_json:
        click.echo(json.dumps({"run": run, "artifact": artifact, "rows": rows}, indent=2))
        return
    for row in rows:
        text = row.pop("text", None)
        for name, value in row.items():
            click.echo(f"{name}: {value if isinstance(value, str) and chr(10) not in value else json.dumps(value)}")
        click.echo(f"{text}\n" if text is not None else "")


@artifacts.command("get")
@click.argument("run")
@click.argument("artifact")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="A new folder.")
@options.store
@options.as_json
def get(run: str, artifact: str, out: Path, store_uri: str, as_json: bool) -> None:
    """Copy an artifact's files to a new folder, every checksum verified."""
    import json

    from leti_ctl import control, holdings
    from leti_ctl.audit.catalog import Catalog
    from stages.contract.store import open_store

    opened = control.open_run(open_store(store_uri), run)
    ref, _ = holdings.find_ref(Catalog(opened), artifact)
    files = [str(path) for path in holdings.get(opened, ref, out)]
    click.echo(json.dumps({"run": run, "artifact": artifact, "files": files}) if as_json else "\n".join(files))


@artifacts.command("diff")
@click.argument("run")
@click.argument("other", required=False)
@click.option("--iterations", type=(int, int), metavar="I J", help="Compare iteration I with iteration J.")
@options.store
@options.as_json
def diff(run: str, other: str | None, iterations: tuple[int, int] | None, store_uri: str, as_json: bool) -> None:
    """Compare two runs, or two iterations, side by side: spec, data digests and scores."""
    import json

    from leti_ctl import control, holdings
    from stages.contract.errors import UsageError
    from stages.contract.store import open_store

    if other is None and iterations is None:
        raise UsageError("artifacts diff needs a second RUN, or --iterations I J")
    store = open_store(store_uri)
    found = holdings.compare(control.open_run(store, run), control.open_run(store, other or run), iterations)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        _print_diff(found)


def _print_diff(found: dict[str, Any]) -> None:
    from leti_ctl import tables

    for line in found["spec"]:
        click.echo(f"spec {line}")
    for name in ("different", "only_first", "only_second"):
        for ref in found[name]:
            click.echo(f"{name.replace('_', ' ')}: {ref}")
    click.echo(f"{len(found['equal'])} artifacts are equal, {len(found['different'])} differ")
    rows = [
        {"pass": row["pass"], "first": _percent(row["first"]), "second": _percent(row["second"]),
         "difference": _difference(row["first"], row["second"])}
        for row in found["scores"]
    ]  # fmt: skip
    tables.print_rows(rows, ("pass", "first", "second", "difference"), empty="no scores")


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _difference(first: float | None, second: float | None) -> str:
    return "" if first is None or second is None else f"{(second - first) * 100:+.1f}"
