"""`leti-ctl estimate`: pods, accelerator-hours, wall time, bytes and money before anything is spent."""

from __future__ import annotations

from pathlib import Path

import click

from leti_ctl import options


@click.command()
@options.preset
@options.spec_file
@options.iterations
@options.overrides
@click.option(
    "--profile", metavar="P", help="Node pools to run on: a name or file; default: the context's, else this machine."
)
@click.option(
    "--rates", type=click.Path(path_type=Path), metavar="RATES.yaml", help="Your figures, laid over leti's table."
)
@click.option("--like", metavar="STORE/runs/NAME", help="Take the speeds and lengths that this run measured.")
@click.option(
    "--parameters", type=click.IntRange(min=1), metavar="N", help="Size of a model that the table does not name."
)
@click.option("--sources", is_flag=True, help="Show every figure used and where it comes from.")
@options.as_json
def estimate(
    preset: str | None,
    file: Path | None,
    iterations: int | None,
    overrides: tuple[str, ...],
    profile: str | None,
    rates: Path | None,
    like: str | None,
    parameters: int | None,
    sources: bool,
    as_json: bool,
) -> None:
    """Tell what a run will take: pods, accelerator-hours, wall time, bytes in the store and money.

    Every figure is a range, reckoned from a table of measured, published and assumed rates. --rates lays yours over
    it; --like takes what an earlier run on such devices measured.
    """
    import json

    from leti_ctl import estimate as reckoning
    from leti_ctl.config import contexts, specs
    from leti_ctl.config.profiles import load_profile
    from leti_ctl.estimate import layout, text, work
    from stages.contract.errors import UsageError
    from stages.contract.run import Run

    if not (preset or file):
        raise UsageError("estimate needs a spec: --preset NAME (see `leti-ctl presets`), -f RUN.yaml, or both")
    spec = specs.load_spec(preset=preset, file=file, overrides=overrides, iterations=iterations)
    table = reckoning.load_rates(rates)
    size = parameters or work.count_parameters(spec.model.source, table)
    context = contexts.current()[1]
    named = profile or (context.profile if contexts.choose(None).backend == "argo" else None)
    pools = load_profile(named) if named else None
    where = layout.find(pools, spec, table)
    if like:
        earlier = Run.open(like)
        same = earlier.spec.model.source == spec.model.source
        table = reckoning.like(earlier, where, table, size if same else None)
    found = reckoning.estimate(spec, where, table, size)
    data = {**found.as_dict(), "advice": reckoning.advice(spec, found, pools)}
    if as_json:
        click.echo(json.dumps(data, indent=2))
    else:
        text.print_estimate(data, sources=sources)
