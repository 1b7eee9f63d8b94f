"""The rendered loop is the graph: the same commands, in the same order, as the plan that the local backend follows."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leti_ctl.backends.argo import loop
from leti_ctl.backends.argo.templates import workflow_template
from leti_ctl.config.profiles import MOST_ITERATIONS, load_profile
from leti_ctl.pipeline import Unit, plan
from leti_ctl.steps import pending
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import LocalStore
from tests.leti_ctl.argo.unrolled import Command, Unrolled

PARAMETERS = {"run": "r", "jobset": "r", "start": "0"}


def spec_of(**sections: Any) -> RunSpec:
    return RunSpec.model_validate(sections, strict=False)


@cache
def manifest() -> dict[str, Any]:
    return workflow_template(load_profile("kind"))


def unrolled(spec: RunSpec, folder: Path) -> tuple[Run, dict[Command, frozenset[Command]]]:
    run = Run(LocalStore(folder), "r")
    run.create(spec)
    steps = Unrolled(manifest(), run, PARAMETERS | {"run-uri": run.uri}).steps()
    twice = [command for command, times in Counter(step.command for step in steps).items() if times > 1]
    assert not twice
    return run, {step.command: step.after for step in steps}


def planned(spec: RunSpec, run: Run) -> dict[Command, frozenset[Command]]:
    """Return the local backend's plan as commands, each with all that must have ended before, however far back."""
    whole = plan(spec)
    before: dict[Unit, frozenset[Command]] = {}

    def command(unit: Unit) -> Command:
        return ("python", "-m", *unit.arguments(run.uri))

    for unit in whole.units:
        before[unit] = frozenset().union(*(before[one] | {command(one)} for one in whole.after[unit]))
    return {command(unit): after for unit, after in before.items()}


SPECS = st.builds(
    spec_of,
    iterations=st.integers(1, 3),
    generate=st.fixed_dictionaries({"parts": st.integers(1, 3)}),
    build=st.fixed_dictionaries({"parts": st.integers(1, 2)}),
    train=st.fixed_dictionaries({"objective": st.sampled_from(["alternate", "pretraining"])}),
    evaluate=st.fixed_dictionaries(
        {"parts": st.integers(1, 2), "splits": st.sampled_from([["test"], ["validation", "test"]])}
    ),
)


@given(SPECS)
@settings(max_examples=20)
def test_the_loop_runs_the_plans_units_in_the_plans_order(spec: RunSpec) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run, found = unrolled(spec, Path(folder))
        assert found == planned(spec, run)


def test_with_patience_an_iteration_waits_for_the_scores_of_the_one_before(tmp_path: Path) -> None:
    spec = spec_of(iterations=2, stop={"patience": 1})
    run, found = unrolled(spec, tmp_path)
    usual = planned(spec, run)
    assert found.keys() == usual.keys()
    scored = next(command for command in found if "stages.evaluate" in command and "test" in command)
    for command, after in found.items():
        # The local plan starts held-out passes before it decides; here the plan step decides before anything starts.
        assert usual[command] <= after
        assert (scored in after) == (command[command.index("--iteration") + 1] != "0")


def test_held_out_passes_run_beside_training_and_the_next_iteration(tmp_path: Path) -> None:
    _, found = unrolled(spec_of(iterations=2), tmp_path)
    scores = [command for command in found if "stages.evaluate" in command and "test" in command]
    for command, after in found.items():
        if command not in scores:
            assert not after.intersection(scores), f"{command} waits for a score"


def test_a_resumed_workflow_starts_where_it_is_told_and_prepares_nothing(tmp_path: Path) -> None:
    run = Run(LocalStore(tmp_path), "r")
    run.create(spec_of(iterations=3))
    steps = Unrolled(manifest(), run, PARAMETERS | {"run-uri": run.uri, "start": "2"}).steps()
    assert {step.command[step.command.index("--iteration") + 1] for step in steps} == {"2", "3"}
    assert not [step for step in steps if "stages.prepare" in step.command]


def test_the_plan_steps_outputs_are_the_ones_the_loop_reads(tmp_path: Path) -> None:
    run = Run(LocalStore(tmp_path), "r")
    run.create(spec_of(iterations=1))
    assert pending(run, run.spec, 0).keys() == loop.PLAN_OUTPUTS.keys()


@pytest.mark.parametrize("backend", ["pod", "jobset"])
def test_a_failed_task_leaves_its_followers_undone_and_the_others_alone(backend: str) -> None:
    template = workflow_template(load_profile("kind", [f"train_backend={backend}"]))
    for one in template["spec"]["templates"]:
        if "dag" not in one:
            continue
        assert one["dag"]["failFast"] is False
        for task in one["dag"]["tasks"]:
            states = set(re.findall(r"\.(\w+)", task.get("depends", "")))
            assert states <= {"Succeeded", "Skipped"}, task


@pytest.mark.parametrize(("backend", "first"), [("pod", ["prepare"]), ("jobset", ["clear", "prepare"])])
def test_a_workflow_begins_by_clearing_jobsets_where_it_will_make_some(backend: str, first: list[str]) -> None:
    template = workflow_template(load_profile("kind", [f"train_backend={backend}"]))
    tasks = {one["name"]: one for one in template["spec"]["templates"]}["run"]["dag"]["tasks"]
    assert [task["name"] for task in tasks] == [*first, "iteration"]
    assert all(name in tasks[-1]["depends"] for name in first)


def test_recursion_stays_under_the_controllers_limit() -> None:
    # The entry, one level for each iteration and the one after the last, and what hangs below.
    assert 1 + (MOST_ITERATIONS + 1) + _depth("pass", set()) < 100


def _depth(name: str, seen: set[str]) -> int:
    template = {one["name"]: one for one in manifest()["spec"]["templates"]}[name]
    below = [task["template"] for task in template.get("dag", {}).get("tasks", []) if task["template"] not in seen]
    return 1 + max((_depth(each, seen | {name}) for each in below), default=0)
