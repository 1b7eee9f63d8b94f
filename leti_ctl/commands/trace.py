"""`leti-ctl trace`: where a row, a sample or a score came from; what became of a problem; what an object is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from leti_ctl import options

if TYPE_CHECKING:
    from leti_ctl.trace.back import Target
    from stages.contract.run import Run


@click.command()
@click.argument("run")
@click.option("--iteration", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--split", default="train", show_default=True, metavar="PASS", help="Sampling pass: train, test, ...")
@click.option("--row", type=click.IntRange(min=0), help="A training row of the iteration, from 0.")
@click.option("--example", type=click.IntRange(min=0), help="With --row: only that example of the packed row.")
@click.option("--problem", metavar="ID", help="A problem; alone, everything that became of it.")
@click.option("--sample", type=click.IntRange(min=0), help="With --problem: that sample of it.")
@click.option("--scores", is_flag=True, help="The scores of the pass.")
@click.option("--step", type=click.IntRange(min=0), help="A step of the iteration's training log, from 0.")
@click.option("--object", "named", metavar="KEY|SHA256", help="An object of the store, or any digest: what is it?")
@options.store
@options.as_json
def trace(
    run: str,
    iteration: int,
    split: str,
    row: int | None,
    example: int | None,
    problem: str | None,
    sample: int | None,
    scores: bool,
    step: int | None,
    named: str | None,
    store_uri: str,
    as_json: bool,
) -> None:
    """Walk the lineage of a run: back from a training row, a sample, a step or a score, or forward from a problem.

    Name one of --row, --problem with --sample, --scores, --step, --object, or --problem alone. What is shown of a row
    has been verified against its SHA-256; the exit code is 65 where anything on the way is not as it was written.
    """
    import json

    from leti_ctl import control
    from leti_ctl.trace.back import Target
    from leti_ctl.trace.text import render
    from stages.contract.errors import ArtifactError, UsageError
    from stages.contract.store import open_store

    if (row is not None) + bool(problem) + scores + (step is not None) + bool(named) != 1:
        raise UsageError(
            "trace needs one of --row N, --problem ID, --problem ID --sample N, --scores, --step N, --object KEY"
        )
    if (example is not None and row is None) or (sample is not None and not problem):
        raise UsageError("--example goes with --row, --sample with --problem")
    target = Target(iteration, split, problem, sample, row, example, step)
    found = _trace(control.open_run(open_store(store_uri), run), target, scores, named)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        for line in render(found):
            click.echo(line)
    if found["findings"]:
        raise click.exceptions.Exit(ArtifactError.exit_code)


def _trace(run: Run, target: Target, scores: bool, named: str | None) -> dict[str, Any]:
    from leti_ctl.trace import back, forward, objects

    if named:
        return objects.trace_object(run, named)
    if target.row is not None:
        return back.trace_row(run, target)
    if target.step is not None:
        return back.trace_step(run, target)
    if scores:
        return back.trace_score(run, target)
    if target.sample is not None:
        return back.trace_sample(run, target)
    return forward.trace_problem(run, str(target.problem))
