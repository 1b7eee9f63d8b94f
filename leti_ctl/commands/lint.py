"""`leti-ctl lint`: what is wrong with manifests, before a cluster says so."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from leti_ctl import options

STANDARD_INPUT = Path("-")
SUFFIXES = (".yaml", ".yml", ".json")


@click.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, allow_dash=True, path_type=Path))
@click.option("--profile", "profiles", multiple=True, metavar="NAME|FILE", help="Check what `render` makes of it.")
@options.as_json
def lint(files: tuple[Path, ...], profiles: tuple[str, ...], as_json: bool) -> None:
    """Check Workflows and WorkflowTemplates: every field, and what no schema sees. No cluster needed.

    Give files, folders, - for standard input, or profiles; with none of them every profile that comes with leti is
    checked. Ends with 0 if nothing is wrong, with 1 if something is. For an overlay of your own:

    kubectl kustomize FOLDER | leti-ctl lint -
    """
    import json

    from leti_ctl.backends.argo.lint import KINDS, RULES, STRUCTURE
    from leti_ctl.backends.argo.lint import lint as find

    given = [*_read(files), *_render(profiles, every=not files and not profiles)]
    checked = [body for body in given if body.get("kind") in KINDS]
    findings = find(checked)
    if as_json:
        names, rules = [_title(body) for body in checked], [STRUCTURE, *RULES]
        rows = [finding._asdict() for finding in findings]
        click.echo(json.dumps({"objects": names, "rules": rules, "findings": rows}, indent=2))
    else:
        for finding in findings:
            click.echo(str(finding))
        found, objects = _count(len(findings), "finding"), _count(len(checked), "object")
        click.echo(f"{found} in {objects} ({len(RULES) + 1} rules)", err=True)
    click.get_current_context().exit(1 if findings else 0)


def _count(number: int, thing: str) -> str:
    return f"{number or 'no'} {thing}{'' if number == 1 else 's'}"


def _title(body: dict[str, Any]) -> str:
    return f"{body['kind']} {(body.get('metadata') or {}).get('name')}"


def _read(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Return every object of the files, and of the YAML and JSON files below folders."""
    import yaml

    from stages.contract.errors import UsageError

    found: list[dict[str, Any]] = []
    for path in (path for given in files for path in _files(given)):
        try:
            text = sys.stdin.read() if path == STANDARD_INPUT else path.read_text()
            documents = list(yaml.safe_load_all(text))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: no YAML ({' '.join(str(error).split())}); correct it or leave it out") from None
        found += [body for body in documents if isinstance(body, dict)]
    return found


def _files(given: Path) -> list[Path]:
    return sorted(path for path in given.rglob("*") if path.suffix in SUFFIXES) if given.is_dir() else [given]


def _render(profiles: Sequence[str], *, every: bool) -> list[dict[str, Any]]:
    if not every and not profiles:
        return []
    from leti_ctl.backends.argo.templates import workflow_template
    from leti_ctl.config.profiles import load_profile, profile_names

    return [workflow_template(load_profile(name)) for name in (profile_names() if every else profiles)]
