"""Options that several commands share, so that they are spelled and documented once."""

from __future__ import annotations

from pathlib import Path

import click


def _default_store(_context: click.Context, _option: click.Parameter, value: str | None) -> str:
    from leti_ctl.config import contexts

    return contexts.default_store() if value is None else value


store = click.option(
    "--store",
    "store_uri",
    envvar="LETI_STORE",
    show_envvar=True,
    callback=_default_store,
    metavar="URI",
    help="Folder or s3://bucket/prefix that holds the runs; default: the context's, else leti-store.",
)
backend = click.option(
    "--backend",
    type=click.Choice(["local", "argo"]),
    help="Where stages run: this machine or a cluster; default: LETI_BACKEND, the context's, else local.",
)
profile = click.option(
    "--profile", metavar="P", help="Node pools of the cluster: a profile's name or file; default: the context's."
)
follow = click.option(
    "--follow/--no-follow", default=True, help="Stay until a run on a cluster ends (default), or return at once."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
overrides = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Override one field, such as train.learning_rate=1e-5; repeatable.",
)
preset = click.option("--preset", metavar="NAME", help="Start from a preset; see `leti-ctl presets`.")
spec_file = click.option(
    "-f", "--file", type=click.Path(path_type=Path), metavar="RUN.yaml", help="Run spec, laid over the preset."
)
iterations = click.option("--iterations", type=click.IntRange(min=0), help="Iterations to run; 0 only evaluates.")
take_over = click.option(
    "--take-over", is_flag=True, help="Drive the run even if another machine is recorded as its driver."
)
