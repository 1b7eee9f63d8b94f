"""`leti-ctl presets`: the specs that come with leti."""

from __future__ import annotations

import click

from leti_ctl import options


@click.command()
@click.argument("name", required=False)
@click.option("--fields", is_flag=True, help="List every field of a run spec with its default and meaning.")
@click.option("--all", "every", is_flag=True, help="One line per preset, where families else stand in braces.")
@options.as_json
def presets(name: str | None, fields: bool, every: bool, as_json: bool) -> None:
    """List the presets by group; with NAME print that preset resolved; with --fields explain every field.

    A family stands in one line, its names as a shell would expand them: leti-{350m,2b}-{n16,n64} are four presets.
    """
    import json

    from leti_ctl import presets as shelf
    from leti_ctl.config import specs
    from leti_ctl.results import tables

    if fields:
        explained = [{"field": path, "default": default, "meaning": text} for path, default, text in specs.fields()]
        if as_json:
            click.echo(json.dumps({"fields": explained}, indent=2))
        else:
            tables.print_rows(explained, ("field", "default", "meaning"), empty="")
    elif name:
        spec = specs.load_spec(preset=name, file=None, overrides=(), iterations=None)
        click.echo(spec.to_json() if as_json else specs.to_yaml(spec), nl=False)
    elif as_json:
        rows = [{"preset": one.name, "group": one.group, "what": one.summary} for one in shelf.entries().values()]
        click.echo(json.dumps({"presets": rows}, indent=2))
    else:
        tables.print_groups(_groups(every))


def _groups(every: bool) -> dict[str, list[tuple[str, str]]]:
    """Return names and what they are under headings; a family is one line unless `every` preset is asked for."""
    from leti_ctl import presets as shelf

    found: dict[str, list[tuple[str, str]]] = {}
    for line in shelf.lines():
        rows = found.setdefault(shelf.GROUPS[line.group], [])
        rows += [(name, shelf.summary(name)) for name in line.members] if every else [(line.pattern, line.summary)]
    return found
