"""Everything a report shows, as one JSON document; the figures, the page and the exports read nothing else.

```
format          1
generated_at    UTC, ISO 8601
leti            version
metrics         names of every score there is, in order of showing: "pass@1", ..., "solve rate", ...
runs            one object per run, in the order given:
    run, uri, color (place in the palette), phase, backend, seed, model, task, train_problems (|P|),
    samples_per_problem (n), passes [{name, split, temperature, samples_per_problem}], spec (whole), spec_sha256,
    preset {name, changed {field: [preset, run]}}    the nearest preset
    differs {field: value}                           fields in which the runs of this report differ
    iterations {planned, scored}, units {done, total}, early_end {iteration, reason} or null, failures [...]
    best {iteration, selected_on, "pass@k", ...}     the model the run selected, or null
    max_on_test {...}                                the paper's selection, on test itself, or null
    cost {stages {name: {parts, seconds, accelerator_hours}}, total {...}, dollars {low, high} or null, bytes}
    critical_path {wall_seconds, seconds {stage or "waiting": s}, units [id]}
    lineage {code, hosts, images, packages, python, torch, devices, sandboxes, checkpoints [...], objects, bytes}
    audit {clean, errors, warnings, rows, seconds, findings [...]} or null where none was made
    faults          what could not be read and is missing below, one line each
groups          seeds: [{group, runs, seeds}]; runs that differ in nothing but the seed
canaries        {name: {title, of, why}}
tables          rows, under the names and with the columns of `TABLES`; of those that do not say it themselves:
    scores      one estimate of one pass with its interval; `problems` it is over; `k` null where it is no pass@k
    outcomes    "passed" or an error type (an outcome where there is none), most frequent first
    lengths     of solutions in tokens, mean and quantiles; `eos_rate` is the share that the model ended itself
    feedback    `kind` is the last line of the feedback, names and numbers blanked out
    learned     `learned` is the share of a kind's peak that the last iteration is without; `gone`: more than 0.9
    efficiency  held-out and training scores beside all that was put into the model before: steps, samples drawn for
                training, tokens trained on, hours of generating and training
    losses      one row per gradient step; `step` counts over the run
    stages      sums over the parts of one stage and iteration; `speed` is `amount` per working second
    units       when each unit ran; `critical`: on the critical path, where nothing ran for `waited` seconds before it
    seeds       mean and sample standard deviation over the runs of a group, `seeds` of them
```

Shares are of the pass's judged samples, scores between 0 and 1, times in seconds since the run's first unit began.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, NamedTuple

from leti_ctl import control, decisions
from leti_ctl.audit.report import audit as check
from leti_ctl.inventory.catalog import Catalog
from leti_ctl.pipeline import Plan, Unit, plan
from leti_ctl.report import canary, groups, origin, scan, scores, timeline
from leti_ctl.report.cost import cost
from leti_ctl.results import summary
from stages.contract.artifacts import PartRecord, Ref
from stages.contract.errors import ArtifactError, UsageError
from stages.contract.records import Metrics, Problem, StepLog
from stages.contract.run import Run
from stages.contract.spec import Pass, RunSpec

Row = dict[str, Any]
Tables = dict[str, list[Row]]
Progress = Callable[[int, int], None]
"""Called with the number of sampling passes read and their total, over all runs."""

_PASS = ("run", "iteration", "pass", "split")
TABLES: Mapping[str, tuple[str, ...]] = {
    "scores": (*_PASS, "temperature", "metric", "k", "value", "low", "high", "problems"),
    "outcomes": (*_PASS, "outcome", "count", "share"),
    "lengths": (*_PASS, "mean_tokens", "p10", "p25", "p50", "p75", "p90", "eos_rate", "mean_feedback_characters"),
    "feedback": (*_PASS, "kind", "count", "share"),
    "learned": ("run", "pass", "kind", "first_seen", "last_seen", "peak", "peak_share", "last_share", "learned",
                "gone"),
    "canaries": (*_PASS, "canary", "count", "of", "share"),
    "efficiency": (*_PASS, "metric", "value", "low", "high", "steps", "samples", "tokens", "hours"),
    "losses": ("run", "iteration", "stream", "step", "loss", "targets", "learning_rate"),
    "stages": ("run", "iteration", "stage", "parts", "seconds", "accelerator_hours", "amount", "working_seconds",
               "speed", "speed_name"),
    "units": ("run", "unit", "label", "node", "stage", "iteration", "pass", "part", "parts", "start", "end", "seconds",
              "rows", "host", "accelerators", "critical", "waited"),
    "seeds": ("group", "iteration", "pass", "split", "metric", "k", "mean", "sd", "seeds"),
}  # fmt: skip
"""Every table and its columns."""


class Depth(NamedTuple):
    """How much is read."""

    samples: bool = True
    """Read every sample: canaries, kinds of feedback, quantiles of length."""
    audit: bool = True
    """Audit every run, without doing anything again."""


def collect(
    runs: Sequence[Run], depth: Depth | None = None, progress: Progress = lambda done, total: None
) -> dict[str, Any]:
    """Return the report's data; `UsageError` where two runs have one name."""
    depth = depth or Depth()
    names = [run.name for run in runs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"RUN {twice!r}: named twice; a report tells runs apart by name")
    sources = [_Source(run) for run in runs]
    total, done = sum(len(source.scored) for source in sources), 0
    tables: Tables = {name: [] for name in TABLES}
    told = []
    for color, source in enumerate(sources):
        for _ in _fill(source, tables, depth):
            done += 1
            progress(done, total)
        told.append({**_run(source, depth), "color": color})
    leaves = origin.differing({source.run.name: origin.leaves(source.spec) for source in sources})
    together = groups.group(runs)
    tables["seeds"] = groups.rows(together, tables["scores"])
    return {
        "format": 1,
        "generated_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "leti": version("leti"),
        "metrics": _metric_names(tables["scores"]),
        "runs": [{**each, "differs": leaves[each["run"]]} for each in told],
        "groups": together,
        "canaries": {name: one._asdict() for name, one in canary.CANARIES.items()},
        "tables": tables,
    }


class _Source:
    """One run, its records read once."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.wanted = control.current_spec(run)
        self.spec: RunSpec = decisions.effective(run, self.wanted)
        self.catalog = Catalog(run)
        self.plan: Plan = plan(self.spec)
        self.committed: dict[Unit, PartRecord] = {
            unit: record for unit in self.plan.units if (record := self._record(unit)) is not None
        }
        self.faults = [finding.line for finding in self.catalog.findings]
        self.scored: list[tuple[int, Pass]] = [
            (iteration, one)
            for iteration in range(self.spec.iterations + 1)
            for one in self.spec.passes()
            if self.catalog.is_complete(Ref("metrics", iteration, one.name))
        ]

    def _record(self, unit: Unit) -> PartRecord | None:
        """The record that says the unit is done, or None while any of its outputs is missing."""
        records = [self.catalog.part(ref, unit.part) for ref in unit.outputs(self.spec)]
        return records[-1] if all(records) else None


def _fill(source: _Source, tables: Tables, depth: Depth) -> Iterator[None]:
    """Add the run's rows to the tables; yields after each sampling pass."""
    mine: Tables = {name: [] for name in TABLES}
    problems: dict[str, dict[str, Problem]] = {}
    for iteration, one in source.scored:
        where = {"iteration": iteration, "pass": one.name, "split": one.split}
        try:
            _fill_pass(source, mine, where, _scan(source, iteration, one, problems) if depth.samples else None)
        except ArtifactError as error:
            source.faults.append(str(error))
        yield
    mine["learned"] = list(scores.learned_rows(mine["feedback"]))
    mine["losses"] = _losses(source)
    mine["efficiency"] = list(scores.efficiency_rows(_spent(source), mine["scores"]))
    mine["stages"] = timeline.stage_rows(source.committed)
    ran = timeline.spans(source.committed)
    mine["units"] = timeline.unit_rows(source.committed, ran, timeline.critical_path(source.plan, ran))
    for name, rows in mine.items():
        tables[name] += [{"run": source.run.name, **row} for row in rows]


def _fill_pass(source: _Source, mine: Tables, where: Row, found: scan.Scan | None) -> None:
    metrics = next(source.run.read(Ref("metrics", where["iteration"], where["pass"]), Metrics))
    judged = metrics.num_samples - metrics.num_infra_errors
    mine["scores"] += [{**where, "temperature": metrics.temperature, **row} for row in scores.score_rows(metrics)]
    mine["outcomes"] += [{**where, **row} for row in scores.outcome_rows(metrics)]
    mine["lengths"].append({**where, **scores.length_row(metrics, found.quantiles() if found else {})})
    if found is not None:
        mine["canaries"] += [{**where, **row} for row in scan.as_rows(found.counts())]
        mine["feedback"] += [
            {**where, "kind": kind, "count": count, "share": count / judged if judged else 0.0}
            for kind, count in found.feedback().items()
        ]


def _scan(source: _Source, iteration: int, one: Pass, problems: dict[str, dict[str, Problem]]) -> scan.Scan | None:
    ref = Ref("samples", iteration, one.name)
    if not (source.catalog.is_complete(ref) and source.catalog.is_complete(ref._replace(artifact="executions"))):
        return None
    if one.split not in problems:
        rows = source.run.read(Ref("problems", split=one.split), Problem)
        problems[one.split] = {row.problem_id: row for row in rows}
    return scan.scan(source.run, ref, len(source.catalog.parts[ref]), problems[one.split])


def _losses(source: _Source) -> list[Row]:
    def steps() -> Iterator[tuple[int, StepLog]]:
        for iteration in range(source.spec.iterations):
            ref = Ref("steps", iteration)
            if source.catalog.is_complete(ref):
                for step in source.run.read(ref, StepLog):
                    yield iteration, step

    try:
        return list(scores.loss_rows(steps()))
    except ArtifactError as error:
        source.faults.append(str(error))
        return []


def _spent(source: _Source) -> dict[int, scores.Spent]:
    """What had been put into the model of each iteration, for as long as nothing of the training chain is missing."""
    found, so_far = {0: scores.Spent()}, scores.Spent()
    for iteration in range(source.spec.iterations):
        units = {unit: record for unit, record in source.committed.items() if unit.iteration == iteration}
        trained = next((record for unit, record in units.items() if unit.stage == "train"), None)
        if trained is None:
            break
        chain = [record for unit, record in units.items() if unit.node in ("generate-train", "train")]
        drawn = sum(record.rows for unit, record in units.items() if unit.node == "generate-train")
        so_far = so_far.plus(
            scores.Spent(
                steps=int(trained.facts.get("steps", 0)),
                samples=drawn,
                tokens=int(trained.made.counters.get("tokens", 0)),
                hours=sum(record.made.seconds for record in chain) / 3600,
            )
        )
        found[iteration + 1] = so_far
    return found


def _run(source: _Source, depth: Depth) -> Row:
    run, spec = source.run, source.spec
    found = summary.summarize(run)
    ran = timeline.spans(source.committed)
    problems = source.catalog.parts.get(Ref("problems", split="train"), {}).values()
    return {
        "run": run.name,
        "uri": run.uri,
        "phase": found["phase"],
        "backend": control.last_backend(run),
        "seed": spec.seed,
        "model": spec.model.source,
        "task": spec.task.name,
        "train_problems": sum(record.rows for record in problems),
        "samples_per_problem": spec.generate.samples_per_problem,
        "passes": [_pass(one) for one in spec.passes()],
        "spec": spec.model_dump(mode="json"),
        "spec_sha256": run.spec_sha256,
        "preset": origin.nearest_preset(spec),
        "iterations": {"planned": source.wanted.iterations, "scored": len({number for number, _ in source.scored})},
        **{name: found[name] for name in ("units", "early_end", "failures", "best", "max_on_test")},
        "cost": {**cost(run, spec, source.committed), "bytes": sum(source.catalog.sizes.values())},
        "critical_path": timeline.path_summary(timeline.critical_path(source.plan, ran), ran),
        "lineage": origin.lineage(source.catalog),
        "audit": check(run).as_json() if depth.audit else None,
        "faults": source.faults,
    }


def _pass(one: Pass) -> Row:
    return {"name": one.name, "split": one.split, "temperature": one.sampling.temperature,
            "samples_per_problem": one.sampling.samples_per_problem}  # fmt: skip


def _metric_names(rows: Sequence[Row]) -> list[str]:
    """Every score's name once: pass@k by k, then the others as they come."""
    names = dict.fromkeys((row["k"] is None, row["k"] or 0, row["metric"]) for row in rows)
    ranked = sorted(names, key=lambda name: (name[0], name[1]))
    return [name for _, _, name in ranked]
