"""Where a run comes from: its spec beside the presets, and the chain of digests from the base model to the last."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from leti_ctl import layers, presets
from leti_ctl.config import specs
from leti_ctl.inventory.catalog import Catalog
from leti_ctl.inventory.makers import ENVIRONMENT, makers
from stages.contract.artifacts import PartRecord, Ref
from stages.contract.errors import LetiError
from stages.contract.spec import RunSpec

Leaves = dict[str, Any]


def leaves(spec: RunSpec) -> Leaves:
    """Return every field of a spec under its dotted path, as JSON values."""
    return dict(layers.leaves(spec.model_dump(mode="json")))


def nearest_preset(spec: RunSpec) -> dict[str, Any]:
    """Return the preset that differs from the spec in the fewest fields, with those fields: `{path: [preset, run]}`."""
    mine = leaves(spec)
    best: dict[str, Any] = {"name": None, "changed": {}}
    for name, theirs in _presets().items():
        changed = {path: [theirs.get(path), value] for path, value in mine.items() if theirs.get(path) != value}
        if best["name"] is None or len(changed) < len(best["changed"]):
            best = {"name": name, "changed": changed}
    return best


@lru_cache(maxsize=1)
def _presets() -> dict[str, Leaves]:
    found = {}
    for name in presets.names():
        try:
            found[name] = leaves(specs.load_spec(preset=name, file=None, overrides=(), iterations=None))
        except LetiError:
            # A preset that needs a file or an override to be valid is nobody's whole spec.
            continue
    return found


def differing(runs: Mapping[str, Leaves]) -> dict[str, Leaves]:
    """Return per run the fields in which the runs differ from each other."""
    paths = dict.fromkeys(path for each in runs.values() for path in each)
    apart = [path for path in paths if len({json.dumps(each.get(path)) for each in runs.values()}) > 1]
    return {name: {path: each.get(path) for path in apart} for name, each in runs.items()}


def lineage(catalog: Catalog) -> dict[str, Any]:
    """Return who made the run, with what, and its chain of checkpoints, each with the digests it was made from."""
    records = [record for parts in catalog.parts.values() for record in parts.values()]
    return {
        "spec_sha256": catalog.run.spec_sha256,
        **makers(records, {**ENVIRONMENT, "torch": "torch", "devices": "device", "sandboxes": "sandbox"}),
        "checkpoints": list(_checkpoints(catalog)),
        "objects": len(catalog.sizes),
        "bytes": sum(catalog.sizes.values()),
    }


def _checkpoints(catalog: Catalog) -> Iterator[dict[str, Any]]:
    refs = [ref for ref in catalog.refs if ref.artifact == "checkpoint" and ref.iteration is not None]
    for ref in sorted(refs, key=lambda each: each.iteration or 0):
        records: Iterable[PartRecord] = catalog.parts.get(ref, {}).values()
        for record in records:
            yield {
                "iteration": ref.iteration,
                "sha256": catalog.digest(ref),
                "made_at": record.made.started_at,
                "host": record.made.host,
                "code": record.code,
                "bytes": sum(item.size for item in record.objects),
                "kept": not _is_removed(catalog, ref),
                "inputs": [each.model_dump() for each in record.inputs],
            }


def _is_removed(catalog: Catalog, ref: Ref) -> bool:
    """Whether the weights are no longer in the store: superseded and collected."""
    return any(item.key not in catalog.sizes for item in catalog.objects(ref))
