"""Who drives a run, who stops it, and how it is amended. `test_races` tries this with everybody at once."""

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from leti_ctl import control, steps
from leti_ctl.backends.local.driver import Driver
from leti_ctl.pipeline import Unit
from leti_ctl.results import summary
from leti_ctl.suite.drive import Progress
from stages.contract.errors import ArtifactError, LetiError, Stopped, UsageError
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import LocalStore, open_store
from tests.s3 import Fault, S3Server


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run(LocalStore(tmp_path), "r")
    made.create(RunSpec())
    return made


def far(host: str = "far-away") -> control.Driver:
    return control.Driver(backend="local", host=host, pid=1, born=1, since=control.now())


def workflow(number: int) -> control.Driver:
    return control.Driver(backend="argo", host=f"leti/r-{number}", pid=0, born=0, since=control.now())


def take(run: Run, driver: control.Driver) -> control.Epoch:
    return control.claim(control.Bid(control.newest(run)), driver, control.current_spec(run))


def test_a_run_has_one_driver(run: Run) -> None:
    with (
        control.driving(run, "local", run.spec),
        pytest.raises(UsageError, match=f"process {os.getpid()}"),
        control.driving(run, "local", run.spec),
    ):
        pass
    assert control.find_driver(run) is None


def test_the_command_that_a_message_names_is_one_that_a_shell_takes(tmp_path: Path) -> None:
    made = Run(LocalStore(tmp_path / "ours & theirs?settle=1&transfer=crt"), "r")
    made.create(RunSpec())
    with control.driving(made, "local", made.spec), pytest.raises(UsageError) as refused:
        take_again = control.Bid(control.newest(made))
        take_again.check()
    command = shlex.split(str(refused.value).split("`")[1])
    assert command == ["leti-ctl", "stop", "r", "--store", made.store.uri]


def test_what_ended_a_driver_is_told_though_the_store_does_not_take_its_end(s3_server: S3Server, s3_uri: str) -> None:
    made = Run(open_store(s3_uri), "r")
    made.create(RunSpec())
    s3_server.faults.append(Fault("PUT", "/ends/", "403 Forbidden", "ExpiredToken"))
    with pytest.raises(Stopped, match="by the user"), control.driving(made, "local", made.spec):
        raise Stopped("by the user")
    assert s3_server.faults.pop().times == 0


def test_a_dead_driver_is_replaced(run: Run) -> None:
    code = (
        "import sys, os; from pathlib import Path; from leti_ctl import control; from stages.contract.run import Run;"
        "from stages.contract.store import LocalStore; run = Run(LocalStore(Path(sys.argv[1])), 'r');"
        "held = control.driving(run, 'x', run.spec); held.__enter__(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, run.store.uri], check=True)
    left = control.find_driver(run)
    assert left and not left.is_alive
    with control.driving(run, "local", run.spec):
        assert control.find_driver(run).pid == os.getpid()  # type: ignore[union-attr]


def test_a_driver_on_another_machine_is_replaced_only_on_demand_and_told(run: Run) -> None:
    old = take(run, far())
    with pytest.raises(UsageError, match="--take-over"), control.driving(run, "local", run.spec):
        pass
    bid = control.Bid(control.newest(run), take_over=True)
    assert old.lost() == ""
    with control.driving(run, "local", run.spec, bid) as new:
        assert control.find_driver(run).is_here  # type: ignore[union-attr]
        assert f"taken over by process {os.getpid()}" in old.lost()
        old.end()
        assert new.is_driven() and control.find_driver(run)


class Thief(Progress):
    """Sees to it that a workflow takes the run over when its driver has started a unit."""

    def __init__(self, run: Run) -> None:
        super().__init__(1)
        self.run = run

    def started(self, unit: Unit, attempt: int) -> None:
        driver = control.Driver(backend="argo", host="leti/r-9", pid=0, born=0, since=control.now())
        control.claim(control.Bid(control.newest(self.run)), driver, self.run.spec)


@pytest.mark.slow
def test_a_local_driver_that_loses_the_run_ends_its_units_and_leaves_the_rest_alone(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LETI_NURSERY", "0")
    first = take(run, far("gone"))
    driver = Driver(run, run.spec, Thief(run))
    with pytest.raises(Stopped, match="taken over by workflow leti/r-9"):
        driver.drive(control.Bid(first, take_over=True))
    last = control.newest(run)
    assert last.number == 2 and last.is_driven() and control.failures(run) == []
    assert driver.running == {} and not driver.scratch.exists()
    assert first.successor().is_ended()  # type: ignore[union-attr]


class Impatient(Progress):
    """Asks the driver to stop as soon as it has started a unit, while it is in a library that mistakes exceptions.

    boto3 is one: it takes whatever comes while it waits for the network's fault, and so is asked again.
    """

    def started(self, unit: Unit, attempt: int) -> None:
        with suppress(Exception):
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.slow
def test_a_local_driver_that_is_asked_to_stop_says_how_to_go_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETI_NURSERY", "0")
    with pytest.raises(Stopped) as stopped:
        Driver(run, run.spec, Impatient(1)).drive()
    assert shlex.split(str(stopped.value).split("`")[1]) == ["leti-ctl", "resume", "r", "--store", run.store.uri]


def test_what_a_killed_driver_left_blocks_no_run_of_the_same_name(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LETI_NURSERY", "0")
    monkeypatch.setenv("LETI_SCRATCH", str(tmp_path / "scratch"))
    left = drive_nothing(run)
    left.mkdir()  # as who is killed leaves it
    shutil.rmtree(Path(run.store.uri) / "runs")
    run.create(RunSpec())
    drive_nothing(run)
    assert left.exists(), "it could be another's by now: the number is this claim's"
    drive_nothing(run)
    assert list((tmp_path / "scratch").iterdir()) == []


def drive_nothing(run: Run) -> Path:
    """Drive a run of which all is done; return what its scratch folder was."""
    driver = Driver(run, run.spec, Progress(1))
    driver.done = set(driver.plan.units)
    driver.drive()
    assert not driver.scratch.exists()
    return driver.scratch


def test_a_live_process_of_this_machine_is_stopped_and_not_taken_over(run: Run) -> None:
    with (
        control.driving(run, "local", run.spec),
        pytest.raises(UsageError, match="leti-ctl stop r"),
        control.driving(run, "local", run.spec, control.Bid(control.newest(run), take_over=True)),
    ):
        pass


def test_who_looked_before_another_came_and_went_is_told(run: Run) -> None:
    bid = control.Bid(control.newest(run))
    with control.driving(run, "local", run.spec):
        pass
    with pytest.raises(UsageError, match=r"in the meantime.*try again"), control.driving(run, "local", run.spec, bid):
        pass


def test_a_collection_and_a_driver_keep_each_other_out_and_it_leaves_no_trace_in_the_phase(run: Run) -> None:
    driver = take(run, workflow(0))
    driver.request_stop()
    driver.record_failure(control.Failure(unit="u", label="l", exit_code=65, message="m", at=control.now()))
    driver.end("Failed")
    with (
        control.driving(run, "gc", run.spec),
        pytest.raises(UsageError, match=f"driven by gc, process {os.getpid()}"),
        control.driving(run, "local", run.spec),
    ):
        pass
    assert control.last_backend(run) == "argo" and control.is_stop_requested(run)
    assert summary.phase(run, complete=False, failed=bool(control.failures(run))) == "Failed"


def test_stopping_a_run_nobody_drives_changes_nothing(run: Run) -> None:
    assert control.request_stop(run) is False
    assert not control.is_stop_requested(run)


def test_a_stop_is_for_the_driver_that_was_seen(run: Run) -> None:
    old = take(run, workflow(0))
    assert control.request_stop(run)
    assert old.is_stop_requested() and control.is_stop_requested(run)
    old.end("Failed")
    new = take(run, workflow(1))
    assert not new.is_stop_requested() and not control.is_stop_requested(run)
    old.request_stop()
    assert not control.is_stop_requested(run)


def test_a_late_exit_handler_touches_no_newer_workflow(run: Run) -> None:
    take(run, workflow(0))
    new = take(run, workflow(1))
    nodes = [{"displayName": "train", "message": "Error (exit code 65)", "podName": "p", "phase": "Failed"}]
    steps.finalize(run, "leti/r-0", "Failed", json.dumps(nodes))
    assert new.is_driven() and control.find_outcome(run) is None and control.failures(run) == []
    steps.finalize(run, "leti/r-1", "Succeeded", "null")
    assert control.find_driver(run) is None
    assert control.find_outcome(run).phase == "Succeeded"  # type: ignore[union-attr]


def test_the_plan_step_of_a_workflow_that_lost_the_run_or_was_stopped_ends(run: Run) -> None:
    old = take(run, workflow(0))
    assert steps.hold(run, "leti/r-0").number == old.number
    new = take(run, workflow(1))
    with pytest.raises(UsageError, match="taken over by workflow leti/r-1"):
        steps.hold(run, "leti/r-0")
    new.request_stop()
    with pytest.raises(UsageError, match="leti/r-1 was asked to stop"):
        steps.hold(run, "leti/r-1")


def test_a_workflow_that_nobody_claimed_for_or_that_is_retried_takes_the_run_if_it_is_free(run: Run) -> None:
    first = steps.hold(run, "leti/by-hand")
    assert first.is_driven() and steps.hold(run, "leti/by-hand").number == first.number
    with pytest.raises(UsageError, match="driven by workflow leti/by-hand"):
        steps.hold(run, "leti/another")
    assert steps.finalize(run, "leti/another", "Failed", "[]") is None
    first.end("Failed")
    again = steps.hold(run, "leti/by-hand")
    assert again.number == first.number + 1 and again.is_driven()


def test_more_iterations_amend_the_run(run: Run) -> None:
    longer = RunSpec(iterations=20)
    control.amend(run, longer)
    assert control.current_spec(run).iterations == 20
    assert run.spec.iterations == 12 and run.spec.digest() == longer.digest()
    with control.driving(run, "gc", control.current_spec(run)):
        assert control.current_spec(run).iterations == 20


def test_of_two_amendments_of_the_same_spec_one_is_told(run: Run) -> None:
    bid = control.Bid(control.newest(run))
    control.amend(run, RunSpec(iterations=20), bid)
    with pytest.raises(UsageError, match="try again"):
        control.amend(run, RunSpec(iterations=30), bid)
    assert control.current_spec(run).iterations == 20


def test_other_changes_are_refused_with_a_diff_of_them_alone(run: Run) -> None:
    with pytest.raises(UsageError, match=r"another spec: seed: 42 -> 43; start a new run") as caught:
        control.amend(run, RunSpec(seed=43, iterations=20))
    assert "iterations" not in str(caught.value)


def test_a_spec_that_a_claim_did_not_carry_is_found(run: Run, tmp_path: Path) -> None:
    control.amend(run, RunSpec(iterations=20))
    path = tmp_path / "runs/r/control/drivers/0000.json"
    path.write_text(path.read_text().replace('\\"iterations\\": 20', '\\"iterations\\": 21'))
    with pytest.raises(ArtifactError, match=r"drivers/0000\.json: is not what was written"):
        control.current_spec(run)


def test_a_missing_run_is_named(run: Run) -> None:
    with pytest.raises(UsageError, match="no run 'other'"):
        control.open_run(run.store, "other")
    with pytest.raises(UsageError, match="slash"):
        control.open_run(run.store, "../other")


def test_failures_are_those_of_the_last_driver(run: Run) -> None:
    failure = control.Failure(unit="u", label="l", exit_code=65, message="m", at=control.now())
    with control.driving(run, "local", run.spec) as held:
        held.record_failure(failure)
    assert control.failures(run) == [failure]
    with control.driving(run, "local", run.spec):
        assert control.failures(run) == []


def test_runs_of_earlier_versions_are_read_stopped_and_gone_on_with(run: Run) -> None:
    def write(key: str, text: str) -> None:
        run.store.put_if_absent(run.key(key), text.encode())

    old = control.Workflow(
        attempt=0, name="r-0", namespace="leti", kube_context=None, server="s", profile="kind", start=0, at="then"
    )  # fmt: skip
    driver = {"backend": "argo", "host": "leti/r-0", "pid": 0, "born": 0, "since": "then"}
    write("control/driver.json", json.dumps(driver))
    write("control/workflows/0000.json", old.model_dump_json())
    text = RunSpec(iterations=20).to_json()
    digest = hashlib.sha256(text.encode()).hexdigest()
    write(f"amendments/0000-{digest}.json", text)
    assert control.find_driver(run).is_workflow  # type: ignore[union-attr]
    assert control.workflows(run) == [old] and control.next_attempt(run) == 1
    assert control.current_spec(run).iterations == 20 and control.last_backend(run) == "argo"
    assert control.request_stop(run) and control.is_stop_requested(run)
    held = control.epoch_of(run, "leti/r-0")
    assert held and held.end("Failed").phase == control.find_outcome(run).phase  # type: ignore[union-attr]
    assert control.find_driver(run) is None
    with control.driving(run, "local", control.current_spec(run)) as new:
        assert new.number == 0 and control.current_spec(run).iterations == 20
        assert not control.is_stop_requested(run) and control.find_outcome(run) is None
        assert control.workflows(run) == [old]


def test_what_an_earlier_version_left_when_it_was_killed_blocks_nobody(run: Run) -> None:
    dead = control.Driver(backend="local", host=os.uname().nodename, pid=os.getpid(), born=1, since="then")
    run.store.put_if_absent(run.key("control/driver.json"), dead.model_dump_json().encode())
    with control.driving(run, "local", run.spec):
        pass


def test_an_audit_finds_every_flipped_bit_of_a_control_object(run: Run, tmp_path: Path) -> None:
    with control.driving(run, "local", run.spec) as held:
        held.request_stop()
        held.record_failure(control.Failure(unit="u", label="l", exit_code=65, message="m", at=control.now()))
    keys = [key.removeprefix(run.key("")) for key in run.store.list(run.key("control/"))]
    assert len(keys) == 4
    for key in keys:
        control.check(run, key)
        path = tmp_path / "runs/r" / key
        data = path.read_bytes()
        for place in range(0, len(data), 7):
            if data[place : place + 1] not in b" \n":
                path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
                with pytest.raises(ArtifactError, match=key):
                    control.check(run, key)
        path.write_bytes(data)


@pytest.mark.parametrize(
    "key", ["control/driver.json", "amendments/0000.json", "control/failures/u.json", "control/drivers/0000.json"]
)
def test_a_cut_control_object_is_one_clear_line(run: Run, key: str) -> None:
    run.store.put_if_absent(run.key(key), b'{"pid": 1')
    with pytest.raises(ArtifactError, match=f"{key}.*delete it"):
        control.find_driver(run)
        control.current_spec(run)
        control.failures(run)


@pytest.mark.slow
def test_a_log_that_the_store_refuses_hides_no_units_error(
    s3_server: S3Server, s3_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LETI_NURSERY", "0")
    run = Run(open_store(s3_uri), "r")
    spec = RunSpec.model_validate({"model": {"source": str(tmp_path / "nowhere")}, "task": {"name": "basics"}})
    run.create(spec)
    s3_server.faults = [Fault("PUT", "/logs/", "403 Forbidden", "AccessDenied", times=100)]
    with pytest.raises(LetiError, match=r"prepare failed: .*nowhere"):
        Driver(run, spec, Progress(1)).drive()
    assert [failure.unit for failure in control.failures(run)] == ["prepare"]
