"""Where manifests as rendered and as found elsewhere, in a folder or a cluster, are not the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from leti_ctl.backends.argo.text import file_name, to_yaml

SHOWN_CHARS = 60
Manifest = Mapping[str, Any]


def in_folder(rendered: Iterable[Manifest], folder: Path) -> list[str]:
    """Return one line for each file of a folder that is missing or not byte for byte what was rendered."""
    import yaml

    lines = []
    for manifest in rendered:
        path, wanted = folder / file_name(manifest), to_yaml(manifest)
        if not path.is_file():
            lines.append(f"{path}: missing")
        elif (text := path.read_text(encoding="utf-8")) != wanted:
            found = yaml.safe_load(text)
            lines += [f"{path}: {line}" for line in differences(manifest, found)] or [f"{path}: layout or comments"]
    return lines


def in_cluster(rendered: Iterable[Manifest], find: Callable[[str], Manifest | None]) -> list[str]:
    """Return one line for each field of a WorkflowTemplate that the cluster has differently.

    `find` returns the cluster's template of a name, or None. Images and other defaults of parameters are the
    deployment's own and not compared.
    """
    lines = []
    for manifest in rendered:
        name = manifest["metadata"]["name"]
        found = find(name)
        if found is None:
            lines.append(f"workflowtemplate {name}: missing")
            continue
        lines += [f"workflowtemplate {name}: {line}" for line in differences(_fixed(manifest), _fixed(found))]
    return lines


def differences(wanted: Any, found: Any, path: str = "") -> Iterator[str]:
    """Yield `path: found, wanted` for each place where two documents differ."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for key in [*wanted, *(key for key in found if key not in wanted)]:
            yield from differences(wanted.get(key), found.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for number, (left, right) in enumerate(zip(wanted, found, strict=True)):
            yield from differences(left, right, f"{path}[{number}]")
    elif wanted != found:
        yield f"{path}: is {_shown(found)}, rendered {_shown(wanted)}"


def _fixed(manifest: Manifest) -> dict[str, Any]:
    spec = {name: value for name, value in manifest["spec"].items() if name != "arguments"}
    parameters = manifest["spec"].get("arguments", {}).get("parameters", [])
    return {"spec": {**spec, "parameters": [one["name"] for one in parameters]}}


def _shown(value: Any) -> str:
    if value is None:
        return "absent"
    text = " ".join(str(value).split())
    return text if len(text) <= SHOWN_CHARS else f"{text[: SHOWN_CHARS - 3]}..."
