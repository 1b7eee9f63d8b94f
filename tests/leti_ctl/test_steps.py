"""The plan step says what is missing and nothing else; the exit handler leaves what `status` needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leti_ctl import control, decisions, steps
from leti_ctl.backends.argo import failures
from leti_ctl.pipeline import Unit, done_units, plan
from stages.contract.errors import UsageError
from stages.contract.run import Run
from stages.contract.store import LocalStore
from tests.leti_ctl.parts import finish, make_run

HOST = "leti/demo-0"


@pytest.fixture
def fresh(tmp_path: Path) -> Run:
    return make_run(tmp_path / "store")


@pytest.fixture
def held(fresh: Run) -> Run:
    """A run that a workflow has."""
    steps.hold(fresh, HOST)
    return fresh


def unit(run: Run, name: str) -> Unit:
    return next(unit for unit in plan(run.spec).units if unit.id == name)


def call(*arguments: str) -> object:
    """Run the step in this process and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        steps.main(arguments)
    return ended.value.code


def test_a_fresh_iteration_has_everything_to_do(fresh: Run) -> None:
    found = steps.pending(fresh, fresh.spec, 0)
    assert json.loads(found["chains"]) == [
        {"split": "train", "part": "0/2", "generate": "true"},
        {"split": "train", "part": "1/2", "generate": "true"},
    ]
    (one,) = json.loads(found["passes"])
    assert one["split"] == "test"
    assert one["chains"] == [{"split": "test", "part": "0/1", "generate": "true"}]
    assert json.loads(found["builds"]) == [{"part": "0/1"}]
    assert [found[name] for name in ("train", "evaluate-train", "next", "patient")] == ["true", "true", "true", "false"]


def test_what_is_committed_is_not_planned_again(fresh: Run, tmp_path: Path) -> None:
    for name in (
        "0000-generate-train-00000-of-00002",
        "0000-execute-train-00000-of-00002",
        "0000-generate-train-00001-of-00002",
        "0000-train-00000-of-00001",
    ):
        finish(fresh, unit(fresh, name), tmp_path)
    found = steps.pending(fresh, fresh.spec, 0)
    assert json.loads(found["chains"]) == [{"split": "train", "part": "1/2", "generate": "false"}]
    assert found["train"] == "false"


def test_after_the_last_training_only_held_out_passes_are_left(fresh: Run) -> None:
    found = steps.pending(fresh, fresh.spec, 3)
    assert (found["chains"], found["builds"], found["train"], found["next"]) == ("[]", "[]", "false", "false")
    assert len(json.loads(found["passes"])) == 1
    with pytest.raises(UsageError, match="iteration 4"):
        steps.pending(fresh, fresh.spec, 4)


def test_a_run_of_no_iterations_has_only_its_held_out_passes_to_do(tmp_path: Path) -> None:
    run = make_run(tmp_path / "store", iterations=0)
    found = steps.pending(run, run.spec, 0)
    nothing = ("chains", "builds", "train", "evaluate-train", "next", "patient")
    assert [found[name] for name in nothing] == ["[]", "[]", "false", "false", "false", "false"]
    assert [each["split"] for each in json.loads(found["passes"])] == [one.name for one in run.spec.passes()[1:]]
    with pytest.raises(UsageError, match="iteration 1"):
        steps.pending(run, run.spec, 1)


@given(data=st.data())
def test_the_plan_names_exactly_the_units_that_are_missing(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("run")
    run = make_run(root / "store")
    whole = plan(run.spec)
    for each in data.draw(st.sets(st.sampled_from([unit for unit in whole.units if unit.iteration == 1]))):
        finish(run, each, root)
    missing = {unit for unit in whole.units if unit.iteration == 1} - done_units(run, run.spec, whole)
    found = steps.pending(run, run.spec, 1)
    chains = json.loads(found["chains"])
    assert {c["part"] for c in chains} == {str(u.part) for u in missing if u.node == "execute-train"}
    assert found["train"] == str(any(u.node == "train" for u in missing)).lower()
    assert found["evaluate-train"] == str(any(u.node == "evaluate-train" for u in missing)).lower()
    assert bool(json.loads(found["passes"])) == any(u.node == "evaluate-test" for u in missing)


def test_the_step_writes_a_file_for_each_parameter(fresh: Run, tmp_path: Path) -> None:
    line = [
        sys.executable,
        "-m",
        "leti_ctl.steps",
        "plan",
        "--run",
        fresh.uri,
        "--workflow",
        HOST,
        "--iteration",
        "0",
        "--out",
    ]
    done = subprocess.run([*line, str(tmp_path / "out")], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    written = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert written == steps.pending(fresh, fresh.spec, 0)


def test_a_wrong_run_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--workflow", HOST, "--iteration", "0", "--out", str(tmp_path))
    assert call("plan", "--run", f"{tmp_path}/runs/none", *where) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "none" in line


NODES = [
    {"displayName": "leti-1", "message": "", "templateName": "run", "phase": "Failed", "podName": "leti-1"},
    {"displayName": "chains(0:part:0/2)", "message": "", "templateName": "chain", "phase": "Failed", "podName": "c0"},
    {"displayName": "generate", "message": "No more retries left", "templateName": "generate", "phase": "Failed",
     "podName": "g", "finishedAt": "2026-01-01T00:00:09Z"},
    {"displayName": "generate(0)", "message": "pod deleted", "templateName": "generate", "phase": "Error",
     "podName": "g-0", "finishedAt": "2026-01-01T00:00:01Z"},
    {"displayName": "generate(1)", "message": "Error (exit code 65)", "templateName": "generate", "phase": "Failed",
     "podName": "g-1", "finishedAt": "2026-01-01T00:00:08Z"},
    {"displayName": "execute(0)", "message": "pod deleted", "templateName": "execute", "phase": "Error",
     "podName": "e-0", "finishedAt": "2026-01-01T00:00:02Z"},
]  # fmt: skip


@pytest.mark.parametrize("quoted", [False, True])
def test_only_failures_that_no_other_attempt_cured_are_kept(held: Run, quoted: bool) -> None:
    text = json.dumps(json.dumps(NODES) if quoted else NODES)
    assert call("finalize", "--run", held.uri, "--workflow", HOST, "--status", "Failed", "--failures", text) == 0
    (failure,) = control.failures(held)
    assert (failure.label, failure.exit_code, failure.message) == ("generate", 65, "Error (exit code 65)")
    assert control.find_outcome(held).phase == "Failed"  # type: ignore[union-attr]


@pytest.mark.parametrize("text", ["", "null", '"null"', "[]", '"[]"'])
def test_no_failures_are_told_in_several_ways(text: str) -> None:
    assert failures.parse(text) == []


@pytest.mark.parametrize("quoted", [False, True])
def test_of_an_account_that_was_cut_off_the_whole_nodes_are_kept(quoted: bool) -> None:
    text = json.dumps(json.dumps(NODES) if quoted else NODES)
    told = [failures.parse(text[:end]) for end in range(1, len(text))]
    labels = [[failure.label for failure in found] for found in told]
    assert labels[0] == ["workflow"] and labels[-1] == ["generate"]
    assert all(len(found) <= 1 for found in labels)
    assert labels.index(["generate"]) > labels.index([]) > 0


def test_an_account_nobody_can_read_is_kept_as_text(held: Run) -> None:
    steps.finalize(held, HOST, "Error", "{{workflow.failures}}")
    assert [failure.message for failure in control.failures(held)] == ["{{workflow.failures}}"]


def test_a_second_end_replaces_the_first(held: Run) -> None:
    steps.finalize(held, HOST, "Failed", "[]")
    steps.finalize(held, HOST, "Succeeded", "null")
    assert control.find_outcome(held).phase == "Succeeded"  # type: ignore[union-attr]


def test_a_doubled_plan_step_writes_the_same(tmp_path: Path) -> None:
    run = make_run(tmp_path / "store", stop={"max_gpu_hours": 1.0})
    again = Run(LocalStore(tmp_path / "store"), "r")
    first = steps.write_plan(run, 0, tmp_path / "a")
    assert first == steps.write_plan(again, 0, tmp_path / "b")
    assert decisions.effective(run, run.spec) == run.spec
