"""`leti-ctl presets`: the specs that come with leti."""

from __future__ import annotations

import click

from leti_ctl import options


@click.command()
@click.argument("name", required=False)
@click.option("--fields", is_flag=True, help="List every field of a run spec with its default and meaning.")
@options.as_json
def presets(name: str | None, fields: bool, as_json: bool) -> None:
    """List the presets; with NAME print that preset resolved; with --fields explain every field."""
    import json

    from leti_ctl import specs, tables

    if fields:
        explained = [{"field": path, "default": default, "meaning": text} for path, default, text in specs.fields()]
        if as_json:
            click.echo(json.dumps({"fields": explained}, indent=2))
        else:
            tables.print_rows(explained, ("field", "default", "meaning"), empty="")
    elif name:
        spec = specs.load_spec(preset=name, file=None, overrides=(), iterations=None)
        click.echo(spec.to_json() if as_json else specs.to_yaml(spec), nl=False)
    else:
        rows = [{"preset": each, "what": specs.preset_summary(each)} for each in specs.preset_names()]
        if as_json:
            click.echo(json.dumps({"presets": rows}, indent=2))
        else:
            tables.print_rows(rows, ("preset", "what"), empty="no presets")
