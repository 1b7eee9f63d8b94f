"""Who drives a run, who stops it, and how it is amended."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from leti_ctl import control
from stages.contract.errors import ArtifactError, UsageError
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import LocalStore


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run(LocalStore(tmp_path), "r")
    made.create(RunSpec())
    return made


def test_a_run_has_one_driver(run: Run) -> None:
    with (
        control.driving(run, "local"),
        pytest.raises(UsageError, match=f"process {os.getpid()}"),
        control.driving(run, "local"),
    ):
        pass
    assert control.find_driver(run) is None


def test_a_dead_driver_is_replaced(run: Run) -> None:
    code = (
        "import sys, os; from pathlib import Path; from leti_ctl import control; from stages.contract.run import Run;"
        "from stages.contract.store import LocalStore; run = Run(LocalStore(Path(sys.argv[1])), 'r');"
        "held = control.driving(run, 'x'); held.__enter__(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, run.store.uri], check=True)
    left = control.find_driver(run)
    assert left and not left.is_alive
    with control.driving(run, "local"):
        assert control.find_driver(run).pid == os.getpid()  # type: ignore[union-attr]


def test_a_driver_on_another_machine_is_replaced_only_on_demand(run: Run) -> None:
    far = control.Driver(backend="local", host="far-away", pid=1, born=1, since=control.now())
    run.store.put_if_absent(run.key("control/driver.json"), far.model_dump_json().encode())
    with pytest.raises(UsageError, match="--take-over"), control.driving(run, "local"):
        pass
    with control.driving(run, "local", take_over=True):
        assert control.find_driver(run).is_here  # type: ignore[union-attr]


def test_stopping_a_run_nobody_drives_changes_nothing(run: Run) -> None:
    assert control.request_stop(run) is False
    assert not control.is_stop_requested(run)


def test_more_iterations_amend_the_run(run: Run) -> None:
    longer = RunSpec(iterations=20)
    control.amend(run, longer)
    assert control.current_spec(run).iterations == 20
    assert run.spec.iterations == 12 and run.spec.digest() == longer.digest()


def test_other_changes_are_refused_with_a_diff(run: Run) -> None:
    with pytest.raises(UsageError, match="seed: 42 -> 43"):
        control.amend(run, RunSpec(seed=43))


def test_a_missing_run_is_named(run: Run) -> None:
    with pytest.raises(UsageError, match="no run 'other'"):
        control.open_run(run.store, "other")
    with pytest.raises(UsageError, match="slash"):
        control.open_run(run.store, "../other")


def test_failures_are_kept_until_cleared(run: Run) -> None:
    failure = control.Failure(unit="u", label="l", exit_code=65, message="m", at=control.now())
    control.record_failure(run, failure)
    assert control.failures(run) == [failure]
    control.clear(run)
    assert control.failures(run) == []


@pytest.mark.parametrize("key", ["control/driver.json", "amendments/0000.json", "control/failures/u.json"])
def test_a_cut_control_object_is_one_clear_line(run: Run, key: str) -> None:
    run.store.put_if_absent(run.key(key), b'{"pid": 1')
    with pytest.raises(ArtifactError, match=f"{key}.*delete it"):
        control.find_driver(run)
        control.current_spec(run)
        control.failures(run)
