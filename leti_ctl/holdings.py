"""What a run holds: its artifacts as a list, their rows as text, two runs or iterations side by side."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from leti_ctl import control, summary
from leti_ctl.audit.catalog import Catalog
from leti_ctl.reader import packed_rows
from stages.contract.artifacts import ARTIFACTS, Part, Ref, parse_ref
from stages.contract.errors import UsageError
from stages.contract.run import Run
from stages.contract.spec import diff


def find_ref(catalog: Catalog, text: str) -> tuple[Ref, Part | None]:
    """Return the artifact (or one part of it) that `iterations/0003/samples/train#0/4` names and the run has."""
    named = parse_ref(text)
    there = catalog.parts.get(named[0], {}) if named else {}
    if named is None or not there:
        known = ", ".join(map(str, catalog.refs[:3]))
        raise UsageError(f"artifact {text!r}: the run has none of that name; `leti-ctl artifacts ls` lists {known} ...")
    ref, part = named
    if part is not None and catalog.part(ref, part) is None:
        parts = next(iter(there.values())).parts
        raise UsageError(f"artifact {text!r}: it has {parts} parts, of which {len(there)} are committed")
    return ref, part


def listing(run: Run, iteration: int | None = None) -> list[dict[str, Any]]:
    """Return one row per artifact in key order: how much it is, what it holds, when it was made."""
    catalog = Catalog(run)
    return [_listed(catalog, ref) for ref in catalog.refs if iteration is None or ref.iteration == iteration]


def rows(run: Run, ref: Ref, part: Part | None, limit: int) -> Iterator[dict[str, Any]]:
    """Yield an artifact's first rows as JSON data; training rows come as text, example by example."""
    kind = ARTIFACTS[ref.artifact]
    if ref.artifact == "examples":
        yield from islice(_examples(run, ref), limit)
    elif kind.format == "jsonl" and kind.record is not None:
        yield from (row.model_dump() for row in islice(run.read(ref, kind.record, part), limit))
    else:
        objects = Catalog(run).objects(ref)
        yield from ({"file": item.key, "bytes": item.size, "sha256": item.sha256} for item in islice(objects, limit))


def get(run: Run, ref: Ref, out: Path) -> list[Path]:
    """Copy an artifact's files into a new folder `out`, every checksum verified; nothing is left where one is wrong."""
    if out.exists():
        raise UsageError(f"--out {str(out)!r}: exists; name a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        staged = Path(scratch) / "staged"
        if ARTIFACTS[ref.artifact].format == "folder":
            shutil.copytree(run.fetch(ref, Path(scratch)), staged)
        else:
            staged.mkdir()
            for path in run.paths(ref, Path(scratch)):
                shutil.copyfile(path, staged / path.name)
        staged.replace(out)
    return sorted(path for path in out.rglob("*") if path.is_file())


def compare(one: Run, other: Run, iterations: tuple[int, int] | None = None) -> dict[str, Any]:
    """Return what differs between two runs, or between two iterations of one: spec, data, scores."""
    left, right = _digests(one, iterations and iterations[0]), _digests(other, iterations and iterations[1])
    scores = [_scores(run, wanted) for run, wanted in zip((one, other), iterations or (None, None), strict=True)]
    return {
        "runs": [one.name, other.name],
        "iterations": list(iterations) if iterations else None,
        "spec": list(diff(one.spec.model_dump(mode="json"), other.spec.model_dump(mode="json"))),
        "equal": sorted(name for name in left.keys() & right.keys() if left[name] == right[name]),
        "different": sorted(name for name in left.keys() & right.keys() if left[name] != right[name]),
        "only_first": sorted(left.keys() - right.keys()),
        "only_second": sorted(right.keys() - left.keys()),
        "scores": [
            {"pass": name, "first": scores[0].get(name), "second": scores[1].get(name)}
            for name in sorted(scores[0].keys() | scores[1].keys())
        ],
    }


def _listed(catalog: Catalog, ref: Ref) -> dict[str, Any]:
    records = list(catalog.parts.get(ref, {}).values())
    objects = [item for record in records for item in record.objects]
    digest = catalog.digest(ref)
    return {
        "artifact": str(ref),
        "parts": f"{len(records)}/{records[0].parts}" if records else "0",
        "rows": sum(record.rows for record in records),
        "objects": len(objects),
        "bytes": sum(item.size for item in objects),
        "sha256": digest,
        "made": min((record.made.started_at for record in records), default=None),
        "seconds": round(sum(record.made.seconds for record in records), 1),
    }


def _examples(run: Run, ref: Ref) -> Iterator[dict[str, Any]]:
    from tokenizers import Tokenizer

    checkpoint = Ref("checkpoint", ref.iteration)
    with tempfile.TemporaryDirectory(prefix="leti-tokenizer-") as scratch:
        folder = run.fetch(checkpoint, Path(scratch), only=("tokenizer.json",))
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for number, row in enumerate(packed_rows(run, ref)):
        start = 0
        for length, problem, sample in zip(row.lengths, row.problem_ids, row.samples, strict=True):
            ids = row.input_ids[start : start + length]
            start += length
            text = tokenizer.decode(list(ids), skip_special_tokens=False)
            yield {"row": number, "epoch": row.epoch, "step": row.step, "problem_id": problem, "sample": sample,
                   "tokens": length, "text": text}  # fmt: skip


def _digests(run: Run, iteration: int | None) -> dict[str, str]:
    """Return the data digest of every complete artifact; of one iteration, named without its number.

    Of the data alone: an artifact's own digest holds its keys, which hold the iteration.
    """
    catalog = Catalog(run)
    found = {}
    for ref in catalog.refs:
        if catalog.is_complete(ref) and (iteration is None or ref.iteration == iteration):
            name = str(ref) if iteration is None else str(ref._replace(iteration=None))
            found[name] = json.dumps([item.sha256 for item in catalog.objects(ref)])
    return found


def _scores(run: Run, iteration: int | None) -> dict[str, float]:
    spec = control.current_spec(run)
    return {
        f"{'' if iteration is not None else str(row['iteration']) + ' '}{split} pass@{k}": interval["value"]
        for row in summary.summarize(run)["per_iteration"]
        if iteration is None or row["iteration"] == iteration
        for split, score in row["scores"].items()
        for k, interval in score["pass_at_k"].items()
        if int(k) in spec.evaluate.k
    }
