"""Whether a run ends before its last iteration: one function, which the local driver and the plan step both ask.

A decision is made when iteration i could begin (its training is not committed, everything before it is) and is
recorded once, in `control/decisions/`; whoever asks again, a doubled plan step or a resumed driver, is told the same.
The record's key carries a digest of the rules it was made by (`stop` and `iterations`), so other rules decide anew. A
run that ends before iteration i has trained checkpoint i, and the held-out passes of iteration i still score it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from pydantic import NonNegativeInt

from leti_ctl import control
from stages.contract.artifacts import Part, PartRecord, Ref
from stages.contract.errors import ArtifactError
from stages.contract.records import Metrics, Record
from stages.contract.run import Run
from stages.contract.spec import RunSpec

READERS = 16
"""Part records read at the same time: each is one round trip to the store."""


class Decision(Record):
    """Whether the run ends before `iteration`, and what that was decided from."""

    iteration: NonNegativeInt
    ends: bool
    reason: str
    """One clause for people; empty when the run goes on."""
    gpu_hours: float | None = None
    """Spent when it was decided; null when there is no limit on them."""
    scores: tuple[float, ...] = ()
    """pass@k (the least k) of iterations 0 to `iteration` - 1; empty without `stop.patience`."""
    at: str


def decide(run: Run, spec: RunSpec, iteration: int) -> Decision:
    """Return the recorded decision about an iteration, making it where there is none yet.

    Raises `ArtifactError` when `stop.patience` is set and an evaluation before the iteration is missing.
    """
    key = _key(run, spec, iteration)
    found = _read(run, key)
    if found is None:
        made = _make(run, spec, iteration)
        if run.store.put_if_absent(key, control.sealed(made)):
            return made
        found = _read(run, key)
    if found is None:
        raise ArtifactError(f"{key} vanished while it was written; look who deletes in this store")
    return found


def settle(run: Run, spec: RunSpec, iteration: int) -> RunSpec:
    """Decide about an iteration if that is open, and return the spec with the iterations that will be trained."""
    known = effective(run, spec)
    is_open = _has_rules(spec) and 0 < iteration < known.iterations and not _is_trained(run, iteration)
    if is_open and decide(run, spec, iteration).ends:
        return _cut(spec, iteration)
    return known


def effective(run: Run, spec: RunSpec) -> RunSpec:
    """Return the spec with `iterations` as far as is decided now; the spec itself while nothing ends the run early."""
    end = early_end(run, spec)
    return _cut(spec, end.iteration) if end else spec


def early_end(run: Run, spec: RunSpec) -> Decision | None:
    """Return the decision that ends the run early, or None; reads nothing but the store's decisions."""
    if not _has_rules(spec):
        return None
    suffix = f"-{_rules(spec)}.json"
    keys = [key for key in run.store.list(run.key("control/decisions/")) if key.endswith(suffix)]
    made = (_read(run, key) for key in keys)
    return next((each for each in made if each and each.ends and not _is_trained(run, each.iteration)), None)


def check(run: Run, key: str) -> None:
    """Raise `ArtifactError` for a decision of this run that is not as it was written."""
    if key.startswith("control/decisions/"):
        control.find(run, run.key(key), Decision)


def gpu_hours(run: Run) -> float:
    """Return the accelerator-hours of everything committed.

    The sum over the parts of `generate` (samples) and `train` (checkpoints after the first) of the part's seconds, from
    the start of its process to its commit, times the `accelerators` it recorded. Attempts that were lost left no
    record, and pods that wait for a node or pull an image hold no process; neither is counted.
    """
    with ThreadPoolExecutor(READERS) as readers:
        found = list(readers.map(run.store.get, _accelerated(run.store.list(run.key("iterations/")))))
    return sum(accelerator_hours(PartRecord.model_validate_json(data)) for data in found)


def accelerator_hours(record: PartRecord) -> float:
    """Return a part's hours times the accelerators its stage saw; 0 on a machine without."""
    return record.made.seconds * record.made.counters.get("accelerators", 0.0) / 3600


def score(run: Run, spec: RunSpec, iteration: int) -> float:
    """Return an iteration's pass@k, least k, on `evaluate.select_on`: the best of its temperatures."""
    names = [one.name for one in spec.passes() if one.split == spec.evaluate.select_on]
    rows = [next(run.read(Ref("metrics", iteration, name), Metrics)) for name in names]
    estimates = [row.pass_at_k.get(str(min(spec.evaluate.k))) for row in rows]
    return max(estimate.value if estimate else 0.0 for estimate in estimates)


def stale_for(scores: Iterable[float], least: float) -> int:
    """Return how many scores in a row, at the end, did not exceed the best before them by more than `least`."""
    best, stale = None, 0
    for value in scores:
        if best is None or value > best + least:
            best, stale = value, 0
        else:
            stale += 1
    return stale


def _make(run: Run, spec: RunSpec, iteration: int) -> Decision:
    stop = spec.stop
    spent = gpu_hours(run) if stop.max_gpu_hours is not None else None
    scores = tuple(score(run, spec, number) for number in range(iteration)) if stop.patience is not None else ()
    stale = stale_for(scores, stop.min_improvement)
    reason = ""
    if stop.max_gpu_hours is not None and spent is not None and spent >= stop.max_gpu_hours:
        reason = f"{spent:.2f} GPU-hours are spent and stop.max_gpu_hours is {stop.max_gpu_hours:g}"
    elif stop.patience is not None and stale >= stop.patience:
        word = "iteration" if stale == 1 else "iterations"
        reason = (
            f"pass@{min(spec.evaluate.k)} on {spec.evaluate.select_on} did not improve in {stale} {word} "
            f"(stop.patience {stop.patience}, stop.min_improvement {stop.min_improvement:g})"
        )
    return Decision(
        iteration=iteration, ends=bool(reason), reason=reason, gpu_hours=spent, scores=scores, at=control.now()
    )


def _has_rules(spec: RunSpec) -> bool:
    return spec.stop.max_gpu_hours is not None or spec.stop.patience is not None


def _is_trained(run: Run, iteration: int) -> bool:
    """Whether the iteration's training is committed; then there is nothing left to decide about it."""
    return run.store.has(run.key(Ref("checkpoint", iteration + 1).part_key(Part())))


def _cut(spec: RunSpec, iterations: int) -> RunSpec:
    return spec.model_copy(update={"iterations": iterations})


def _accelerated(keys: Iterable[str]) -> list[str]:
    return [
        key
        for key in keys
        if "/parts/" in key and ("/samples/" in key or ("/checkpoint/" in key and "/iterations/0000/" not in key))
    ]


def _key(run: Run, spec: RunSpec, iteration: int) -> str:
    return run.key(f"control/decisions/{iteration:04d}-{_rules(spec)}.json")


def _rules(spec: RunSpec) -> str:
    text = f"{spec.iterations} {spec.stop.model_dump_json()}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _read(run: Run, key: str) -> Decision | None:
    return control.find(run, key, Decision)
