"""The whole loop from the rendered manifest: leti-ctl, a fake cluster, real stages, and a cluster's usual disasters.

What must come out is what the same spec gives on this machine undisturbed, byte for byte.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.contract.run import Run
from stages.contract.store import open_store
from tests.conftest import ROOT
from tests.kube.api import Fault
from tests.kube.cluster import FakeCluster
from tests.kube.kinds import JOBSETS, PODS
from tests.kube.nodes import Nodes
from tests.models import make_model
from tests.s3 import S3Server
from tests.scripts import write_script

pytestmark = pytest.mark.soak
EXACT = ("problems", "pretraining", "samples", "executions", "examples", "metrics")
RUN = """
iterations: 3
model: {source: model}
task: {name: basics, train_problems: 4, test_problems: 2}
generate: {engine: scripted, script: script.jsonl, samples_per_problem: 2, max_new_tokens: 32, parts: 2}
execute: {sandbox: process, timeout_seconds: 5}
build: {max_length: 256, pack_length: 256}
pretraining: {num_files: 3, block_length: 64, max_blocks: 8}
train: {engine: torch, epochs: 1, batch_size: 4, pretraining_batch_size: 2, micro_batch_tokens: 1024,
        checkpoint_steps: 2, learning_rate: 1e-3}
evaluate: {splits: [test], samples_per_problem: 2, max_new_tokens: 32, k: [1, 2], bootstrap_resamples: 100}
"""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, a script of solutions and a run spec that uses both."""
    home = tmp_path_factory.mktemp("kube")
    make_model(home / "model")
    write_script(home / "script.jsonl", train=4, test=2, wrong=["\nraise KeyError('no')"])
    (home / "run.yaml").write_text(RUN)
    return home


@pytest.fixture(scope="module")
def calm(workplace: Path) -> Run:
    """The run on this machine, undisturbed."""
    done = leti_ctl("submit", "-f", "run.yaml", "--name", "calm", "--store", "store", cwd=workplace)
    assert done.returncode == 0, done.stderr
    return Run(open_store(str(workplace / "store")), "calm")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, shared_s3: S3Server) -> Iterator[FakeCluster]:
    """A cluster installed with the committed manifests, whose store is moto's."""
    mine = pytest.MonkeyPatch()
    with FakeCluster(tmp_path_factory.mktemp("cluster")) as made:
        made.kubectl("apply", "-k", str(ROOT / "manifests" / "overlays" / "kind"))
        made.put_settings("leti-store", AWS_ENDPOINT_URL_S3=shared_s3.url, AWS_DEFAULT_REGION="us-east-1")
        mine.setenv("KUBECONFIG", str(made.kubeconfig))
        mine.setenv("AWS_ENDPOINT_URL_S3", shared_s3.url)
        yield made
    mine.undo()


@pytest.fixture(scope="module")
def store(shared_s3: S3Server) -> str:
    return f"s3://{shared_s3.make_bucket()}/leti"


def leti_ctl(*arguments: str, cwd: Path, timeout: float = 900) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "leti_ctl", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, env=environment())


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "leti_ctl", *arguments]
    return subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment()
    )


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def fingerprints(run: Run) -> dict[str, str]:
    """SHA-256 of every object that must come out the same, by key."""
    found = {}
    for key in run.store.list(run.key("")):
        parts = key.removeprefix(run.key("")).strip("/").split("/")
        kind = parts[2] if parts[0] == "iterations" and len(parts) > 2 else parts[0]
        if kind in EXACT and "parts" not in parts:
            found["/".join(parts)] = hashlib.sha256(run.store.get(key)).hexdigest()
    return found


def weights(run: Run, iteration: int) -> dict[str, np.ndarray[Any, Any]]:
    from safetensors.numpy import load

    (key,) = [
        key
        for key in run.store.list(run.key(f"iterations/{iteration:04d}/checkpoint/"))
        if key.endswith("model.safetensors")
    ]
    return load(run.store.get(key))


class Disasters:
    """Ends running pods in every way a cluster does, one every now and then, each kind at least once."""

    def __init__(self, cluster: FakeCluster, seed: int) -> None:
        self.cluster, self.chance = cluster, random.Random(seed)
        self.fates = itertools.cycle(["deleted", "oom", "shutdown", "lost", "evicted"])
        self.done: list[tuple[str, str]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Disasters:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stop.wait(self.chance.uniform(0.3, 4.0)):
            victims = [pod for pod in self.cluster.pods() if self._is_fair(pod)]
            if victims:
                pod, fate = self.chance.choice(victims), next(self.fates)
                self.done.append((pod, fate))
                self.cluster.kubelet.disrupt(pod, fate)

    def _is_fair(self, pod: str) -> bool:
        """Only first attempts are hit, so that a slow machine gets to the end, and not what ends the run."""
        node = self.cluster.objects.get(PODS, "leti", pod)["metadata"]["annotations"]["workflows.argoproj.io/node-name"]
        return node.endswith("(0)") and "onExit" not in node and pod not in {name for name, _ in self.done}


def phases(cluster: FakeCluster, name: str) -> dict[str, str]:
    (found,) = [one for one in cluster.workflows() if one["metadata"]["name"] == name]
    return {node["name"]: node["phase"] for node in Nodes(found).by_id.values()}


@pytest.mark.timeout(1500)
def test_disasters_a_stop_and_a_restarted_controller_change_nothing(
    workplace: Path, calm: Run, cluster: FakeCluster, store: str
) -> None:
    where = ("--store", store)
    cluster.kubelet.doubled = {"-generate-", "-execute-", "-train-"}
    cluster.api.faults += [
        Fault("POST", "/workflows", carried_out=True, hang_up=True),
        Fault("GET", "/workflows/", code=429, retry_after=1, times=2),
        Fault("GET", "/workflows", hang_up=True, times=3),
    ]
    with Disasters(cluster, seed=7) as disasters:
        arguments = ("-f", "run.yaml", "--name", "hit", *where, "--backend", "argo", "--profile", "kind")
        driver = start("submit", *arguments, cwd=workplace)
        cluster.wait(lambda: cluster.pods(stage="train"), "training", timeout=400)
        cluster.restart_controller()
        cluster.wait(lambda: cluster.pods(stage="generate", iteration="1"), "iteration 1", timeout=400)
        stopped = leti_ctl("stop", "hit", *where, cwd=workplace)
        assert stopped.returncode == 0, stopped.stderr
        said, _ = driver.communicate(timeout=100)
        assert driver.returncode == 143, said
        assert len(cluster.workflows()) == 1, "a POST whose reply was lost started a second workflow"
        resumed = start("resume", "hit", *where, cwd=workplace)
        cluster.wait(lambda: cluster.pods(stage="evaluate", iteration="2"), "iteration 2", timeout=400)
        cluster.objects.compact()
    said, _ = resumed.communicate(timeout=400)
    assert resumed.returncode == 0, said
    assert len({fate for _, fate in disasters.done}) >= 3 and not cluster.kubelet.doubled
    run = Run(open_store(store), "hit")
    assert fingerprints(run) == fingerprints(calm)
    for name, value in weights(run, 3).items():
        np.testing.assert_allclose(value, weights(calm, 3)[name], atol=1e-6)


def test_status_and_logs_know_what_happened(workplace: Path, cluster: FakeCluster, store: str) -> None:
    status = json.loads(leti_ctl("status", "hit", "--store", store, "--json", cwd=workplace).stdout)
    assert status["phase"] == "Succeeded" and status["units"]["done"] == status["units"]["total"]
    logs = leti_ctl("logs", "hit", "--store", store, "--stage", "train", "--json", cwd=workplace).stdout
    entries = [json.loads(line) for line in logs.splitlines()]
    assert {entry["stage"] for entry in entries} == {"train"}


def test_a_finished_run_costs_a_plan_and_nothing_else(workplace: Path, cluster: FakeCluster, store: str) -> None:
    before = len(cluster.workflows())
    assert leti_ctl("resume", "hit", "--store", store, cwd=workplace).returncode == 0
    assert len(cluster.workflows()) == before


@pytest.mark.timeout(200)
def test_a_chain_that_fails_for_good_ends_the_run_with_its_reason(
    workplace: Path, cluster: FakeCluster, store: str
) -> None:
    (workplace / "short.jsonl").write_text((workplace / "script.jsonl").read_text().splitlines(keepends=True)[0])
    arguments = ("-f", "run.yaml", "--name", "broken", "--store", store, "--backend", "argo", "--profile", "kind")
    found = leti_ctl("submit", *arguments, "--set", "generate.script=short.jsonl", cwd=workplace)
    # A script without solutions for a problem is the user's mistake: code 2, not tried again.
    assert found.returncode == 2, found.stderr
    assert "generate: main: Error (exit code 2)" in found.stderr.splitlines()[-1], found.stderr
    attempts = [name for name in phases(cluster, "broken-0") if "generate" in name and name.endswith(")(0)")]
    assert all(name.replace("(0)", "(1)") not in phases(cluster, "broken-0") for name in attempts)
    status = json.loads(leti_ctl("status", "broken", "--store", store, "--json", cwd=workplace).stdout)
    assert status["phase"] == "Failed"


@pytest.mark.timeout(900)
def test_two_machines_train_as_a_jobset_and_start_again_together(
    workplace: Path, cluster: FakeCluster, store: str
) -> None:
    (workplace / "pair.yaml").write_text("extends: kind\ntrain_backend: jobset\n")
    template = leti_ctl("render", "--profile", "pair.yaml", cwd=workplace)
    assert template.returncode == 0, template.stderr
    cluster.kubectl("apply", "-f", "-", text=template.stdout)
    arguments = ("-f", "run.yaml", "--name", "pair", "--store", store, "--backend", "argo", "--profile", "pair.yaml")
    smaller = ("--iterations", "1", "--set", "train.nodes=2", "--set", "generate.parts=1")
    driver = start("submit", *arguments, *smaller, cwd=workplace)
    machines = cluster.wait(lambda: cluster.pods(stage="train", run="pair"), "training", timeout=400)
    cluster.kubelet.disrupt(machines[-1], "shutdown")
    cluster.wait(lambda: "pair-i0-node-0-0-00001" in cluster.pods(), "the restart", timeout=400)
    said, _ = driver.communicate(timeout=400)
    assert driver.returncode == 0, said
    assert cluster.objects.list(JOBSETS) == [], "the exit handler removes what trained"
    logs = leti_ctl("logs", "pair", "--store", store, "--stage", "train", cwd=workplace)
    assert "committed" in logs.stdout, logs.stderr
