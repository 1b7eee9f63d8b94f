"""Options that several commands share, so that they are spelled and documented once."""

from __future__ import annotations

import click

DEFAULT_STORE = "leti-store"

store = click.option(
    "--store",
    "store_uri",
    default=DEFAULT_STORE,
    envvar="LETI_STORE",
    show_default=True,
    show_envvar=True,
    metavar="URI",
    help="Folder or s3://bucket/prefix that holds the runs.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
overrides = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Override one field, such as train.learning_rate=1e-5; repeatable.",
)
iterations = click.option("--iterations", type=click.IntRange(min=1), help="Iterations to run.")
take_over = click.option(
    "--take-over", is_flag=True, help="Drive the run even if another machine is recorded as its driver."
)
