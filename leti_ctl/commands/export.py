"""`leti-ctl export`: a checkpoint to use elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from leti_ctl import options


@click.command()
@click.argument("run")
@click.option("--iteration", default="best", show_default=True, metavar="best|last|N", help="Which checkpoint.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="A new folder.")
@options.store
@options.as_json
def export(run: str, iteration: str, out: Path, store_uri: str, as_json: bool) -> None:
    """Write a checkpoint as a Hugging Face folder with a model card that states its scores and lineage.

    Every file is verified against its SHA-256 on the way. provenance.json beside them is an in-toto statement about
    all files with SLSA provenance, for cosign and the like to sign. Interrupted, the same command goes on.
    """
    import json

    from leti_ctl import control
    from leti_ctl.artifacts import export as exporting
    from leti_ctl.follow import bar
    from stages.contract.store import open_store

    opened = control.open_run(open_store(store_uri), run)
    chosen = exporting.choose(opened, iteration)
    with bar.bar(f"fetching checkpoint {chosen}") as advance:
        exporting.export(opened, chosen, out, advance)
    found = {"run": run, "iteration": chosen, "out": str(out)}
    click.echo(json.dumps(found) if as_json else f"checkpoint {chosen} of {run} is in {out}")
