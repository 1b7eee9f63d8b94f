"""From what a person writes (preset, YAML file, `--set a.b=c`) to a `RunSpec`, or one line that says what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from leti_ctl import layers, presets
from stages.contract.spec import RunSpec

PATH_FIELDS = ("model.source", "task.source", "task.prompt_file", "generate.script", "pretraining.source")
NEW_PATHS = ("feedback.notes",)
"""Fields that name a file which may not be there yet."""


def load_spec(*, preset: str | None, file: Path | None, overrides: Iterable[str], iterations: int | None) -> RunSpec:
    """Return the spec that a preset, then a file, then `--set`, then `--iterations` describe."""
    data: dict[str, Any] = {}
    if preset:
        own = layers.mapping(presets.text(preset), f"preset {preset}")
        data = layers.extended(own, "preset", presets.text, (preset,))
    if file:
        own = layers.mapping(layers.read(file), str(file))
        data = layers.merge(data, layers.extended(own, "preset", presets.text, ()))
    for override in overrides:
        data = layers.merge(data, layers.override(override))
    if iterations is not None:
        data = layers.merge(data, {"iterations": iterations})
    return validate(_absolute_paths(data))


def override(spec: RunSpec, *, overrides: Iterable[str], iterations: int | None) -> RunSpec:
    """Return `spec` with fields replaced."""
    data: dict[str, Any] = spec.model_dump(mode="json")
    for each in overrides:
        data = layers.merge(data, layers.override(each))
    return validate(data if iterations is None else layers.merge(data, {"iterations": iterations}))


def validate(data: Mapping[str, Any]) -> RunSpec:
    """Return the spec `data` holds; `SpecError` with one line about the first thing that is wrong."""
    see = "leti-ctl presets --fields"
    return layers.validate(RunSpec, data, what="spec", known=_field_paths(RunSpec), see=see)


def to_yaml(spec: BaseModel) -> str:
    """Return a section as YAML, keys in class order."""
    return yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _absolute_paths(data: dict[str, Any]) -> dict[str, Any]:
    """Make every field that names a file absolute: stages run from elsewhere. Other names may be the hub's."""
    for field in (*PATH_FIELDS, *NEW_PATHS):
        section, name = field.split(".")
        value = data.get(section, {}).get(name) if isinstance(data.get(section), Mapping) else None
        if not isinstance(value, str) or "://" in value:
            continue
        if field in NEW_PATHS or Path(value).expanduser().exists():
            absolute = str(Path(value).expanduser().absolute())
            data = layers.merge(data, {section: {name: absolute}})
    return data


def _field_paths(section: type[BaseModel], prefix: str = "") -> list[str]:
    sections = [name for name, field in section.model_fields.items() if isinstance(field.annotation, type)]
    return [*(path for path, _, _ in fields(section, prefix)), *sections]


def fields(section: type[BaseModel] = RunSpec, prefix: str = "") -> list[tuple[str, Any, str]]:
    """Return every field as (dotted path, default, description), in order."""
    found: list[tuple[str, Any, str]] = []
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += fields(kind, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", field.default, " ".join((field.description or "").split())))
    return found
