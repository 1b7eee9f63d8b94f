"""`leti-ctl doctor`: is this machine, or this cluster, fit to run leti?"""

from __future__ import annotations

from pathlib import Path

import click

from leti_ctl import options


@click.command()
@options.backend
@options.profile
@click.option("--preset", metavar="NAME", help="Examine for this run's needs; see `leti-ctl presets`.")
@click.option("-f", "--file", type=click.Path(path_type=Path), metavar="RUN.yaml", help="The same, from a run spec.")
@options.store
@options.as_json
def doctor(
    backend: str | None, profile: str | None, preset: str | None, file: Path | None, store_uri: str, as_json: bool
) -> None:
    """Check everything a run needs, and say what is missing and how to mend it.

    One line per check: ok, warn or fail. Exit code 1 when something fails. Changes nothing but for a probe object in
    the store, which is deleted again.
    """
    import json
    import sys

    from leti_ctl.config import contexts
    from leti_ctl.doctor import registry, text

    choice = contexts.choose(backend)
    click.echo(f"backend {choice.backend} ({choice.why}), store {store_uri}", err=True)
    subject = registry.subject(store_uri, preset=preset, file=file)
    checks, subject = registry.for_backend(choice.backend, subject, profile=profile)
    found = text.follow(checks, subject, quiet=as_json)
    if as_json:
        click.echo(json.dumps({"backend": choice.backend, "checks": found}, indent=2))
    if any(one["level"] == "fail" for one in found):
        sys.exit(1)
