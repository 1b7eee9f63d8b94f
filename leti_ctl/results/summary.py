"""What a run has come to: one JSON shape, made from metrics and part records; tables render it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from leti_ctl import control, decisions
from leti_ctl.pipeline import Plan, Unit, done_units, plan
from leti_ctl.results import selection
from stages.contract.artifacts import PartRecord, Ref
from stages.contract.errors import LetiError
from stages.contract.records import Metrics, StepLog
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import Store


def summarize(run: Run) -> dict[str, Any]:
    """Return the run's phase, progress, and per iteration its scores, speeds and seconds per stage."""
    wanted = control.current_spec(run)
    spec = decisions.effective(run, wanted)
    end = decisions.early_end(run, wanted)
    whole = plan(spec)
    done = done_units(run, spec, whole)
    failures = control.failures(run)
    iterations = [_iteration(run, spec, whole, done, number) for number in range(spec.iterations + 1)]
    return {
        "run": run.name,
        "uri": run.uri,
        "phase": phase(run, len(done) == len(whole.units), bool(failures)),
        "spec_sha256": run.spec_sha256,
        "iterations": wanted.iterations,
        "early_end": end and {"iteration": end.iteration, "reason": end.reason},
        "units": {"done": len(done), "total": len(whole.units)},
        "gpu_hours": round(sum(row["gpu_hours"] for row in iterations), 3),
        "failures": [failure.model_dump() for failure in failures],
        "best": selection.best(iterations, spec),
        "max_on_test": selection.max_on_test(iterations, spec),
        "per_iteration": [row for row in iterations if row["seconds"] or row["scores"]],
    }


def phase(run: Run, complete: bool, failed: bool) -> str:
    """Return the run's phase in Argo's words, and Stopped for a run that waits to be resumed."""
    if complete:
        return "Succeeded"
    last = control.last_epoch(run)
    if last.is_driven():
        return "Running"
    outcome = control.find_outcome(run)
    if outcome and not control.is_stop_requested(run):
        failed = failed or outcome.phase != "Succeeded"
    return "Failed" if failed else "Stopped"


def _iteration(run: Run, spec: RunSpec, whole: Plan, done: set[Unit], number: int) -> dict[str, Any]:
    units = [unit for unit in whole.units if unit.iteration == number and unit.stage != "prepare"]
    finished = [unit for unit in units if unit in done]
    records = {unit: _record(run, unit, spec) for unit in finished}
    seconds: defaultdict[str, float] = defaultdict(float)
    for unit, record in records.items():
        seconds[unit.stage] += record.made.seconds
    scores = {one.name: score for one in spec.passes() if (score := _score(run, number, one.name))}
    return {
        "iteration": number,
        "done": len(finished),
        "units": len(units),
        "scores": scores,
        "best_over_temperatures": _over_temperatures(scores, spec),
        "seconds": {stage: round(value, 1) for stage, value in seconds.items()},
        "gpu_hours": sum(decisions.accelerator_hours(record) for record in records.values()),
        "tokens_per_second": _rate(records, "generate", "tokens", "generate_seconds"),
        "executions_per_second": _rate(records, "execute", "executions", "execute_seconds"),
        "training_tokens_per_second": _rate(records, "train", "tokens", "train_seconds"),
        "loss": _mean_loss(run, number),
    }


def _over_temperatures(scores: Mapping[str, Any], spec: RunSpec) -> dict[str, dict[str, dict[str, float]]]:
    """By held-out split and k, the temperature that scores highest; empty for a run of one temperature."""
    if len(spec.evaluate.temperatures or ()) < 2:
        return {}
    return {split: selection.over_temperatures({"scores": scores}, spec, split) for split in spec.evaluate.splits}


def _record(run: Run, unit: Unit, spec: RunSpec) -> PartRecord:
    record = run.find_part(unit.outputs(spec)[-1], unit.part)
    assert record is not None, f"{unit.id} was done a moment ago"
    return record


def _score(run: Run, iteration: int, name: str) -> dict[str, Any] | None:
    ref = Ref("metrics", iteration, name)
    if run.find_index(ref) is None:
        return None
    metrics = next(run.read(ref, Metrics))
    return metrics.model_dump(exclude={"iteration", "split"})


def _rate(records: Mapping[Unit, PartRecord], stage: str, amount: str, seconds: str) -> float | None:
    """Amount per second of work over a stage's units: totals divided, so that a large unit counts as such."""
    counters = [record.made.counters for unit, record in records.items() if unit.stage == stage]
    spent = sum(each.get(seconds, 0.0) for each in counters)
    return round(sum(each.get(amount, 0.0) for each in counters) / spent, 1) if spent else None


def _mean_loss(run: Run, iteration: int) -> float | None:
    """Mean FCFT loss over the iteration's steps; of the only stream where there is no other."""
    ref = Ref("steps", iteration)
    if run.find_index(ref) is None:
        return None
    steps = list(run.read(ref, StepLog))
    losses = [step.loss for step in steps if step.stream == "fcft"] or [step.loss for step in steps]
    return round(sum(losses) / len(losses), 4) if losses else None


def outline(store: Store, name: str) -> dict[str, Any]:
    """Return one row about a run; a run whose spec cannot be read is listed as such, not hidden."""
    run = Run(store, name)
    try:
        spec = control.current_spec(run)
    except LetiError as error:
        return {
            "run": name,
            "phase": "Unreadable",
            "backend": "",
            "iterations": "",
            "units": str(error),
            "model": "",
            "task": "",
        }
    whole = plan(decisions.effective(run, spec))
    done = len(done_units(run, spec, whole))
    return {
        "run": name,
        "phase": phase(run, done == len(whole.units), bool(control.failures(run))),
        "backend": control.last_backend(run) or "",
        "iterations": spec.iterations,
        "units": f"{done}/{len(whole.units)}",
        "model": spec.model.source,
        "task": spec.task.name,
    }
