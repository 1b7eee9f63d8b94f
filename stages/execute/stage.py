"""Samples → executions: run every solution of one part against its problem's tests, in the sandbox.

A program is prompt + solution, then the problem's setup, then its tests. A failing program is a row; a failing
platform is `infra_error`, which no later stage turns into a label. Tasks whose solutions are text start no sandbox.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from stages.contract.artifacts import Ref
from stages.contract.cuts import cut
from stages.contract.errors import ArtifactError
from stages.contract.records import Problem, Sample
from stages.contract.spec import RunSpec
from stages.entrypoint import Job, threads
from stages.execute.assess import Assessor
from stages.execute.feedback.comments import comment
from stages.execute.feedback.source import Judged
from stages.execute.judge import Judge, Limits, Program, Verdict
from stages.tasks import load_task


def run(job: Job) -> None:
    """Execute the samples of this part and commit one `Execution` per sample, in the samples' order."""
    problems_ref = Ref("problems", split=job.sampling_pass.split)
    samples_ref = Ref("samples", job.iteration, job.split)
    known = {problem.problem_id: problem for problem in job.run.read(problems_ref, Problem)}
    samples = list(job.run.read(samples_ref, Sample, job.part))
    problems = [_problem_of(sample, known) for sample in samples]
    programs = [assemble(job.spec, problem, sample) for problem, sample in zip(problems, samples, strict=True)]
    task = load_task(job.spec.task.name)
    verdicts: Iterable[Verdict | None]
    verdicts = _judge(job, programs) if task.is_program else itertools.repeat(None, len(programs))
    assessor = Assessor(job.spec, task)
    rows = [assessor.row(*each) for each in zip(problems, samples, programs, verdicts, strict=True)]
    commented = comment(job, rows, list(map(Judged, problems, samples, programs, rows)))
    outcomes = Counter(row.outcome for row in commented.rows)
    job.commit_rows(
        Ref("executions", job.iteration, job.split),
        commented.rows,
        inputs=(job.run.input(problems_ref), job.run.input(samples_ref, job.part), *commented.inputs),
        **{f"num_{outcome}": count for outcome, count in sorted(outcomes.items())},
        **commented.facts,
    )


def assemble(spec: RunSpec, problem: Problem, sample: Sample) -> Program:
    """Return the program of a sample: the solution cut and the prompt mended as the spec says."""
    solution = cut(spec.task.rule(), sample.solution)
    prompt = problem.prompt if problem.program_prompt is None else problem.program_prompt
    if spec.execute.reward_token_removal == "character_set":
        token = spec.model.tokens.as_tuple().reward(sample.reward_token)
        prompt = (token + prompt).lstrip(token) if token else prompt
    return Program(prompt, solution, problem.setup, problem.tests)


def accepted(verdict: Verdict, spec: RunSpec) -> Verdict:
    """Return the verdict, or an `infra_error` in its place where it was made behind less than the spec accepts."""
    if spec.execute.least_isolation == "beside" or verdict.isolation.endswith("-split"):
        return verdict
    return replace(verdict, outcome="infra_error", error_type=None, feedback="", exhibit=None)


def _judge(job: Job, programs: Sequence[Program]) -> Iterator[Verdict]:
    """Yield the verdicts as they come, for exhibits are not to be in memory all together."""
    execute = job.spec.execute
    # Not all processors of a cluster's node: a pod is throttled to its share, and programs would run out of time.
    workers = execute.workers or threads()
    started = time.monotonic()
    with Judge(limits=Limits.from_spec(execute), sandbox=execute.sandbox, workers=workers) as judge:
        job.counters["startup_seconds"] = time.monotonic() - started
        job.environment["sandbox"] = str(judge.description)
        started = time.monotonic()
        for verdict in judge.run(programs, lambda done: job.progress(done, len(programs), "programs")):
            yield accepted(verdict, job.spec)
    job.counters["executions"] = len(programs)
    job.counters["execute_seconds"] = time.monotonic() - started


def _problem_of(sample: Sample, problems: dict[str, Problem]) -> Problem:
    try:
        return problems[sample.problem_id]
    except KeyError:
        raise ArtifactError(f"sample of {sample.problem_id!r}: the run's problems have no such id") from None
