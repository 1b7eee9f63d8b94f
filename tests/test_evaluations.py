"""Whole runs that only evaluate, through `leti-ctl`: a scripted author, so that every score is known beforehand."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from stages.contract.artifacts import Ref
from stages.contract.records import Execution, Metrics
from stages.contract.run import Run
from tests.models import make_model

SANDBOX = "gvisor" if shutil.which("runsc") else "process"
RUN = """
iterations: 0
model: {{source: model}}
task: {{name: {task}, source: rows.jsonl, postprocess: {cut}}}
generate: {{engine: scripted, script: script.jsonl}}
execute: {{sandbox: {sandbox}, timeout_seconds: 60}}
build: {{solution_ids: retokenized}}
evaluate: {{samples_per_problem: 4, temperature: 0.7, max_new_tokens: 64, k: [1, 2, 4], bootstrap_resamples: 100}}
"""


def finished(home: Path, task: str, cut: str, rows: Sequence[Mapping[str, Any]], script: Mapping[str, Any]) -> Run:
    """Submit a run of these rows and solutions, audit it, and return it."""
    make_model(home / "model")
    (home / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [{"problem_id": name, "solutions": solutions} for name, solutions in script.items()]
    (home / "script.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (home / "run.yaml").write_text(RUN.format(task=task, cut=cut, sandbox=SANDBOX))
    for command in (("submit", "-f", "run.yaml", "--name", "scored"), ("audit", "scored")):
        done = subprocess.run(
            [sys.executable, "-m", "leti_ctl", *command, "--store", "store"],
            cwd=home, capture_output=True, text=True, timeout=280, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    return Run.open(str(home / "store" / "runs" / "scored"))


def metrics_of(run: Run) -> Metrics:
    (metrics,) = run.read(Ref("metrics", 0, "test"), Metrics)
    return metrics


def answers_of(run: Run) -> dict[str, list[tuple[str, str | None]]]:
    """Outcome and answer of every sample, by problem."""
    found: dict[str, list[tuple[str, str | None]]] = {}
    for row in run.read(Ref("executions", 0, "test"), Execution):
        found.setdefault(row.problem_id, []).append((row.outcome, row.answer))
    return found


def solved(value: str) -> str:
    """A program in PaL's style, after which the model goes on with a question of its own."""
    return f"def solution():\n    return {value}\n\nQ: And (\n# solution in Python:\n"


@pytest.mark.soak
def test_gsm8k_is_scored_by_any_right_answer_and_by_the_vote(tmp_path: Path) -> None:
    rows = [{"input": f"Question {number}?", "target": 6 + number} for number in range(4)]
    drawn = {
        "gsm8k_pal/test-0": ["6", "12 / 2", "5", "1 / 0"],
        "gsm8k_pal/test-1": ["5", "5", "7", "'7'"],
        "gsm8k_pal/test-2": ["1", "8", "8", "1"],
        "gsm8k_pal/test-3": ["None", "[9]", "{}['k']", "9.0001"],
    }
    script = {name: list(map(solved, values)) for name, values in drawn.items()}
    run = finished(tmp_path, "gsm8k_pal", "question", rows, script)
    assert answers_of(run) == {
        "gsm8k_pal/test-0": [("passed", "6"), ("passed", "6"), ("failed", "5"), ("failed", None)],
        "gsm8k_pal/test-1": [("failed", "5"), ("failed", "5"), ("passed", "7"), ("failed", "'7'")],
        "gsm8k_pal/test-2": [("failed", "1"), ("passed", "8"), ("passed", "8"), ("failed", "1")],
        "gsm8k_pal/test-3": [("failed", "None"), ("failed", "[9]"), ("failed", None), ("failed", "9.0001")],
    }
    metrics = metrics_of(run)
    assert metrics.solve_rate.value == metrics.pass_at_k["4"].value == 3 / 4
    assert metrics.pass_at_k["1"].value == pytest.approx(5 / 16)
    assert metrics.figures["majority_vote"].value == 1 / 4
    assert metrics.error_types == {"AssertionError": 9, "KeyError": 1, "ZeroDivisionError": 1}


@pytest.mark.soak
def test_humaneval_is_scored_as_its_tests_say(tmp_path: Path) -> None:
    rows = [
        {
            "task_id": f"HumanEval/{number}",
            "prompt": f'def plus(x):\n    """ Add {number}.\n    """\n',
            "entry_point": "plus",
            "canonical_solution": f"    return x + {number}\n",
            "test": f"\n\ndef check(candidate):\n    for n in range(9):\n        assert candidate(n) == n + {number}\n",
        }
        for number in range(2)
    ]
    wrong = ["\n    return x + 7", "\n    return y", "\n  return x"]
    script = {
        "humaneval/0": ["\n    return x\n\nprint(undefined)", *wrong],
        "humaneval/1": ["\n    return x + 1\n# So much for that.\n(", "\n    return 1 + x", *wrong[:2]],
    }
    metrics = metrics_of(finished(tmp_path, "humaneval", "stop_words", rows, script))
    assert metrics.pass_at_k["1"].value == pytest.approx(3 / 8)
    assert metrics.pass_at_k["2"].value == pytest.approx((1 / 2 + 5 / 6) / 2)
    assert metrics.error_types == {"AssertionError": 2, "NameError": 2, "IndentationError": 1}
    assert metrics.figures == {}
