"""YAML that people write, laid over each other and validated as one section, or one line that says what is wrong."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from stages.contract.errors import SpecError, UsageError

S = TypeVar("S", bound=BaseModel)


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


def read(file: Path, option: str = "-f") -> str:
    """Return the text of a file a person named with `option`; `UsageError` when it cannot be read."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"{option} {str(file)!r}: {reason}") from error


def mapping(text: str, source: str, what: str = "a run spec") -> dict[str, Any]:
    """Return the mapping a YAML text holds, empty for an empty text; errors name `source` and what it should be."""
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
        raise SpecError(f"{source}: {what} is a mapping of sections, got {type(data).__name__}")
    return data


def override(text: str, option: str = "--set") -> dict[str, Any]:
    """Return the layer that one `field=value` is."""
    path, equals, value = text.partition("=")
    if not equals or not path or not all(path.split(".")):
        raise UsageError(f"{option} {text!r}: write field=value with a dotted field, such as train.learning_rate=1e-5")
    try:
        data: Any = yaml.load(value, Loader=_Loader) if value.strip() else value
    except yaml.YAMLError as error:
        raise UsageError(f"{option} {text!r}: the value is not YAML") from error
    for name in reversed(path.split(".")):
        data = {name: data}
    return dict(data)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` laid on top; mappings are merged, everything else is replaced."""
    merged = dict(base)
    for name, value in over.items():
        old = merged.get(name)
        merged[name] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def leaves(data: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of nested mappings with its dotted path; lists are values."""
    for name, value in data.items():
        place = f"{path}.{name}" if path else name
        if isinstance(value, Mapping):
            yield from leaves(value, place)
        else:
            yield place, value


def extended(data: dict[str, Any], kind: str, text_of: Callable[[str], str], seen: tuple[str, ...]) -> dict[str, Any]:
    """Lay `data` over what it names under `extends`: a `kind` (preset, profile) whose YAML `text_of` its name gives.

    `seen` are the names that led here; `SpecError` when one of them comes again.
    """
    parent = data.pop("extends", None)
    if parent is None:
        return data
    if parent in seen:
        raise SpecError(f"extends: {' -> '.join([*seen, parent])} goes round in a circle")
    name = str(parent)
    base = extended(mapping(text_of(name), f"{kind} {name}"), kind, text_of, (*seen, name))
    return merge(base, data)


def validate(kind: type[S], data: Mapping[str, Any], *, what: str, known: Iterable[str], see: str) -> S:
    """Return the section `data` holds; `SpecError` with one line about the first thing that is wrong.

    `what` names the whole in messages, `known` are its dotted fields and `see` is the command that lists them.
    """
    try:
        # Validated as JSON: lists are then tuples and nothing else is converted.
        return kind.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        raise SpecError(_explain(error, what, known, see)) from error


def hint(word: str, known: Iterable[str]) -> str:
    """`, did you mean x?` for the nearest known name: alike, or spelled by its initials (`lr`), or empty."""
    section, _, name = word.rpartition(".")
    known = tuple(known)
    near = [path for path in known if path.rpartition(".")[0] == section] or list(known)
    names = {path.rpartition(".")[2]: path for path in near}
    initials = {"".join(part[:1] for part in each.split("_")): each for each in names}
    close = difflib.get_close_matches(name, names, n=1) or ([initials[name]] if name in initials else [])
    return f", did you mean {names[close[0]]}?" if close else ""


def _explain(error: ValidationError, what: str, known: Iterable[str], see: str) -> str:
    fault = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"{path}: unknown field{hint(path, known)}; `{see}` lists them all"
    if fault["type"] == "missing":
        return f"{path}: missing; set it"
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"]) if not path else f"{path}: {fault['ctx']['error']}"
    shown = json.dumps(fault["input"], default=str)
    message = fault["msg"].replace("Input should be", "must be")
    return f"{path or what}: {message}, got {shown if len(shown) <= 60 else shown[:57] + '...'}"
