"""What a run is, for people and searches in a tracker: parameters, tags, documents, and how it stands."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from leti_ctl import control, decisions, layers
from leti_ctl.inventory.makers import makers
from leti_ctl.pipeline import plan
from leti_ctl.results import summary
from leti_ctl.tracking.points import ended
from stages.contract.artifacts import Index, Part, PartRecord, Ref
from stages.contract.run import Run
from stages.contract.spec import RunSpec, strip_compatible

Scalar = bool | int | float | str


class Card(NamedTuple):
    """What a tracker shows beside the numbers."""

    name: str
    identity: str
    """The same for every export of a run and for no other run: from its URI and its spec."""
    params: dict[str, Scalar]
    """The spec's fields that decide rows, by dotted path; these never change."""
    tags: dict[str, str]
    documents: dict[str, str]
    """Texts by file name: the spec, and every artifact with its key and digest."""
    phase: str
    """Running, Succeeded, Failed or Stopped."""
    started: float
    """Seconds since the epoch, as are those of `ended`."""
    ended: float


def describe(run: Run) -> Card:
    """Return the run's card as it is now."""
    spec = decisions.effective(run, control.current_spec(run))
    found = summary.summarize(run)
    records = list(_records(run, spec))
    starts = [ended(record) - record.made.seconds for record in records]
    return Card(
        run.name,
        hashlib.sha256(f"{run.uri}\n{run.spec_sha256}".encode()).hexdigest()[:32],
        flatten(strip_compatible(run.spec)),
        {**_tags(run, found, records), **_checkpoint(run, found)},
        {"spec.json": run.spec.to_json(), "artifacts.json": _artifacts(run, spec)},
        found["phase"],
        min(starts, default=0.0),
        max(map(ended, records), default=0.0),
    )


def flatten(data: Mapping[str, Any]) -> dict[str, Scalar]:
    """Return the leaves of JSON data by dotted path; lists are leaves, spelled as JSON, and null is `null`."""
    return {
        path: value if isinstance(value, bool | int | float | str) else json.dumps(value)
        for path, value in layers.leaves(data)
    }


def _tags(run: Run, found: Mapping[str, Any], records: list[PartRecord]) -> dict[str, str]:
    made = makers(records, {"images": "image", "packages": "packages"})
    best = found["best"] or {}
    return {
        "leti.uri": run.uri,
        "leti.spec_sha256": run.spec_sha256,
        "leti.phase": found["phase"],
        "leti.iterations": str(found["iterations"]),
        "leti.best_iteration": str(best.get("iteration", "")),
        "leti.selected_on": str(best.get("selected_on", "")),
        **{f"leti.{name}": ", ".join(values) for name, values in made.items()},
    }


def _checkpoint(run: Run, found: Mapping[str, Any]) -> dict[str, str]:
    """Where the best model is; nothing is copied."""
    if not found["best"]:
        return {}
    ref = Ref("checkpoint", found["best"]["iteration"])
    index = run.find_index(ref)
    return {"leti.best_checkpoint": ref.prefix, "leti.best_checkpoint_sha256": index.digest()} if index else {}


def _records(run: Run, spec: RunSpec) -> Iterator[PartRecord]:
    """Yield the record that tells of each unit's end, of those that are committed; scores and trainings suffice."""
    refs = [Ref("problems", split="train")]
    refs += [Ref("steps", number) for number in range(spec.iterations)]
    refs += [Ref("metrics", number, one.name) for number in range(spec.iterations + 1) for one in spec.passes()]
    for ref in refs:
        if record := run.find_part(ref, Part()):
            yield record


def _artifacts(run: Run, spec: RunSpec) -> str:
    """Return, as JSON, every complete artifact: its key below the run's URI, its digest, and its objects' sizes."""
    refs = dict.fromkeys(ref for unit in plan(spec).units for ref in unit.outputs(spec))
    found = [_told(ref, index) for ref in refs if (index := run.find_index(ref))]
    return json.dumps({"run": run.uri, "artifacts": found}, indent=2) + "\n"


def _told(ref: Ref, index: Index) -> dict[str, Any]:
    size = sum(item.size for item in index.objects)
    return {"key": ref.prefix, "sha256": index.digest(), "rows": index.rows, "bytes": size}
