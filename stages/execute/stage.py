"""Samples → executions: run every solution of one part against its problem's tests, in the sandbox.

A program is prompt + solution, then the problem's setup, then its tests. A failing program is a row; a failing
platform is `infra_error`, which no later stage turns into a label.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

from stages.contract.artifacts import Ref
from stages.contract.errors import ArtifactError
from stages.contract.prompts import first_block
from stages.contract.records import Execution, Outcome, Problem, Sample
from stages.contract.spec import RunSpec
from stages.entrypoint import Job, threads
from stages.execute.judge import Judge, Limits, Program, Verdict


def run(job: Job) -> None:
    """Execute the samples of this part and commit one `Execution` per sample, in the samples' order."""
    problems_ref = Ref("problems", split=job.sampling_pass.split)
    samples_ref = Ref("samples", job.iteration, job.split)
    problems = {problem.problem_id: problem for problem in job.run.read(problems_ref, Problem)}
    samples = list(job.run.read(samples_ref, Sample, job.part))
    programs = [assemble(job.spec, _problem_of(sample, problems), sample) for sample in samples]
    verdicts = [accepted(verdict, job.spec) for verdict in _judge(job, programs)]
    outcomes = Counter(verdict.outcome for verdict in verdicts)
    job.commit_rows(
        Ref("executions", job.iteration, job.split),
        _rows(samples, programs, verdicts),
        inputs=(job.run.input(problems_ref), job.run.input(samples_ref, job.part)),
        **{f"num_{outcome}": count for outcome, count in sorted(outcomes.items())},
    )


def assemble(spec: RunSpec, problem: Problem, sample: Sample) -> Program:
    """Return the program of a sample: the solution cut and the prompt mended as the spec says."""
    solution = sample.solution
    if spec.task.postprocess != "none":
        solution = first_block(solution, legacy=spec.task.postprocess == "first_block_legacy")
    prompt = problem.prompt
    if spec.execute.reward_token_removal == "character_set":
        token = spec.model.tokens.as_tuple().reward(sample.reward_token)
        prompt = (token + prompt).lstrip(token) if token else prompt
    return Program(prompt, solution, problem.setup, problem.tests)


def accepted(verdict: Verdict, spec: RunSpec) -> Verdict:
    """Return the verdict, or an `infra_error` in its place where it was made behind less than the spec accepts."""
    if spec.execute.least_isolation == "beside" or verdict.isolation.endswith("-split"):
        return verdict
    return replace(verdict, outcome="infra_error", error_type=None, feedback="")


def _judge(job: Job, programs: Sequence[Program]) -> list[Verdict]:
    execute = job.spec.execute
    # Not all processors of a cluster's node: a pod is throttled to its share, and programs would run out of time.
    workers = execute.workers or threads()
    started = time.monotonic()
    with Judge(limits=Limits.from_spec(execute), sandbox=execute.sandbox, workers=workers) as judge:
        job.counters["startup_seconds"] = time.monotonic() - started
        job.environment["sandbox"] = str(judge.description)
        started = time.monotonic()
        verdicts = list(judge.run(programs, lambda done: job.progress(done, len(programs), "programs")))
    job.counters["executions"] = len(programs)
    job.counters["execute_seconds"] = time.monotonic() - started
    return verdicts


def _problem_of(sample: Sample, problems: dict[str, Problem]) -> Problem:
    try:
        return problems[sample.problem_id]
    except KeyError:
        raise ArtifactError(f"sample of {sample.problem_id!r}: the run's problems have no such id") from None


def _rows(samples: Sequence[Sample], programs: Sequence[Program], verdicts: Sequence[Verdict]) -> Iterator[Execution]:
    for sample, program, verdict in zip(samples, programs, verdicts, strict=True):
        text = "\n".join((program.prompt + program.solution, program.setup, *program.tests))
        yield Execution(
            problem_id=sample.problem_id,
            sample=sample.sample,
            program_sha256=hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
            outcome=cast(Outcome, verdict.outcome),
            error_type=verdict.error_type,
            feedback=verdict.feedback,
            isolation=verdict.isolation,
        )
