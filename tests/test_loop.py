"""The executable README: the whole loop through `leti-ctl`, and the same loop killed at random moments.

Everything is real but the author of the solutions: a scripted engine replays reference solutions and mistakes, so that
verdicts are known; the model that trains is a tiny one with random weights. One test samples from that model instead.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import make_model
from tests.scripts import write_script

pytestmark = pytest.mark.slow
SANDBOX = "gvisor" if shutil.which("runsc") else "process"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, a script of solutions and a run spec that uses both."""
    home = tmp_path_factory.mktemp("loop")
    make_model(home / "model")
    wrong = ("\nraise KeyError('no')", "\n(", "\npass")
    write_script(home / "script.jsonl", train=6, test=4, wrong=wrong)
    (home / "run.yaml").write_text(RUN.format(sandbox=SANDBOX))
    return home


RUN = """
iterations: 2
model: {{source: model}}
task: {{name: basics, train_problems: 6, test_problems: 4}}
generate: {{engine: scripted, script: script.jsonl, samples_per_problem: 4, max_new_tokens: 32, parts: 2}}
execute: {{sandbox: {sandbox}, timeout_seconds: 5}}
build: {{max_length: 256, pack_length: 256}}
pretraining: {{num_files: 3, block_length: 64, max_blocks: 16}}
train: {{epochs: 1, batch_size: 8, pretraining_batch_size: 2, micro_batch_tokens: 1024, checkpoint_steps: 2,
        learning_rate: 1e-3}}
evaluate: {{splits: [test], samples_per_problem: 2, max_new_tokens: 32, k: [1, 2], bootstrap_resamples: 100}}
"""


def leti_ctl(*arguments: str, cwd: Path, timeout: float = 280) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "leti_ctl", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout)


@pytest.fixture(scope="module")
def finished(workplace: Path) -> Path:
    """The run, undisturbed; returns its folder in the store."""
    found = leti_ctl("submit", "-f", "run.yaml", "--name", "calm", "--store", "store", cwd=workplace)
    assert found.returncode == 0, found.stderr
    return workplace / "store" / "runs" / "calm"


def status(workplace: Path, name: str, store: str = "store") -> dict[str, Any]:
    answer = leti_ctl("status", name, "--store", store, "--json", cwd=workplace)
    data: dict[str, Any] = json.loads(answer.stdout)
    return data


def fingerprints(run: Path) -> dict[str, str]:
    """SHA-256 of every object that must come out the same, by key: all data and indexes of the byte-exact stages."""
    exact = ("problems", "pretraining", "samples", "executions", "examples", "metrics")
    found = {}
    for path in sorted(run.rglob("*")):
        key = path.relative_to(run)
        first = key.parts[2] if key.parts[0] == "iterations" and len(key.parts) > 2 else key.parts[0]
        # Samples of later iterations follow from trained weights only when a model writes them.
        if path.is_file() and first in exact and "parts" not in key.parts:
            found[key.as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def weights(run: Path, iteration: int) -> dict[str, np.ndarray[Any, Any]]:
    from safetensors.numpy import load_file

    (file,) = (run / "iterations" / f"{iteration:04d}" / "checkpoint").rglob("model.safetensors")
    return load_file(file)


def test_the_loop_ends_with_scores_that_the_script_implies(workplace: Path, finished: Path) -> None:
    found = status(workplace, "calm")
    assert found["phase"] == "Succeeded" and found["units"]["done"] == found["units"]["total"]
    first = found["per_iteration"][0]["scores"]
    assert first["train"]["pass_at_k"]["1"]["value"] == pytest.approx(0.25)
    assert first["train"]["error_types"] == {"KeyError": 6, "NameError": 6, "SyntaxError": 6}
    assert first["test"]["pass_at_k"]["1"]["value"] == pytest.approx(0.5)
    assert first["test"]["pass_at_k"]["2"]["value"] == 1.0
    assert len(found["per_iteration"]) == 3
    assert found["per_iteration"][0]["executions_per_second"] > 0


def test_training_moves_the_weights_every_iteration(finished: Path) -> None:
    models = [weights(finished, iteration) for iteration in (0, 1, 2)]
    for before, after in itertools.pairwise(models):
        assert any(not np.array_equal(before[name], after[name]) for name in before)


def test_the_examples_load_as_a_data_set(finished: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    files = [str(path) for path in (finished / "iterations" / "0000" / "examples").glob("*.parquet")]
    rows = load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path))
    assert sum(len(lengths) for lengths in rows["lengths"]) == 24


def test_samples_are_read_with_their_feedback(workplace: Path, finished: Path) -> None:
    answer = leti_ctl("samples", "calm", "--store", "store", "--outcome", "KeyError", "--json", cwd=workplace)
    rows = json.loads(answer.stdout)["samples"]
    assert len(rows) == 5 and all("KeyError: 'no'" in row["feedback"] for row in rows)
    assert "KeyError" in leti_ctl("samples", "calm", "--store", "store", "--outcome", "KeyError", cwd=workplace).stdout


def test_logs_tell_what_every_stage_did(workplace: Path, finished: Path) -> None:
    text = leti_ctl("logs", "calm", "--store", "store", "--stage", "execute", "--json", cwd=workplace).stdout
    entries = [json.loads(line) for line in text.splitlines()]
    assert {entry["stage"] for entry in entries} == {"execute"}
    assert sum(entry["event"] == "done" for entry in entries) == 2 * 2 + 3


def test_a_finished_run_is_resumed_at_no_cost_and_can_be_made_longer(workplace: Path, finished: Path) -> None:
    copy = workplace / "store" / "runs" / "longer"
    shutil.copytree(finished, copy)
    assert leti_ctl("resume", "longer", "--store", "store", cwd=workplace).returncode == 0
    before = fingerprints(copy)
    assert leti_ctl("resume", "longer", "--store", "store", "--iterations", "3", cwd=workplace).returncode == 0
    after = fingerprints(copy)
    assert before.items() <= after.items() and (copy / "iterations" / "0003" / "checkpoint").is_dir()
    refused = leti_ctl("resume", "longer", "--store", "store", "--set", "seed=1", cwd=workplace)
    assert refused.returncode == 2 and "seed: 42 -> 1" in refused.stderr


def test_a_checkpoint_is_evaluated_by_a_run_of_its_own(workplace: Path, finished: Path) -> None:
    start = ("submit", "-f", "run.yaml", "--name", "scored", "--store", "store", "--iterations", "0")
    source = ("--set", "model.from_run=calm", "--set", "model.from_iteration=2")
    done = leti_ctl(*start, *source, cwd=workplace)
    assert done.returncode == 0, done.stderr
    found = status(workplace, "scored")
    assert found["phase"] == "Succeeded" and found["units"]["total"] == 1 + 3
    assert found["per_iteration"][0]["scores"]["test"]["reward_token"] == "good"
    answer = leti_ctl("audit", "scored", "--store", "store", "--json", cwd=workplace)
    assert json.loads(answer.stdout)["findings"] == []


@pytest.mark.soak
def test_several_seeds_are_runs_of_their_own_and_reported_together(workplace: Path, finished: Path) -> None:
    few = ("--set", "model.from_run=calm", "--set", "model.from_iteration=1", "--set", "task.test_problems=2")
    start = ("submit", "-f", "run.yaml", "--name", "many", "--store", "store", "--iterations", "0", "--seeds", "1,2")
    done = leti_ctl(*start, *few, "--json", cwd=workplace)
    assert done.returncode == 0, done.stderr
    (group,) = json.loads(done.stdout)["groups"]
    assert (group["runs"], group["seeds"], group["phases"]) == (["many-s1", "many-s2"], [1, 2], ["Succeeded"] * 2)
    row = next(row for row in group["metrics"] if (row["split"], row["metric"]) == ("test", "pass@1"))
    assert (row["values"], row["deviation"]) == ([0.5, 0.5], 0.0)


def stage_processes(run: Path | str) -> list[int]:
    """Process ids of the stages that work on this run."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                arguments = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(run).encode() in arguments and any(each.startswith(b"stages.") for each in arguments):
                found.append(int(folder.name))
    return found


def kills(driver: subprocess.Popen[str], run: Path, chance: random.Random) -> Iterator[int]:
    """Kill the driver or one of its stages every now and then, until the driver has ended."""
    while driver.poll() is None:
        time.sleep(chance.uniform(0.2, 5.0))
        victims = [*stage_processes(run), driver.pid]
        victim = chance.choice(victims)
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            continue
        yield victim


@pytest.mark.timeout(800)
@pytest.mark.soak
def test_killing_anything_at_any_moment_changes_nothing(workplace: Path, finished: Path) -> None:
    run = workplace / "store" / "runs" / "killed"
    chance = random.Random(20260)
    command = [sys.executable, "-m", "leti_ctl"]
    arguments = ["submit", "-f", "run.yaml", "--name", "killed", "--store", "store"]
    killed = 0
    for _ in range(5):
        driver = subprocess.Popen(
            [*command, *arguments], cwd=workplace, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        for _victim in kills(driver, run, chance):
            killed += 1
        driver.communicate()
        arguments = ["resume", "killed", "--store", "store"]
    last = leti_ctl("resume", "killed", "--store", "store", cwd=workplace)
    assert last.returncode == 0, last.stderr
    assert killed >= 5
    assert fingerprints(run) == fingerprints(finished)
    for name, value in weights(run, 2).items():
        np.testing.assert_allclose(value, weights(finished, 2)[name], atol=1e-6)
    assert stage_processes(run) == []


@pytest.mark.soak
def test_a_stopped_run_says_so_and_resumes(workplace: Path) -> None:
    arguments = ["submit", "-f", "run.yaml", "--name", "stopped", "--store", "store", "--iterations", "1"]
    driver = subprocess.Popen(
        [sys.executable, "-m", "leti_ctl", *arguments], cwd=workplace, stderr=subprocess.PIPE, text=True
    )
    control = workplace / "store" / "runs" / "stopped" / "control" / "drivers" / "0000.json"
    while not control.exists():
        time.sleep(0.05)
    time.sleep(3)
    refused = leti_ctl("resume", "stopped", "--store", "store", cwd=workplace)
    assert refused.returncode == 2 and "is driven by process" in refused.stderr
    answer = leti_ctl("stop", "stopped", "--store", "store", "--json", cwd=workplace)
    assert json.loads(answer.stdout)["applied"] is True
    _, errors = driver.communicate(timeout=200)
    assert driver.returncode == 143 and "leti-ctl resume" in errors
    assert status(workplace, "stopped")["phase"] == "Stopped"
    assert leti_ctl("resume", "stopped", "--store", "store", cwd=workplace).returncode == 0


def test_a_failing_stage_is_one_line_with_its_code_and_remedy(workplace: Path, finished: Path) -> None:
    broken = workplace / "store" / "runs" / "broken"
    shutil.copytree(finished, broken)
    shutil.rmtree(broken / "iterations" / "0000" / "executions")
    (samples,) = (broken / "iterations" / "0000" / "samples" / "train").glob("00000-*.jsonl")
    samples.write_bytes(samples.read_bytes()[:-40] + b"\n")
    found = leti_ctl("resume", "broken", "--store", "store", cwd=workplace)
    assert found.returncode == 65
    assert samples.name in found.stderr.splitlines()[-1] and "leti-ctl resume broken --store" in found.stderr
    assert status(workplace, "broken")["phase"] == "Failed"


def test_a_real_model_writes_trains_and_is_conditioned(workplace: Path) -> None:
    model = ("--set", "generate.engine=transformers", "--set", "generate.script=null", "--set", "generate.parts=1")
    arguments = ("-f", "run.yaml", "--name", "model", "--iterations", "1", "--store", "store")
    found = leti_ctl("submit", *arguments, *model, cwd=workplace)
    assert found.returncode == 0, found.stderr
    for iteration, token in ((0, "none"), (1, "good")):
        where = ("--iteration", str(iteration), "--split", "test", "--store", "store", "--json")
        rows = json.loads(leti_ctl("samples", "model", *where, cwd=workplace).stdout)["samples"]
        assert {row["reward_token"] for row in rows} == {token}
