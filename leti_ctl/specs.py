"""From what a person writes (preset, YAML file, `--set a.b=c`) to a `RunSpec`, or one line that says what is wrong."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from stages.contract.errors import SpecError, UsageError
from stages.contract.spec import RunSpec

PATH_FIELDS = ("model.source", "task.source", "generate.script", "pretraining.source")


class _Loader(yaml.SafeLoader):
    """YAML 1.1 with two of its traps closed: `1e-5` is a number, and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise SpecError(f"line {node.value[number][0].start_mark.line + 1}: {key!r} is given twice; keep one")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def preset_names() -> list[str]:
    """Return the presets that come with leti, sorted."""
    folder = resources.files("leti_ctl").joinpath("presets")
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def preset_text(name: str) -> str:
    """Return a preset as written."""
    if name not in preset_names():
        raise UsageError(f"--preset {name!r}: no such preset{_hint(name, preset_names())}; see `leti-ctl presets`")
    return resources.files("leti_ctl").joinpath(f"presets/{name}.yaml").read_text(encoding="utf-8")


def preset_summary(name: str) -> str:
    """Return the preset's first comment line: what it is."""
    return preset_text(name).partition("\n")[0].lstrip("# ").strip()


def load_spec(*, preset: str | None, file: Path | None, overrides: Iterable[str], iterations: int | None) -> RunSpec:
    """Return the spec that a preset, then a file, then `--set`, then `--iterations` describe."""
    data: dict[str, Any] = {}
    if preset:
        data = _extended(_mapping(preset_text(preset), f"preset {preset}"), seen=(preset,))
    if file:
        data = _merge(data, _extended(_mapping(_read(file), str(file)), seen=()))
    for override in overrides:
        data = _merge(data, _override(override))
    if iterations is not None:
        data = _merge(data, {"iterations": iterations})
    return validate(_absolute_paths(data))


def override(spec: RunSpec, *, overrides: Iterable[str], iterations: int | None) -> RunSpec:
    """Return `spec` with fields replaced."""
    data: dict[str, Any] = spec.model_dump(mode="json")
    for each in overrides:
        data = _merge(data, _override(each))
    return validate(_merge(data, {"iterations": iterations or data["iterations"]}))


def validate(data: Mapping[str, Any]) -> RunSpec:
    """Return the spec `data` holds; `SpecError` with one line about the first thing that is wrong."""
    try:
        # Validated as JSON: lists are then tuples and nothing else is converted.
        return RunSpec.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        raise SpecError(_explain(error)) from error


def to_yaml(spec: BaseModel) -> str:
    """Return a section as YAML, keys in class order."""
    return yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"-f {str(file)!r}: {reason}") from error


def _mapping(text: str, source: str) -> dict[str, Any]:
    try:
        data = yaml.load(text, Loader=_Loader)
    except SpecError as error:
        raise SpecError(f"{source}: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise SpecError(f"{source}{where}: not YAML: {getattr(error, 'problem', None) or error}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise SpecError(f"{source}: a run spec is a mapping of sections, got {type(data).__name__}")
    return data


def _extended(data: dict[str, Any], seen: tuple[str, ...]) -> dict[str, Any]:
    """Lay `data` over the preset it names under `extends`."""
    parent = data.pop("extends", None)
    if parent is None:
        return data
    if parent in seen:
        raise SpecError(f"extends: {' -> '.join([*seen, parent])} goes round in a circle")
    base = _extended(_mapping(preset_text(str(parent)), f"preset {parent}"), (*seen, parent))
    return _merge(base, data)


def _override(text: str) -> dict[str, Any]:
    path, equals, value = text.partition("=")
    if not equals or not path or not all(path.split(".")):
        raise UsageError(f"--set {text!r}: write field=value with a dotted field, such as train.learning_rate=1e-5")
    try:
        data: Any = yaml.load(value, Loader=_Loader) if value.strip() else value
    except yaml.YAMLError as error:
        raise UsageError(f"--set {text!r}: the value is not YAML") from error
    for name in reversed(path.split(".")):
        data = {name: data}
    return dict(data)


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` laid on top; mappings are merged, everything else is replaced."""
    merged = dict(base)
    for name, value in over.items():
        old = merged.get(name)
        merged[name] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _absolute_paths(data: dict[str, Any]) -> dict[str, Any]:
    """Make every field that names an existing file absolute: stages run from elsewhere."""
    for field in PATH_FIELDS:
        section, name = field.split(".")
        value = data.get(section, {}).get(name) if isinstance(data.get(section), Mapping) else None
        if isinstance(value, str) and Path(value).expanduser().exists():
            absolute = str(Path(value).expanduser().absolute())
            data = _merge(data, {section: {name: absolute}})
    return data


def _explain(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"{path}: unknown field{_hint(path, _field_paths(RunSpec))}; `leti-ctl presets --fields` lists them all"
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"]) if not path else f"{path}: {fault['ctx']['error']}"
    shown = json.dumps(fault["input"], default=str)
    message = fault["msg"].replace("Input should be", "must be")
    return f"{path or 'spec'}: {message}, got {shown if len(shown) <= 60 else shown[:57] + '...'}"


def _hint(word: str, known: Iterable[str]) -> str:
    """`, did you mean x?` for the nearest known name: alike, or spelled by its initials (`lr`), or empty."""
    section, _, name = word.rpartition(".")
    near = [path for path in known if path.rpartition(".")[0] == section] or list(known)
    names = {path.rpartition(".")[2]: path for path in near}
    initials = {"".join(part[:1] for part in each.split("_")): each for each in names}
    close = difflib.get_close_matches(name, names, n=1) or ([initials[name]] if name in initials else [])
    return f", did you mean {names[close[0]]}?" if close else ""


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
