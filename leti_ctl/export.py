"""A checkpoint as a Hugging Face folder that says where it comes from: verified files and a model card."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from leti_ctl import control, summary
from leti_ctl.audit.catalog import Catalog
from leti_ctl.garbage import checkpoint_is_whole
from leti_ctl.specs import to_yaml
from leti_ctl.trace import lineage
from stages.contract.artifacts import Ref
from stages.contract.errors import UsageError
from stages.contract.run import Run
from stages.contract.spec import RunSpec

LINEAGE = "leti-lineage.json"


def choose(run: Run, wanted: str) -> int:
    """Return the iteration that `best`, `last` or a number names; `UsageError` when it is not there."""
    catalog = Catalog(run)
    whole = [ref.iteration for ref in catalog.refs if ref.artifact == "checkpoint" and ref.iteration is not None]
    there = [number for number in sorted(whole) if checkpoint_is_whole(catalog, number)]
    if not there:
        raise UsageError(f"run {run.name} has no checkpoint yet; `leti-ctl status` says how far it is")
    if wanted == "last":
        return there[-1]
    if wanted == "best":
        best = summary.summarize(run)["best"]
        if best is None:
            raise UsageError(f"run {run.name} has no scores yet; choose --iteration last or a number")
        wanted = str(best["iteration"])
    if not wanted.isdecimal() or int(wanted) not in there:
        raise UsageError(f"--iteration {wanted!r}: write best, last or one of {', '.join(map(str, there))}")
    return int(wanted)


def export(run: Run, iteration: int, out: Path) -> Path:
    """Write the checkpoint, its card and its lineage to a new folder `out`, all of it or nothing."""
    if out.exists():
        raise UsageError(f"--out {str(out)!r}: exists; name a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        source = run.fetch(Ref("checkpoint", iteration), Path(scratch) / "files")
        staged = Path(scratch) / "staged"
        shutil.copytree(source, staged)
        told = lineage(Catalog(run), Ref("checkpoint", iteration))
        (staged / LINEAGE).write_text(json.dumps(told, indent=2) + "\n")
        (staged / "README.md").write_text(card(run, iteration, told))
        staged.replace(out)
    return out


def card(run: Run, iteration: int, told: dict[str, Any]) -> str:
    """Return the model card: what it is, its scores by iteration, what made it."""
    spec = control.current_spec(run)
    found = summary.summarize(run)
    scores = _scores(found["per_iteration"], iteration)
    return f"""---
library_name: transformers
base_model: {spec.model.source}
tags: [leti, code, learning-from-textual-interactions]
---

# {run.name}, checkpoint {iteration}

Fine-tuned from `{spec.model.source}` on {spec.task.name} with LETI (Learning from Textual Interactions, arXiv
2305.10314): {iteration} iterations of generating solutions, executing them, and training on the outcome and its
textual feedback{_origin(spec)}.
Prompts of training began with `{spec.model.tokens.good}`; begin them so for the best solutions.

## Scores

{scores}

## Lineage

| | |
|---|---|
| run | `{run.uri}` |
| spec SHA-256 | `{run.spec_sha256}` |
| checkpoint digest | `{told.get("sha256")}` |
| made by | {", ".join(told.get("code", []))} on {", ".join(told.get("hosts", []))}, {told.get("started_at")} |
| images | {", ".join(told.get("images", [])) or "none recorded"} |

`{LINEAGE}` holds every ancestor with its digest; `leti-ctl audit` and `leti-ctl trace` check it against the store.

## Spec

```yaml
{to_yaml(spec)}```
"""


def _origin(spec: RunSpec) -> str:
    """Return what to say of the iterations before, where the run went on from another's checkpoint."""
    model = spec.model
    return "" if model.from_run is None else f", after the {model.from_iteration} of run `{model.from_run}`"


def _scores(rows: list[dict[str, Any]], chosen: int) -> str:
    """Return a Markdown table of every iteration's pass@k on each split."""
    columns = sorted({(split, k) for row in rows for split, score in row["scores"].items() for k in score["pass_at_k"]})
    if not columns:
        return "Not evaluated."
    lines = ["| iteration | " + " | ".join(f"{split} pass@{k}" for split, k in columns) + " |"]
    lines.append("|---:" * (len(columns) + 1) + "|")
    for row in rows:
        values = [_value(row["scores"].get(split, {}).get("pass_at_k", {}).get(k)) for split, k in columns]
        mark = " (this)" if row["iteration"] == chosen else ""
        lines.append(f"| {row['iteration']}{mark} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def _value(interval: dict[str, float] | None) -> str:
    if interval is None:
        return ""
    return f"{interval['value']:.1%} ({interval['low']:.1%} to {interval['high']:.1%})"
