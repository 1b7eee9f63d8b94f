"""`leti-ctl artifacts`: list, read, fetch and compare what runs made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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

    from leti_ctl import control
    from leti_ctl.artifacts import holdings
    from leti_ctl.results import tables
    from stages.contract.store import open_store

    rows = holdings.listing(control.open_run(open_store(store_uri), run), iteration)
    if as_json:
        click.echo(json.dumps({"run": run, "artifacts": rows}, indent=2))
        return
    if not rows:
        click.echo(f"run {run} has no artifacts yet")
    for line in tables.plain(list(map(_shown, rows)), spared=("seconds", "made", "objects")):
        click.echo(line)


@artifacts.command("show")
@click.argument("run")
@click.argument("artifact")
@click.option("--row", "start", type=click.IntRange(min=0), default=0, metavar="N", help="Begin with this row, from 0.")
@click.option("--limit", type=click.IntRange(min=1), default=5, show_default=True, help="At most so many rows.")
@options.store
@options.as_json
def show(run: str, artifact: str, start: int, limit: int, store_uri: str, as_json: bool) -> None:
    """Print the first rows of an artifact, such as iterations/0000/samples/train, or those from --row on.

    Of one part with iterations/0000/samples/train#0/2, its rows counted from its own first. Training rows
    (iterations/0000/examples) are printed example by example, as the text the model is trained on, special tokens
    included; a packed row holds several.
    """
    from itertools import chain, islice

    from leti_ctl import control
    from leti_ctl.artifacts import holdings
    from stages.contract.errors import UsageError
    from stages.contract.store import open_store

    opened = control.open_run(open_store(store_uri), run)
    chosen = holdings.choose(opened, artifact)
    rows = holdings.rows(opened, chosen.ref, chosen.part, limit, start)
    first = list(islice(rows, 1))
    if start and not first:
        raise UsageError(f"--row {start}: {artifact} has no such row; `leti-ctl artifacts ls {run}` tells how many")
    if as_json:
        for text in _document({"run": run, "artifact": artifact}, chain(first, rows)):
            click.echo(text)
        return
    for number, row in enumerate(chain(first, rows), start):
        for line in _lines(row if {"row", "block", "file"} & set(row) else {"row": number, **row}):
            click.echo(line)


def _document(head: dict[str, Any], rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of the JSON document of `head` with all `rows`, of which only one is held at a time."""
    import json
    from textwrap import indent

    yield json.dumps(head, indent=2).removesuffix("\n}") + ',\n  "rows": ['
    before = ""
    for row in rows:
        if before:
            yield f"{before},"
        before = indent(json.dumps(row, indent=2), "    ")
    yield f"{before}\n  ]\n}}" if before else "  ]\n}"


def _shown(row: dict[str, Any]) -> dict[str, str]:
    gone = [f"{row[name]} {name}" for name in ("removed", "missing") if row[name]]
    return {
        "artifact": row["artifact"],
        "parts": row["parts"],
        "rows": f"{row['rows']:,}",
        "objects": f"{row['objects']:,}" + (f" ({', '.join(gone)})" if gone else ""),
        "bytes": f"{row['bytes']:,}",
        "sha256": (row["sha256"] or "incomplete")[:12],
        "made": str(row["made"]),
        "seconds": str(row["seconds"]),
    }


def _lines(row: dict[str, Any]) -> Iterator[str]:
    """A row's columns, a line each, those of several lines below their name; nothing in them acts on a terminal."""
    import json

    from stages.contract.prompts import sanitize

    for name, value in row.items():
        text = sanitize(value) if isinstance(value, str) else json.dumps(value)
        if "\n" in text or name == "text":
            yield f"{name}:"
            yield from (f"  | {line}".rstrip() if not line else f"  | {line}" for line in text.split("\n"))
        else:
            yield f"{name}: {text}".rstrip()
    yield ""


@artifacts.command("get")
@click.argument("run")
@click.argument("artifact")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="A new folder.")
@options.store
@options.as_json
def get(run: str, artifact: str, out: Path, store_uri: str, as_json: bool) -> None:
    """Copy the files of an artifact, or of one part of it, to a new folder, every checksum verified.

    Interrupted, it leaves no folder of that name; the same command goes on with what it had fetched.
    """
    import json

    from leti_ctl import control
    from leti_ctl.artifacts import holdings
    from leti_ctl.follow import bar
    from stages.contract.store import open_store

    chosen = holdings.choose(control.open_run(open_store(store_uri), run), artifact)
    with bar.bar(f"fetching {artifact}") as advance:
        files = [str(path) for path in holdings.get(chosen, out, advance)]
    click.echo(json.dumps({"run": run, "artifact": artifact, "files": files}) if as_json else "\n".join(files))


@artifacts.command("diff")
@click.argument("run")
@click.argument("other", required=False)
@click.option("--iterations", type=(int, int), metavar="I J", help="Compare iteration I with iteration J.")
@click.option("--other-store", metavar="URI", help="Where the other run lies, if it is another store.")
@click.option("--artifact", metavar="NAME", help="Whose rows to show [default: the first that differs].")
@click.option("--limit", type=click.IntRange(min=1), default=1, show_default=True, help="At most so many of them.")
@options.store
@options.as_json
def diff(
    run: str,
    other: str | None,
    iterations: tuple[int, int] | None,
    other_store: str | None,
    artifact: str | None,
    limit: int,
    store_uri: str,
    as_json: bool,
) -> None:
    """Compare two runs, or two iterations: spec, environment, artifacts, rows, verdicts and scores.

    Exit code 0: the same; 1: they differ; 2 and above: they could not be compared, or one is damaged (65).
    """
    import json

    from leti_ctl import control
    from leti_ctl.compare.report import compare
    from leti_ctl.compare.sides import Side
    from leti_ctl.compare.text import render
    from stages.contract.errors import ArtifactError, UsageError
    from stages.contract.store import open_store

    if other is None and iterations is None and other_store is None:
        raise UsageError("artifacts diff needs a second RUN, --other-store URI, or --iterations I J")
    first = control.open_run(open_store(store_uri), run)
    second = control.open_run(open_store(other_store or store_uri), other or run)
    i, j = iterations or (None, None)
    found = compare(Side(first, i), Side(second, j), artifact=artifact, limit=limit)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        for line in render(found):
            click.echo(line)
    if found["findings"]:
        raise click.exceptions.Exit(ArtifactError.exit_code)
    raise click.exceptions.Exit(0 if found["same"] else 1)
