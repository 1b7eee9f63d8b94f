"""What a run can do without: data nobody points to, and weights that a retention rule gives up.

What is removed on purpose is written down first, in `gc/NNNN-<sha256>.json`, so that an audit can tell it from a loss.
The records of removed objects stay: lineage keeps every digest. Small files of a checkpoint (tokenizer, config) stay,
because training rows cannot be read without them.

A collection holds the run, by claim NNNN (`control`), before it looks for garbage and until it has removed it. So

- nobody drives the run meanwhile, and data that no record names has no writer that could still commit it;
- a run that is made from one of its checkpoints is either seen here, or sees the claim and waits (`ancestry.confirm`);
- a collection that is killed leaves a claim without an end and objects that are there although they are written down,
  both as good as removed or kept; the next one removes the rest, of half-removed checkpoints too.

What a claim cannot hold off are pods that were started past leti-ctl (`argo retry`, a workflow made by hand before its
plan step) and stages on a machine that was wrongly taken for gone. Such a writer makes the same bytes again under the
same key, so each orphan is looked at again when its turn comes: committed, or young because it was made again, it
stays. Lost can be what is made again between that look and the removal after it, one round trip, and what a writer
leaves uncommitted for longer than the rule's hours. An audit finds it as missing, and the part can be made again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import NamedTuple

from leti_ctl import control, decisions
from leti_ctl.artifacts import ancestry
from leti_ctl.inventory import removals
from leti_ctl.inventory.catalog import Catalog
from leti_ctl.inventory.removals import Collection, Removed
from leti_ctl.pipeline import done_units, plan
from leti_ctl.results import summary
from stages.contract.artifacts import Part, Ref, find_ref
from stages.contract.errors import Stopped, UsageError
from stages.contract.flow import inputs
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import Leftover

WEIGHTS = (".safetensors", ".bin", ".pt")
_PART_OBJECT = re.compile(r"(\d{5})-of-(\d{5})-")


class Retention(NamedTuple):
    """Which checkpoints keep their weights. The last always does: a resumed run goes on from it.

    So does every one that another run of the store starts from: its audit compares its copy with this.
    """

    best: bool = True
    """The one with the best score on the spec's selection split."""
    every: int = 0
    """Every so many iterations, from 0; 0 for none."""
    orphan_hours: float = 24.0
    """Age from which data nobody points to is garbage; younger, its writer may still be about to commit it."""

    @property
    def rule(self) -> str:
        """The rule in words."""
        kept = ["last", *(["best"] if self.best else []), *([f"every {self.every}"] if self.every else [])]
        return f"keep {', '.join(kept)}; orphans older than {self.orphan_hours:g} h"


class Garbage(NamedTuple):
    """What a collection would remove."""

    orphans: list[tuple[str, int]]
    """(key, bytes) of data no record names."""
    superseded: list[Removed]
    """Weights and optimizer states that the rule gives up."""
    claimed: dict[int, list[str]]
    """Checkpoints that other runs of the store start from, and which runs; their weights stay."""
    leftovers: list[Leftover]
    """What killed writers left of objects that never came to be; how much it is, no listing says."""
    unlisted: str
    """Why they could not be listed, or "": a bucket's policy may keep that to its owner."""

    @property
    def bytes(self) -> int:
        """Bytes of all of it."""
        return sum(size for _, size in self.orphans) + sum(each.size for each in self.superseded)


def find(catalog: Catalog, retention: Retention) -> Garbage:
    """Return what the rule gives up; nothing that a unit still to be done reads."""
    run = catalog.run
    oldest = time.time() - retention.orphan_hours * 3600
    orphans = [(key, catalog.sizes[key]) for key in catalog.orphans() if catalog.sizes.modified(key) < oldest]
    spec = decisions.effective(run, control.current_spec(run))
    needed = _needed(run, spec)
    claimed = ancestry.claimed(run)
    kept = _kept(catalog, spec, retention) | set(claimed)
    superseded = [
        Removed(key=item.key, sha256=item.sha256, size=item.size)
        for ref in catalog.refs
        if ref.artifact in ("checkpoint", "optimizer") and str(ref) not in needed
        if ref.iteration not in (kept if ref.artifact == "checkpoint" else {spec.iterations})
        or _is_half_removed(catalog, ref, claimed)
        for item in catalog.objects(ref)
        if item.key.endswith(WEIGHTS) and item.key in catalog.sizes
    ]
    leftovers, unlisted = _leftovers(run, oldest)
    return Garbage(orphans, superseded, claimed, leftovers, unlisted)


def _leftovers(run: Run, oldest: float) -> tuple[list[Leftover], str]:
    """Return what is older than that, or why it could not be listed."""
    try:
        return [each for each in run.store.leftovers(run.key("")) if each.modified < oldest], ""
    except UsageError as error:  # the run itself was listed a moment ago, with the same credentials
        return [], str(error)


def collect(run: Run, retention: Retention) -> Garbage:
    """Remove what the rule gives up, and return what that was; `UsageError` while somebody drives the run.

    The run is held meanwhile. `Stopped` when somebody takes it over: what is removed until then is as it should be, and
    another collection removes the rest.
    """
    bid = control.Bid(control.newest(run))
    driver = bid.after.driver
    if driver and bid.after.is_driven():
        raise UsageError(f"run {run.name} is driven by {driver.title}; collect when it has ended")
    with control.driving(run, "gc", control.current_spec(run), bid) as held:
        garbage = find(Catalog(run), retention)
        _write_down(run, garbage, retention, held.number)
        return _remove(run, garbage, retention, held)


def _write_down(run: Run, garbage: Garbage, retention: Retention, number: int) -> None:
    if garbage.superseded:
        collection = Collection(at=control.now(), rule=retention.rule, objects=tuple(garbage.superseded))
        removals.write(run, number, collection)


def _remove(run: Run, garbage: Garbage, retention: Retention, held: control.Epoch) -> Garbage:
    """Remove what is still garbage when its turn comes; return what was removed."""
    orphans = []
    for each in garbage.superseded:
        _check_held(held)
        run.store.delete(run.key(each.key))
    for key, size in garbage.orphans:
        _check_held(held)
        if _is_orphan(run, key, retention):
            run.store.delete(run.key(key))
            orphans.append((key, size))
    for leftover in garbage.leftovers:
        _check_held(held)
        run.store.discard(leftover)
    return garbage._replace(orphans=orphans)


def _check_held(held: control.Epoch) -> None:
    if lost := held.lost():
        raise Stopped(lost)


def _is_orphan(run: Run, key: str, retention: Retention) -> bool:
    """Whether data is, at this moment, named by no record and as old as the rule asks for."""
    named = _part_of(key)
    record = run.find_part(*named) if named else None
    if record and any(item.key == key for item in record.objects):
        return False
    entry = next((entry for entry in run.store.scan(run.key(key)) if entry.key == run.key(key)), None)
    return entry is not None and entry.modified < time.time() - retention.orphan_hours * 3600


def _part_of(key: str) -> tuple[Ref, Part] | None:
    """Return whose data a key is, if it is an artifact's."""
    ref = find_ref(key)
    if ref is None:
        return None
    part = _PART_OBJECT.match(key.removeprefix(f"{ref.prefix}/"))
    return ref, Part(int(part[1]), int(part[2])) if part else Part()


def _is_half_removed(catalog: Catalog, ref: Ref, claimed: Mapping[int, list[str]]) -> bool:
    """Whether a collection began to remove an artifact's weights and was killed."""
    held = [item.key for item in catalog.objects(ref) if item.key in catalog.removed]
    return any(key not in catalog.sizes for key in held) and ref.iteration not in claimed


def _needed(run: Run, spec: RunSpec) -> set[str]:
    """Return the artifacts that units still to be done read."""
    whole = plan(spec)
    done = done_units(run, spec, whole)
    return {
        text.partition("#")[0]
        for unit in whole.units
        if unit not in done
        for text in inputs(unit.stage, spec, iteration=unit.iteration, split=unit.split, part=unit.part)
    }


def _kept(catalog: Catalog, spec: RunSpec, retention: Retention) -> set[int]:
    trained = [ref.iteration for ref in catalog.refs if ref.artifact == "checkpoint" and ref.iteration is not None]
    kept = {max(trained, default=0), spec.iterations}
    if retention.every:
        kept |= {number for number in trained if number % retention.every == 0}
    best = summary.summarize(catalog.run)["best"] if retention.best else None
    return kept | ({best["iteration"]} if best else set())


def checkpoint_is_whole(catalog: Catalog, iteration: int) -> bool:
    """Whether a checkpoint still has its weights."""
    objects = catalog.objects(Ref("checkpoint", iteration))
    return bool(objects) and all(item.key in catalog.sizes for item in objects)
