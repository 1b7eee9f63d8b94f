"""One part of an iteration, executed by the stage itself with a spec's feedback."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from stages.contract.artifacts import Input, Part, PartRecord, Ref
from stages.contract.records import Execution, Problem, Sample
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import LocalStore
from stages.entrypoint import Job
from stages.execute.stage import run as execute

SOURCE = (Input(ref="made by a test", sha256="0" * 64),)
PROMPT = '"""\nReturn x plus one.\nassert f(1) == 2\n"""'
PASSES, FAILS, UNDEFINED, BROKEN = (
    f"\ndef f(x):\n{body}\n" for body in ("    return x + 1", "    y = 2\n    return x", "    return z", "    return (")
)
"""Right; a wrong answer with a variable nobody reads; a name nobody defines; a syntax error."""
SOLUTIONS = (PASSES, FAILS, UNDEFINED, FAILS, BROKEN)


def make_run(folder: Path, feedback: dict[str, object], **execute_fields: object) -> Run:
    """Return a run with this feedback section whose first iteration waits to be executed."""
    fields = {"feedback": feedback, "execute": {"sandbox": "process", "workers": 1, **execute_fields}}
    run = Run(LocalStore(folder / "store"), "r")
    run.create(RunSpec.model_validate_json(json.dumps(fields)))
    return run


def commit_samples(run: Run, folder: Path, solutions: Sequence[str] = SOLUTIONS, *, split: str = "train") -> None:
    """Commit one problem and a sample for each solution."""
    problem = Problem(problem_id="p", prompt=PROMPT, tests=("assert f(1) == 2",))
    job = make_job(run, folder, split)
    job.commit_rows(Ref("problems", split=split), [problem], inputs=SOURCE)
    job.commit_rows(Ref("samples", 0, split), list(map(_sample, range(len(solutions)), solutions)), inputs=SOURCE)


def make_job(run: Run, folder: Path, split: str = "train") -> Job:
    """Return the execute stage's only unit of iteration 0."""
    return Job(run, "execute", 0, split, Part(), Path(tempfile.mkdtemp(dir=folder)))


def executed(run: Run, folder: Path, split: str = "train") -> list[Execution]:
    """Execute the unit and return its rows."""
    execute(make_job(run, folder, split))
    return list(run.read(Ref("executions", 0, split), Execution))


def record(run: Run, artifact: str) -> PartRecord:
    """Return the training part's record."""
    found = run.find_part(Ref(artifact, 0, "train"), Part())
    assert found is not None
    return found


def _sample(number: int, solution: str) -> Sample:
    return Sample(
        problem_id="p", sample=number, reward_token="none", solution=solution, token_ids=(1,), finish_reason="eos",
        num_prompt_tokens=3, seed=number,
    )  # fmt: skip
