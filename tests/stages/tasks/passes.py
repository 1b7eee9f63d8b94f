"""One held-out pass of a task through the stages themselves, in this process; only the author of the text is played."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.contract.artifacts import Input, Ref
from stages.contract.records import Execution, Metrics, Problem
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import LocalStore
from stages.entrypoint import Job
from stages.evaluate.stage import evaluate
from stages.execute.stage import run as execute
from stages.generate.stage import generate
from stages.tasks import load_problems
from tests.models import make_tokenizer

WORLD = (Input(ref="made by a test", sha256="0" * 64),)


def make_pass(
    folder: Path, task: Mapping[str, Any], solutions: Mapping[str, Sequence[str]]
) -> tuple[list[Problem], list[Execution], Metrics]:
    """Generate, execute and evaluate the test problems that have solutions, each solution once.

    Returns those problems, their executions in the stages' order and the metrics.
    """
    script = folder / "script.jsonl"
    lines = [{"problem_id": name, "solutions": list(texts)} for name, texts in solutions.items()]
    script.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (count,) = {len(texts) for texts in solutions.values()}
    sections = {
        "iterations": 0,
        "task": dict(task),
        "generate": {"engine": "scripted", "script": str(script)},
        "execute": {"sandbox": "process", "workers": 1, "timeout_seconds": 60.0},
        "build": {"solution_ids": "retokenized"},
        "evaluate": {"samples_per_problem": count, "k": [1], "bootstrap_resamples": 50},
    }
    run = Run(LocalStore(folder / "store"), "pass")
    run.create(RunSpec.model_validate_json(json.dumps(sections)))
    problems = [one for one in load_problems(run.spec.task, "test") if one.problem_id in solutions]
    prepare = Job(run, "prepare", scratch=folder)
    prepare.commit_rows(Ref("problems", split="test"), problems, inputs=WORLD)
    model = folder / "model"
    make_tokenizer(model)
    (model / "config.json").write_text('{"eos_token_id": 0}')
    prepare.commit_folder(Ref("checkpoint", 0), model, inputs=WORLD)
    for stage, work in (("generate", generate), ("execute", execute), ("evaluate", evaluate)):
        scratch = folder / stage
        scratch.mkdir()
        work(Job(run, stage, 0, "test", scratch=scratch))
    (metrics,) = run.read(Ref("metrics", 0, "test"), Metrics)
    return problems, list(run.read(Ref("executions", 0, "test"), Execution)), metrics
