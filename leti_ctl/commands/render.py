"""`leti-ctl render`: the graph as Argo manifests, on stdout, in a folder, or compared with where they already are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leti_ctl import options

if TYPE_CHECKING:
    from leti_ctl.config.profiles import Profile

CLUSTER = "cluster"


@click.command()
@click.option("--profile", "named", multiple=True, metavar="NAME|FILE", help="Node pools; without it, every profile.")
@click.option(
    "--profile-set",
    "changed",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Override a field of the profile; repeatable.",
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Write one file per object."
)
@click.option(
    "--check",
    is_flag=False,
    flag_value=CLUSTER,
    metavar="[DIR|cluster]",
    help="Write nothing; say where a folder, or the cluster, differs. Ends with 1 if it does.",
)
@click.option("--preset", metavar="NAME", help="Also render a run's Workflow, from a preset.")
@click.option("-f", "--file", type=click.Path(path_type=Path), metavar="RUN.yaml", help="The same from a run spec.")
@options.iterations
@options.overrides
@options.store
@click.option("--name", metavar="RUN", help="Name of the run; by default the preset's or file's.")
@click.option("--standalone", is_flag=True, help="Put the templates into the Workflow instead of referring to them.")
def render(
    named: tuple[str, ...],
    changed: tuple[str, ...],
    out: Path | None,
    check: str | None,
    preset: str | None,
    file: Path | None,
    iterations: int | None,
    overrides: tuple[str, ...],
    store_uri: str,
    name: str | None,
    standalone: bool,
) -> None:
    """Render the WorkflowTemplate of a profile, and with a spec the Workflow that `submit` would create.

    The same input gives the same bytes. `leti-ctl render --profile P | kubectl apply -f -` installs a template.
    """
    from leti_ctl.backends.argo import text
    from leti_ctl.config import profiles, specs
    from stages.contract.errors import UsageError

    loaded = [profiles.load_profile(each, changed) for each in named or profiles.profile_names()]
    if (preset or file) and len(loaded) != 1:
        raise UsageError("--profile: a Workflow is for one profile; name it, such as --profile kind")
    if standalone and not (preset or file):
        raise UsageError("--standalone: what is to be run? add --preset NAME or -f RUN.yaml")
    objects = [] if standalone else _templates(loaded)
    if preset or file:
        spec = specs.load_spec(preset=preset, file=file, overrides=overrides, iterations=iterations)
        run_name = name or (file.stem if file else preset or "run")
        objects.append(_workflow(run_name, store_uri, spec, loaded[0], standalone=standalone))
    if check:
        _check(objects, check, loaded)
    elif out:
        out.mkdir(parents=True, exist_ok=True)
        for each in objects:
            (out / text.file_name(each)).write_text(text.to_yaml(each), encoding="utf-8")
            click.echo(out / text.file_name(each))
    else:
        click.echo("---\n".join(text.to_yaml(each) for each in objects), nl=False)


def _templates(profiles: Sequence[Profile]) -> list[dict[str, Any]]:
    from leti_ctl.backends.argo.templates import workflow_template

    return [workflow_template(each) for each in profiles]


def _workflow(run_name: str, store_uri: str, spec: Any, profile: Profile, *, standalone: bool) -> dict[str, Any]:
    from leti_ctl.backends.argo import workflow as rendering
    from stages.contract.errors import UsageError
    from stages.contract.store import address

    if not store_uri.startswith("s3://"):
        raise UsageError(f"--store {store_uri!r}: pods on a cluster reach no folder of this machine; use s3://bucket")
    make = rendering.standalone if standalone else rendering.workflow
    return make(run_name, address.join(store_uri, f"runs/{run_name}"), spec, profile)


def _check(objects: Sequence[dict[str, Any]], place: str, profiles: Sequence[Profile]) -> None:
    """Compare with a folder or the cluster; end with 1 where they differ."""
    from leti_ctl.backends.argo import drift

    if place == CLUSTER:
        templates = [each for each in objects if each["kind"] == "WorkflowTemplate"]
        lines = drift.in_cluster(templates, _open(profiles[0]).find_template)
    else:
        lines = drift.in_folder(objects, Path(place))
    for line in lines:
        click.echo(line)
    click.echo(f"{len(lines) or 'no'} differences in {len(objects)} objects", err=True)
    click.get_current_context().exit(1 if lines else 0)


def _open(profile: Profile) -> Any:
    from leti_ctl.backends.argo.cluster import open_cluster
    from leti_ctl.config import contexts

    _, context = contexts.current()
    return open_cluster(context.kube_context, context.namespace or profile.namespace, contexts.DEFAULT_NAMESPACE)
