"""`leti-ctl context`: where runs go, and choosing another place."""

from __future__ import annotations

import click

from leti_ctl import options


@click.command()
@click.argument("name", required=False)
@options.as_json
def context(name: str | None, as_json: bool) -> None:
    """List the contexts of the context file and what a run would use now; with NAME make that context the current one.

    The file is YAML, at LETI_CONFIG or ~/.config/leti/config.yaml: `current: NAME`, and under `contexts` for each name
    any of backend (local or argo), store, preset, profile, kube_context, namespace and argo_url. For the backend
    --backend comes first, then LETI_BACKEND, then the context; LETI_CONTEXT names another context for one command.
    """
    import json

    from leti_ctl.config import contexts
    from leti_ctl.results import tables

    if name:
        click.echo(f"{name} is now the current context of {contexts.use(name)}", err=True)
    config, (chosen, _), choice = contexts.load(), contexts.current(), contexts.choose(None)
    columns = ("context", *contexts.Context.model_fields)
    rows = [
        {"context": f"{each} *" if each == chosen and not as_json else each, **found.model_dump()}
        for each, found in config.contexts.items()
    ]
    if as_json:
        now = {"backend": choice.backend, "why": choice.why, "context": chosen}
        click.echo(json.dumps({"file": str(contexts.config_file()), "now": now, "contexts": rows}, indent=2))
        return
    shown = [{key: "" if value is None else value for key, value in row.items()} for row in rows]
    tables.print_rows(shown, columns, empty=f"no contexts; {contexts.config_file()} would hold them")
    click.echo(f"a run started now goes to backend {choice.backend} ({choice.why})")
