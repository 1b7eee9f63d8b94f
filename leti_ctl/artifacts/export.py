"""A checkpoint as a Hugging Face folder that says where it comes from: verified files and a model card."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from leti_ctl import control
from leti_ctl.artifacts import fetching
from leti_ctl.artifacts.garbage import checkpoint_is_whole
from leti_ctl.artifacts.provenance import PROVENANCE, statement
from leti_ctl.config.specs import to_yaml
from leti_ctl.inventory.catalog import Catalog
from leti_ctl.inventory.finding import Finding
from leti_ctl.inventory.ledger import Ledger
from leti_ctl.results import summary
from leti_ctl.trace.lineage import bases, lineage
from stages.contract.artifacts import Ref, parse_ref
from stages.contract.errors import UsageError
from stages.contract.run import Run
from stages.contract.spec import RunSpec

LINEAGE = "leti-lineage.json"
HUB_NAMES = {"smollm2-135m-instruct": "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""What the hub calls models that leti has a name of its own for."""


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


def export(run: Run, iteration: int, out: Path, advance: fetching.Advance = lambda done, total: None) -> Path:
    """Write the checkpoint, its card, its lineage and its provenance to a new folder `out`, all of it or nothing.

    Interrupted, the next call goes on with what was fetched. `ArtifactError` where a file is not its record's, or where
    a record on the way to the base model is not as it was written: of such a checkpoint nothing could be stated.
    """
    ledger, ref = Ledger(run), Ref("checkpoint", iteration)
    told = lineage(ledger, ref)
    if fault := next((each for each in ledger.findings if not _is_spent(each, ref)), None):
        raise fault.as_error()
    with fetching.staged(out, str(told["sha256"])) as folder:
        fetching.bring(run, ref, ledger.need(ref).objects, folder, advance)
        (folder / LINEAGE).write_text(json.dumps(told, indent=2) + "\n")
        (folder / "README.md").write_text(card(run, iteration, told))
        (folder / PROVENANCE).write_text(json.dumps(statement(ledger, iteration, folder), indent=2) + "\n")
    return out


def _is_spent(finding: Finding, ref: Ref) -> bool:
    """Whether a finding tells of an ancestor's data alone: its record still says what it was."""
    is_data = finding.check in ("existence", "size") and parse_ref(finding.key) is None
    return is_data and not finding.key.startswith(f"{ref}/")


def card(run: Run, iteration: int, told: dict[str, Any]) -> str:
    """Return the model card: what it is, its scores by iteration, what made it."""
    spec = control.current_spec(run)
    found = summary.summarize(run)
    scores = _scores(found["per_iteration"], iteration)
    made = f"{', '.join(told.get('code', []))} on {', '.join(told.get('hosts', []))}, {told.get('started_at')}"
    return f"""---
{_metadata(run, spec, found["per_iteration"], iteration)}---

# {run.name}, checkpoint {iteration}

{_what(spec, iteration)}

## Scores

{scores}

## Lineage

| | |
|---|---|
| run | `{run.uri}` |
| spec SHA-256 | `{run.spec_sha256}` |
| checkpoint digest | `{told.get("sha256")}` |
| made by | {made} |
| images | {", ".join(told.get("images", [])) or "none recorded"} |
| packages | {", ".join(f"`{key}`" for key in told.get("packages", [])) or "none recorded"} |

It all began with:

{_began(told)}

`{LINEAGE}` holds every ancestor with its digest; `leti-ctl audit` and `leti-ctl trace` check it against the store.
`{PROVENANCE}` says the same of each file of this folder as an in-toto statement with SLSA provenance, to be signed.

## Spec

```yaml
{to_yaml(spec)}```
"""


def _metadata(run: Run, spec: RunSpec, rows: list[dict[str, Any]], iteration: int) -> str:
    """Return the card's YAML as the Hugging Face hub reads it; `base_model` only where the hub has one of that name."""
    base = HUB_NAMES.get(spec.model.source, spec.model.source)
    data: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["leti", "code", "learning-from-textual-interactions"],
    }
    if re.fullmatch(r"[\w.-]+/[\w.-]+", base) and not Path(base).exists():
        data["base_model"] = base
    results = [
        {
            "task": {"type": "text-generation"},
            "dataset": {"type": spec.task.name, "name": spec.task.name, "split": split},
            "metrics": [
                {"type": "pass@k", "name": f"pass@{k}", "value": round(interval["value"], 6)}
                for k, interval in score["pass_at_k"].items()
            ],
        }
        for row in rows
        if row["iteration"] == iteration
        for split, score in row["scores"].items()
        if split != "train" and score["pass_at_k"]
    ]
    if results:
        data["model-index"] = [{"name": run.name, "results": results}]
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))


def _began(told: dict[str, Any]) -> str:
    return "\n".join(f"- `{each['ref']}`, SHA-256 `{each['sha256']}`" for each in bases(told))


def _what(spec: RunSpec, iteration: int) -> str:
    """Return what was done to the model, and how to ask it."""
    leti = "LETI (Learning from Textual Interactions, arXiv\n2305.10314)"
    if iteration == 0 and spec.model.from_run is None:
        return (
            f"`{spec.model.source}` as a run on {spec.task.name} with {leti} began with it: the four special tokens\n"
            "are added to its vocabulary, and nothing is trained yet."
        )
    iterations = f"{iteration} iteration{'' if iteration == 1 else 's'}"
    asked = f"Prompts of training began with `{spec.model.tokens.good}`; begin them so for the best solutions."
    return (
        f"Fine-tuned from `{spec.model.source}` on {spec.task.name} with {leti}: {iterations} of generating solutions, "
        "executing them, and training on the outcome and its\n"
        f"textual feedback{_origin(spec)}." + ("" if spec.build.form == "supervised" else f"\n{asked}")
    )


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
