"""`leti-ctl trace`: where a row, a sample or a score came from; what became of a problem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from leti_ctl import options

if TYPE_CHECKING:
    from rich.tree import Tree

SHOWN = 200
"""Characters of a solution or feedback in text output; JSON has all of it."""


@click.command()
@click.argument("run")
@click.option("--iteration", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--split", default="train", show_default=True, metavar="PASS", help="Sampling pass: train, test, ...")
@click.option("--row", type=click.IntRange(min=0), help="A training row of the iteration, from 0.")
@click.option("--problem", metavar="ID", help="A problem; alone, everything that became of it.")
@click.option("--sample", type=click.IntRange(min=0), help="With --problem: that sample of it.")
@click.option("--scores", is_flag=True, help="The scores of the pass.")
@options.store
@options.as_json
def trace(
    run: str,
    iteration: int,
    split: str,
    row: int | None,
    problem: str | None,
    sample: int | None,
    scores: bool,
    store_uri: str,
    as_json: bool,
) -> None:
    """Walk the lineage of a run: back from a training row, a sample or a score, or forward from a problem.

    Name one of --row, --problem with --sample, --scores, or --problem alone.
    """
    import json

    from leti_ctl import control
    from leti_ctl import trace as tracing
    from stages.contract.errors import UsageError
    from stages.contract.store import open_store

    if (row is not None) + bool(problem) + scores != 1:
        raise UsageError("trace needs one of --row N, --problem ID, --problem ID --sample N, --scores")
    opened = control.open_run(open_store(store_uri), run)
    target = tracing.Target(iteration, split, problem, sample, row)
    if row is not None:
        found = tracing.trace_row(opened, target)
    elif scores:
        found = tracing.trace_score(opened, target)
    elif sample is not None:
        found = tracing.trace_sample(opened, target)
    else:
        found = tracing.trace_problem(opened, str(problem))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(Text(found.pop("what")))
    lineage = found.pop("lineage", None)
    _grow(tree, found)
    if lineage:
        _artifact(tree, lineage)
    Console(soft_wrap=True).print(tree)


def _grow(tree: Tree, facts: dict[str, Any]) -> None:
    from rich.text import Text

    for name, value in facts.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            branch = tree.add(Text(f"{name}: {len(value)}"))
            for number, each in enumerate(value):
                _grow(branch.add(Text(str(number))), each)
        elif isinstance(value, dict):
            _grow(tree.add(Text(name)), value)
        elif value not in (None, [], ""):
            tree.add(Text(f"{name}: {_short(value)}"))


def _artifact(tree: Tree, found: dict[str, Any]) -> None:
    """One artifact in a line or two, what it was made from below it."""
    from rich.text import Text

    name = f"{found['ref']}  {str(found.get('sha256') or 'MISSING')[:12]}"
    if "recorded_sha256" in found:
        name += f"  (recorded as {found['recorded_sha256'][:12]}!)"
    if found.get("outside") or found.get("told_above") or found.get("missing"):
        tree.add(Text(name + ("  (told above)" if found.get("told_above") else "")))
        return
    made = f"{found['parts']} parts, {found['rows']} rows, {found['started_at']}, {found['seconds']} s"
    branch = tree.add(Text(f"{name}\n{made}, code {', '.join(found['code'])}, on {', '.join(found['hosts'])}"))
    for each in found["inputs"]:
        _artifact(branch, each)


def _short(value: object) -> str:
    text = str(value) if not isinstance(value, str) else repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} ... {text[-SHOWN // 2 :]}"
