"""Manifests as text: YAML with keys in the order of rendering and long strings as blocks, the same bytes every time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Writes strings of several lines as blocks, and no anchors: people read and patch this."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def to_yaml(manifest: Mapping[str, Any]) -> str:
    """Return one object as YAML."""
    return yaml.dump(dict(manifest), Dumper=_Dumper, sort_keys=False, width=1000)


def file_name(manifest: Mapping[str, Any]) -> str:
    """Return the file an object is written to: `kind.yaml` for the template `leti-kind`, `workflow-NAME.yaml` else."""
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    return f"{name.removeprefix('leti-')}.yaml" if kind == "WorkflowTemplate" else f"{kind.lower()}-{name}.yaml"
