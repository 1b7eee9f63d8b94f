"""The artifacts an iteration starts from, committed as the stages before it commit them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.contract.artifacts import Input, Part, Ref
from stages.contract.records import Execution, Problem, Sample
from stages.contract.run import Run
from stages.entrypoint import Job, Output

SOURCE = (Input(ref="made by a test", sha256="0" * 64),)
FEEDBACK = 'Traceback (most recent call last):\n  File "<string>", line 7, in <module>\n    assert f({0}) == 1\n{1}\n'


def commit_problems(run: Run, scratch: Path, count: int = 3, *, split: str = "train") -> list[Problem]:
    """Commit so many problems of MBPP's form."""
    problems = [
        Problem(
            problem_id=f"test/{number}",
            prompt=f'"""\nReturn x plus {number}.\nassert f(1) == {number + 1}\n"""',
            tests=(f"assert f(1) == {number + 1}",),
        )
        for number in range(count)
    ]
    Job(run, "prepare", scratch=scratch).commit_rows(Ref("problems", split=split), problems, inputs=SOURCE)
    return problems


def commit_checkpoint(run: Run, scratch: Path, folder: Path, iteration: int = 0) -> None:
    """Commit a model folder as the iteration's checkpoint."""
    Job(run, "prepare", scratch=scratch).commit_folder(Ref("checkpoint", iteration), folder, inputs=SOURCE)


def commit_blocks(run: Run, scratch: Path, count: int = 16, length: int = 32, *, vocabulary: int = 256) -> None:
    """Commit a pre-training stream of random tokens."""
    ids = np.random.default_rng(0).integers(1, vocabulary, (count, length)).astype(np.int32)
    schema = pa.schema([("block", pa.int32()), ("input_ids", pa.list_(pa.int32()))])
    path = scratch / "pretraining.parquet"
    pq.write_table(pa.table({"block": np.arange(count, dtype=np.int32), "input_ids": list(ids)}, schema=schema), path)
    Job(run, "prepare", scratch=scratch).commit(Output(Ref("pretraining"), {path: count}, SOURCE))


def judged_samples(
    problems: Sequence[Problem], samples: int, *, vocabulary: int = 256, seed: int = 0
) -> list[tuple[Sample, Execution]]:
    """Return samples of random tokens; every third passes, the others fail with a traceback."""
    random = np.random.default_rng(seed)
    pairs = []
    for problem in problems:
        for number in range(samples):
            ids = tuple(map(int, random.integers(1, vocabulary, int(random.integers(4, 40)))))
            passed = number % 3 == 0
            pairs.append((_sample(problem, number, ids), _execution(problem, number, passed)))
    return pairs


def commit_judged(
    run: Run, scratch: Path, pairs: Sequence[tuple[Sample, Execution]], *, iteration: int = 0, parts: int = 1
) -> None:
    """Commit samples and their executions of the train pass, in so many parts."""
    for number in range(parts):
        part = Part(number, parts)
        share = [pairs[index] for index in part.slice(len(pairs))]
        for artifact, column in (("samples", 0), ("executions", 1)):
            job = Job(run, "execute", iteration, "train", part, scratch)
            job.commit_rows(Ref(artifact, iteration, "train"), [pair[column] for pair in share], inputs=SOURCE)


def _sample(problem: Problem, number: int, ids: tuple[int, ...]) -> Sample:
    return Sample(
        problem_id=problem.problem_id,
        sample=number,
        reward_token="none",
        solution=f"\ndef f(x):\n    return x + {number}\n",
        token_ids=ids,
        finish_reason="eos" if number % 2 else "length",
        num_prompt_tokens=20,
        seed=number,
    )


def _execution(problem: Problem, number: int, passed: bool) -> Execution:
    return Execution(
        problem_id=problem.problem_id,
        sample=number,
        program_sha256="0" * 64,
        outcome="passed" if passed else "failed",
        error_type=None if passed else "AssertionError",
        feedback="" if passed else FEEDBACK.format(number, "AssertionError"),
        isolation="process",
    )
