"""A run of two iterations, unfinished, whose solutions and feedback attack the page that shows them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from stages.contract.artifacts import Input, Ref
from stages.contract.records import Execution, Problem, Sample
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import LocalStore
from stages.entrypoint import Job
from stages.evaluate.stage import evaluate

WORLD = (Input(ref="made by a test", sha256="0" * 64),)
ATTACKS = (
    "</script><script>window.PWNED = 1</script>",
    '<img src="x" onerror="window.PWNED = 2">',
    "<!-- <script> --!>",
    "'\"><svg onload=window.PWNED=3>",
    "javascript:window.PWNED=4",
    "]]>&lt;b&gt;&#60;",
    "\u2028\u2029 \u202egnp.exe \x00\x1b[31m\ufeff",
    "${window.PWNED=5} {{window.PWNED=6}}",
    "</style><style>*{display:none}</style>",
)
KINDS = (("passed", None), ("failed", "NameError"), ("failed", "AssertionError"), ("timed_out", None))
ITERATIONS, PROBLEMS, SAMPLES = 2, 4, 6


def make(folder: Path, name: str = "hostile", models: int = ITERATIONS + 1) -> Run:
    """Make the run in `folder/store`: test passes of so many models, the last of three not executed yet."""
    run = Run(LocalStore(folder / "store"), name)
    sampled = {"samples_per_problem": SAMPLES}
    scored = {**sampled, "splits": ["test"], "select_on": "test", "k": [1], "bootstrap_resamples": 20}
    spec = {"iterations": ITERATIONS, "generate": sampled, "evaluate": scored}
    run.create(RunSpec.model_validate_json(json.dumps(spec)))
    problems = [_problem(number) for number in range(PROBLEMS)]
    _job(run, folder, 0).commit_rows(Ref("problems", split="test"), problems, inputs=WORLD)
    for iteration in range(models):
        pairs = [_pair(iteration, problem, number) for problem in problems for number in range(SAMPLES)]
        job = _job(run, folder, iteration)
        job.commit_rows(Ref("samples", iteration, "test"), [sample for sample, _ in pairs], inputs=WORLD)
        if iteration < ITERATIONS:
            job.commit_rows(Ref("executions", iteration, "test"), [verdict for _, verdict in pairs], inputs=WORLD)
            evaluate(job)
    return run


def _job(run: Run, folder: Path, iteration: int) -> Job:
    return Job(run, "evaluate", iteration, "test", scratch=folder)


def _problem(number: int) -> Problem:
    attack = ATTACKS[number % len(ATTACKS)]
    tests = (f"assert f(1) == {number}  # {attack}",)
    return Problem(
        problem_id=f"test/{number}", prompt=f'"""\nTask {number} {attack}\n"""', tests=tests, reference=attack
    )


def words(number: int) -> str:
    """Return everything that stands in a problem and in what was written for it."""
    problem = _problem(number)
    pairs = [_pair(iteration, problem, each) for iteration in range(ITERATIONS + 1) for each in range(SAMPLES)]
    executed = {each.feedback for _, each in pairs[: ITERATIONS * SAMPLES]}
    return "\n".join(
        [problem.prompt, *problem.tests, problem.reference, *executed, *(each.solution for each, _ in pairs)]
    )


def outcome(iteration: int, problem: int, sample: int) -> tuple[str, str | None]:
    """Return how a sample ends: problem 0 is learned, problem 1 forgotten, 2 never solved, 3 always."""
    if sample:
        return KINDS[1 + (problem + sample) % 3]
    return KINDS[0] if problem == 3 or (problem == 0 and iteration) or (problem == 1 and not iteration) else KINDS[1]


def _pair(iteration: int, problem: Problem, number: int) -> tuple[Sample, Execution]:
    place = int(problem.problem_id.partition("/")[2])
    attack = ATTACKS[(place * SAMPLES + number + iteration) % len(ATTACKS)]
    ended, error = outcome(iteration, place, number)
    text = f"\ndef f(x):\n    return {min(number, 3)}  # {attack if number < 4 else 'the same'}"
    sample = Sample(
        problem_id=problem.problem_id, sample=number, reward_token="good" if iteration else "none", solution=text,
        token_ids=(1, 2, 3), finish_reason="eos", num_prompt_tokens=5, seed=number,
    )  # fmt: skip
    verdict = Execution(
        problem_id=problem.problem_id, sample=number, program_sha256=hashlib.sha256(text.encode()).hexdigest(),
        outcome=ended, error_type=error and f"{error}", isolation="split",  # type: ignore[arg-type]
        feedback="" if ended == "passed" else f"Traceback\n{error}: {attack}\n",
    )  # fmt: skip
    return sample, verdict
