"""`leti-ctl profiles`: the node pools that leti knows."""

from __future__ import annotations

import click

from leti_ctl import options


@click.command()
@click.argument("name", required=False)
@click.option("--fields", is_flag=True, help="List every field of a profile with its default and meaning.")
@options.as_json
def profiles(name: str | None, fields: bool, as_json: bool) -> None:
    """List the profiles; with NAME (or a file) print that profile resolved; with --fields explain every field."""
    import json

    from leti_ctl.config import profiles as known
    from leti_ctl.config import specs
    from leti_ctl.results import tables

    if fields:
        rows = [{"field": path, "default": default, "meaning": text} for path, default, text in known.fields()]
        columns: tuple[str, ...] = ("field", "default", "meaning")
    elif name:
        loaded = known.load_profile(name)
        click.echo(loaded.model_dump_json(indent=2) if as_json else specs.to_yaml(loaded), nl=as_json)
        return
    else:
        rows = [{"profile": each, "what": known.profile_summary(each)} for each in known.profile_names()]
        columns = ("profile", "what")
    if as_json:
        click.echo(json.dumps({"fields" if fields else "profiles": rows}, indent=2, default=str))
    else:
        tables.print_rows(rows, columns, empty="no profiles")
