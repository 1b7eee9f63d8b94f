"""`leti-ctl schema`: the published JSON Schemas."""

from __future__ import annotations

import click


@click.command()
@click.argument("name", required=False)
def schema(name: str | None) -> None:
    """Print the JSON Schema of a run's spec, part records, indexes or rows; without NAME, list them."""
    import json

    from stages.contract import schemas
    from stages.contract.errors import UsageError

    known = list(schemas.documents())
    if name is None:
        click.echo("\n".join(known))
    elif name not in known:
        raise UsageError(f"NAME {name!r}: write one of {', '.join(known)}")
    else:
        click.echo(json.dumps(schemas.schema(name), indent=2))
