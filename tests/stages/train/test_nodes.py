"""Several machines, here several launchers on loopback: one result, one committer, nobody left waiting."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from stages.contract.artifacts import Ref
from stages.contract.errors import SpecError, UsageError
from stages.contract.run import Run
from stages.contract.spec import TrainSpec
from stages.train.nodes import Nodes, check_world, read_nodes
from tests.conftest import ROOT
from tests.stages.train.runs import Reference, events, make_run, steps_of, weights_of
from tests.stages.train.test_resume import checkpoints, wait_for


@pytest.fixture
def set_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Set variables, after removing whatever a launcher may have set."""
    for name in ("LETI_NODES", "LETI_NODE_RANK", "LETI_RENDEZVOUS", "JOB_COMPLETION_INDEX", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)

    def set_them(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    yield set_them


def test_without_variables_there_is_one_machine(set_environment: Callable[..., None]) -> None:
    set_environment(JOB_COMPLETION_INDEX="3")
    assert read_nodes(TrainSpec()) == Nodes()


@pytest.mark.parametrize(
    ("rank", "variables"),
    [(1, {"LETI_NODE_RANK": "1"}), (2, {"JOB_COMPLETION_INDEX": "2"}),
     (0, {"LETI_NODE_RANK": "0", "JOB_COMPLETION_INDEX": "2"})],
)  # fmt: skip
def test_the_environment_says_which_machine_this_is(
    set_environment: Callable[..., None], rank: int, variables: dict[str, str]
) -> None:
    set_environment(LETI_NODES="3", LETI_RENDEZVOUS="train-node-0-0.train:29500", **variables)
    assert read_nodes(TrainSpec(nodes=3)) == Nodes(3, rank, "train-node-0-0.train", 29500)
    set_environment(LETI_RENDEZVOUS="[::1]:29500")
    assert read_nodes(TrainSpec(nodes=3)).host == "::1"


@pytest.mark.parametrize("nodes", [1, 3])
def test_another_number_of_machines_than_the_specs_is_refused(set_environment: Callable[..., None], nodes: int) -> None:
    set_environment(LETI_NODES="2", LETI_NODE_RANK="0", LETI_RENDEZVOUS="host:1")
    with pytest.raises(SpecError, match=rf"^train.nodes: {nodes}, but LETI_NODES says 2; start .* train.nodes 2$"):
        read_nodes(TrainSpec(nodes=nodes))


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"LETI_NODES": "two"}, r"LETI_NODES: 'two'; set a whole number from 1"),
        ({"LETI_NODE_RANK": ""}, r"LETI_NODE_RANK: ''; set a whole number from 0"),
        ({"LETI_NODE_RANK": "2"}, r"LETI_NODE_RANK: 2 of 2 machines; number them from 0 to 1"),
        ({"LETI_RENDEZVOUS": ""}, r"LETI_RENDEZVOUS: ''; set host:port"),
        ({"LETI_RENDEZVOUS": "host"}, r"LETI_RENDEZVOUS: 'host'; set host:port"),
        ({"LETI_RENDEZVOUS": "host:99999"}, r"LETI_RENDEZVOUS: 'host:99999'; set host:port"),
    ],
)
def test_a_variable_that_cannot_be_is_named(
    set_environment: Callable[..., None], variables: dict[str, str], said: str
) -> None:
    right = {"LETI_NODES": "2", "LETI_NODE_RANK": "0", "LETI_RENDEZVOUS": "host:1"}
    set_environment(**{**right, **variables})
    with pytest.raises(UsageError, match=said):
        read_nodes(TrainSpec(nodes=2))


def test_torchrun_by_hand_must_start_as_many_processes(set_environment: Callable[..., None]) -> None:
    set_environment(WORLD_SIZE="4")
    check_world(TrainSpec(processes=2, nodes=2))
    with pytest.raises(SpecError, match="make 2 processes, but torchrun started 4; start 2"):
        check_world(TrainSpec(processes=2))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_node(run: Run, rank: int, port: int) -> subprocess.Popen[str]:
    """Start one machine's container."""
    place = {"LETI_NODES": "2", "LETI_NODE_RANK": str(rank), "LETI_RENDEZVOUS": f"127.0.0.1:{port}"}
    line = [sys.executable, "-m", "stages.train", "--run", run.uri]
    environment = {**os.environ, **place, "LETI_LOG": "json"}
    return subprocess.Popen(line, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def run_nodes(run: Run) -> list[tuple[int, str]]:
    """Return exit code and log of both machines."""
    port = free_port()
    nodes = [start_node(run, rank, port) for rank in (1, 0)]
    logs = [node.communicate(timeout=200)[1] for node in nodes]
    return [(node.returncode, log) for node, log in zip(nodes, logs, strict=True)][::-1]


def new_run(folder: Path, **train: object) -> Run:
    folder.mkdir()
    return make_run(folder, epochs=1, **train)


@pytest.mark.slow
def test_machines_train_what_as_many_processes_do(tmp_path: Path) -> None:
    """The processes are those of torchrun by hand, which must do as well."""
    one = new_run(tmp_path / "one", engine="torch", processes=2)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    line = [*torchrun, "-m", "--", "stages.train", "--run", one.uri]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    two = new_run(tmp_path / "two", engine="torch", nodes=2)
    (code, log), (other_code, other_log) = run_nodes(two)
    assert (code, other_code) == (0, 0), log + other_log
    assert steps_of(two) == steps_of(one)
    expected = weights_of(one, 1, tmp_path)
    assert all(torch.equal(value, expected[name]) for name, value in weights_of(two, 1, tmp_path).items())
    kinds = [{event["event"] for event in events(text)} for text in (log, other_log)]
    assert "committed" in kinds[0] and "committed" not in kinds[1]
    # The gang starts again because a pod was lost after the last commit: there is nothing to meet for.
    assert [code for code, _ in run_nodes(two)] == [0, 0]


@pytest.mark.slow
def test_a_machine_that_is_lost_ends_the_others_and_the_next_gang_goes_on(tmp_path: Path) -> None:
    """With DeepSpeed, whose optimizer state is divided between the machines."""
    run = new_run(tmp_path / "run", zero_stage=1, nodes=2, checkpoint_steps=3, objective="fcft", batch_size=2)
    port = free_port()
    first, second = (start_node(run, rank, port) for rank in (0, 1))
    wait_for(lambda: checkpoints(run), first)
    lose(second)
    log = first.communicate(timeout=200)[1]
    assert first.returncode == 75, log
    assert "another process of this training is gone" in log
    logs = run_nodes(run)
    assert [code for code, _ in logs] == [0, 0], logs
    assert "resuming after step" in logs[0][1]
    losses = list(Reference(run, tmp_path).train())
    torch.testing.assert_close(torch.tensor([s.loss for s in steps_of(run)]), torch.tensor(losses), rtol=2e-5, atol=0)
    assert checkpoints(run) == [] and run.find_index(Ref("checkpoint", 1))


def lose(node: subprocess.Popen[str]) -> None:
    """Kill a machine: its launcher and all that has been started from it, nothing given time to say goodbye."""
    found, looked_at = [node.pid], 0
    while looked_at < len(found):
        os.kill(found[looked_at], signal.SIGSTOP)
        listed = Path(f"/proc/{found[looked_at]}/task").glob("*/children")
        found += [int(child) for children in listed for child in children.read_text().split()]
        looked_at += 1
    for process in found:
        os.kill(process, signal.SIGKILL)
    node.communicate()
