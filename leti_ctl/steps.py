"""The workflow's own container steps, on the image `ctl`: what to run next, and what became of it.

    python -m leti_ctl.steps plan --run URI --workflow W --iteration I --out DIR
    python -m leti_ctl.steps finalize --run URI --workflow W --status S --failures JSON

`plan` sees to it that the workflow has the run (see `hold`) and writes one file per output parameter of its template
(see `pending`); a step that runs twice writes the same. `finalize` is the exit handler: it records phase and failures
below the workflow's own claim, so that `status` needs no cluster and no other claim is touched.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from leti_ctl import control, decisions
from leti_ctl.backends.argo import failures
from leti_ctl.pipeline import Unit, done_units, plan
from stages.contract.errors import LetiError, UsageError, describe_os_error
from stages.contract.run import Run
from stages.contract.spec import RunSpec


def pending(run: Run, spec: RunSpec, iteration: int) -> dict[str, str]:
    """Return the output parameters of the plan step: what an iteration still has to do, from one listing of the store.

    | name | value |
    |---|---|
    | `chains` | JSON list of `{"split", "part", "generate"}`: parts to execute, and whether to generate them first |
    | `passes` | JSON list of `{"split", "chains"}`: held-out passes without metrics; `chains` is a list as above |
    | `builds` | JSON list of `{"part"}` without examples |
    | `train`, `evaluate-train` | "true" where the stage is still to be run |
    | `next` | "true" when another iteration follows, be it only to evaluate the last checkpoint |
    | `patient` | "true" when that one also waits for this one's held-out passes |

    `chains` within `passes` is a list and not text: Argo puts a list into `{{item.chains}}` as JSON, but text with the
    backslashes of its JSON form (argo-workflows issue 16061), which the next fan-out could not read.

    `spec` is the one that `decisions.settle` returned. Raises `UsageError` for an iteration it does not have.
    """
    if iteration > spec.iterations:
        raise UsageError(f"--iteration {iteration}: the run ends with iteration {spec.iterations}; start at most there")
    whole = plan(spec)
    done = done_units(run, spec, whole)
    todo = [unit for unit in whole.units if unit.iteration == iteration and unit not in done]
    by_node = {node: [unit for unit in todo if unit.node == node] for node in {unit.node for unit in todo}}
    held_out = dict.fromkeys(unit.split for unit in by_node.get("evaluate-test", []))
    return {
        "chains": json.dumps(_chains(by_node, "train", "train")),
        "passes": json.dumps([{"split": split, "chains": _chains(by_node, "test", split)} for split in held_out]),
        "builds": json.dumps([{"part": str(unit.part)} for unit in by_node.get("build", [])]),
        "train": _flag("train" in by_node),
        "evaluate-train": _flag("evaluate-train" in by_node),
        "next": _flag(iteration < spec.iterations),
        "patient": _flag(spec.stop.patience is not None),
    }


def _chains(by_node: dict[str, list[Unit]], kind: str, split: str) -> list[dict[str, str]]:
    """Return the parts of a pass that are not executed, and whether each must be generated first."""
    unsampled = {unit.part for unit in by_node.get(f"generate-{kind}", []) if unit.split == split}
    waiting = [unit.part for unit in by_node.get(f"execute-{kind}", []) if unit.split == split]
    return [{"split": split, "part": str(part), "generate": _flag(part in unsampled)} for part in waiting]


def _flag(value: bool) -> str:
    return "true" if value else "false"


def hold(run: Run, workflow: str) -> control.Epoch:
    """Return the claim by which a workflow, `NAMESPACE/NAME`, has the run.

    One that people made by hand, or that Argo was told to retry after its end, has none and takes the run here, as
    `resume` would. Raises `UsageError` for one that lost the run or was stopped: another attempt changes nothing.
    """
    epoch = control.epoch_of(run, workflow)
    if epoch is None or (epoch.is_ended() and not epoch.is_stop_requested()):
        epoch = _take(run, workflow)
    if lost := epoch.lost():
        raise UsageError(lost)
    if epoch.is_stop_requested():
        raise UsageError(f"workflow {workflow} was asked to stop; `leti-ctl resume` goes on with run {run.name}")
    return epoch


def _take(run: Run, workflow: str) -> control.Epoch:
    bid = control.Bid(control.newest(run))
    driver = control.Driver(backend="argo", host=workflow, pid=0, born=0, since=control.now())
    try:
        bid.check()
        return control.claim(bid, driver, control.current_spec(run))
    except UsageError:
        # This very step, doubled: its pod was given up and went on.
        epoch = control.epoch_of(run, workflow)
        if epoch is None or epoch.is_ended():
            raise
        return epoch


def write_plan(run: Run, iteration: int, out: Path) -> dict[str, str]:
    """Decide whether the run goes on, and write the output parameters, one file each; return them."""
    spec = decisions.settle(run, control.current_spec(run), iteration)
    found = pending(run, spec, iteration)
    out.mkdir(parents=True, exist_ok=True)
    for name, value in found.items():
        (out / name).write_text(value)
    return found


def finalize(run: Run, workflow: str, status: str, reported: str) -> control.Outcome | None:
    """Record how a workflow ended, and release the run if it has it; None for one that never had.

    `reported` is Argo's `workflow.failures`.
    """
    epoch = control.epoch_of(run, workflow)
    if epoch is None:
        return None
    for failure in failures.parse(reported) if status != "Succeeded" else []:
        epoch.record_failure(failure)
    return epoch.end(status)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one step; exit with 0 or the code of the error, said in one line."""
    given = _parser().parse_args(arguments)
    try:
        run = Run.open(given.run)
        if given.step == "plan":
            hold(run, given.workflow)
            _say("info", f"iteration {given.iteration}", write_plan(run, given.iteration, given.out))
        else:
            outcome = finalize(run, given.workflow, given.status, given.failures)
            phase = outcome.phase if outcome else f"{given.workflow} never had it"
            _say("info", f"run {run.name}: {phase}", {})
    except OSError as error:
        _fail(describe_os_error(error))
    except LetiError as error:
        _fail(error)
    sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m leti_ctl.steps")
    steps = parser.add_subparsers(dest="step", required=True)
    planning = steps.add_parser("plan", help="say what an iteration still has to do")
    planning.add_argument("--iteration", type=int, required=True, metavar="I")
    planning.add_argument("--out", type=Path, required=True, metavar="DIR", help="one file per output parameter")
    ending = steps.add_parser("finalize", help="record how the workflow ended")
    ending.add_argument("--status", required=True, metavar="PHASE", help="Argo's workflow.status")
    ending.add_argument("--failures", default="[]", metavar="JSON", help="Argo's workflow.failures")
    for step in (planning, ending):
        step.add_argument("--run", required=True, metavar="URI", help="STORE/runs/NAME")
        step.add_argument("--workflow", required=True, metavar="NAMESPACE/NAME", help="whose step this is")
    return parser


def _fail(error: LetiError) -> NoReturn:
    _say("error", str(error), {})
    sys.exit(error.exit_code)


def _say(level: str, message: str, fields: dict[str, Any]) -> None:
    """Log a line as the stages do: JSON where the environment asks for it, else text."""
    if os.environ.get("LETI_LOG") == "json":
        entry = {"time": control.now(), "level": level, "stage": "plan", "event": "log", "message": message, **fields}
        line = json.dumps(entry)
    else:
        line = " ".join([message, *(f"{name}={value}" for name, value in fields.items())])
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
