"""`leti-ctl schema`: the published JSON Schemas."""

from __future__ import annotations

import click


@click.command()
@click.argument("name", required=False)
def schema(name: str | None) -> None:
    """Print the JSON Schema of anything a run stores: spec, records, rows, control objects; without NAME, list them."""
    import json

    from pydantic import BaseModel

    from leti_ctl import control, decisions
    from leti_ctl.inventory import removals
    from stages.contract import schemas
    from stages.contract.errors import UsageError

    beside: list[type[BaseModel]] = [*control.KINDS.values(), decisions.Decision, removals.Collection]
    known: dict[str, type[BaseModel]] = schemas.documents() | {kind.__name__.lower(): kind for kind in beside}
    if name is None:
        for each, kind in known.items():
            click.echo(f"{each:<12} {(kind.__doc__ or '').strip().splitlines()[0]}".rstrip())
    elif name not in known:
        raise UsageError(f"NAME {name!r}: write one of {', '.join(known)}")
    else:
        click.echo(json.dumps(schemas.schema_of(known[name]), indent=2))
