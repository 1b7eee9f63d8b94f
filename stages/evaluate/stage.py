"""From the executions and samples of one pass to one `Metrics` row (paper sections 3.1 and 3.2, Figures 2 and 3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from stages.contract.artifacts import Ref
from stages.contract.errors import ArtifactError
from stages.contract.records import Execution, Interval, Metrics, Outcome, Problem, RewardToken, Sample
from stages.contract.spec import Pass
from stages.entrypoint import Job
from stages.evaluate.bootstrap import Bootstrap
from stages.evaluate.passk import per_problem
from stages.evaluate.shares import Shares
from stages.tasks import load_task


class Scored(NamedTuple):
    """What scoring needs of one sample and its execution."""

    problem_id: str
    reward_token: RewardToken
    outcome: Outcome
    error_type: str | None
    solution_tokens: int
    feedback_characters: int
    ended_itself: bool
    had_no_room: bool
    """The prompt alone was as long as a sequence may be."""

    @property
    def is_executable(self) -> bool:
        """Whether the program ran up to its tests (paper section 3.2)."""
        return self.outcome == "passed" or self.error_type == "AssertionError"


def evaluate(job: Job) -> None:
    """Score one pass and commit its metrics."""
    problems = Ref("problems", split=job.sampling_pass.split)
    samples = Ref("samples", job.iteration, job.split)
    executions = Ref("executions", job.iteration, job.split)
    scored = list(join(job.run.read(samples, Sample), job.run.read(executions, Execution)))
    settings = job.spec.evaluate
    metrics = score(
        scored,
        iteration=job.iteration,
        sampling_pass=job.sampling_pass,
        k=settings.k,
        resamples=settings.bootstrap_resamples,
        seed=job.seed("bootstrap"),
    )
    if own := load_task(job.spec.task.name).figures:
        shares = Shares(own, job.run.read(problems, Problem), job.run.read(executions, Execution))
        metrics = metrics.model_copy(
            update={"figures": shares.figures(settings.bootstrap_resamples, job.seed("bootstrap"))}
        )
    job.counters["samples"] = metrics.num_samples
    (output,) = job.outputs
    inputs = tuple(job.run.input(each) for each in (problems, samples, executions))
    job.commit_rows(output, [metrics], inputs=inputs)


def join(samples: Iterable[Sample], executions: Iterable[Execution]) -> Iterator[Scored]:
    """Yield every sample with its execution, in the samples' order; `ArtifactError` names a pair without a partner."""
    waiting: dict[tuple[str, int], tuple[Outcome, str | None, int]] = {}
    for row in executions:
        if (row.problem_id, row.sample) in waiting:
            raise ArtifactError(f"{_name(row)} was executed twice; delete the executions and resume")
        waiting[row.problem_id, row.sample] = (row.outcome, row.error_type, len(row.feedback))
    seen: set[tuple[str, int]] = set()
    for sample in samples:
        pair = (sample.problem_id, sample.sample)
        if pair in seen:
            raise ArtifactError(f"{_name(sample)} stands twice among the samples; delete the samples and resume")
        if pair not in waiting:
            raise ArtifactError(f"{_name(sample)} has no execution; delete the executions and resume")
        seen.add(pair)
        outcome, error_type, feedback_characters = waiting.pop(pair)
        yield Scored(
            sample.problem_id,
            sample.reward_token,
            outcome,
            error_type,
            len(sample.token_ids),
            feedback_characters,
            sample.finish_reason == "eos",
            sample.finish_reason == "length" and not sample.token_ids,
        )
    if waiting:
        problem_id, number = min(waiting)
        raise ArtifactError(
            f"problem {problem_id!r} sample {number} was executed but is not among the samples; "
            "delete the executions and resume"
        )


def score(
    rows: list[Scored], *, iteration: int, sampling_pass: Pass, k: tuple[int, ...], resamples: int, seed: int
) -> Metrics:
    """Return the metrics of a pass. Samples with an infrastructure error count as never drawn."""
    judged = [row for row in rows if row.outcome != "infra_error"]
    if not judged:
        raise ArtifactError(
            f"iteration {iteration}, pass {sampling_pass.name}: none of {len(rows)} samples has a verdict, so there "
            "is nothing to score; delete the executions and resume"
        )
    failures = [row for row in judged if row.outcome != "passed"]
    problems = {problem_id: number for number, problem_id in enumerate(sorted({row.problem_id for row in judged}))}
    numbers = np.array([problems[row.problem_id] for row in judged])
    drawn, passed, executable = (
        np.bincount(numbers, weights=flags, minlength=len(problems)).astype(np.int64)
        for flags in (None, [row.outcome == "passed" for row in judged], [row.is_executable for row in judged])
    )
    bootstrap = Bootstrap(len(problems), resamples=resamples, seed=seed)
    return Metrics(
        iteration=iteration,
        split=sampling_pass.name,
        temperature=sampling_pass.sampling.temperature,
        reward_token=_reward_token(rows),
        num_problems=len(problems),
        num_excluded_problems=len({row.problem_id for row in rows}) - len(problems),
        num_samples=len(rows),
        num_infra_errors=len(rows) - len(judged),
        pass_at_k=_pass_at_k(drawn, passed, k, bootstrap),
        solve_rate=bootstrap.interval((passed > 0).astype(np.float64)),
        executable_rate=bootstrap.interval(executable.astype(np.float64), drawn),
        error_types=_histogram(row.error_type or row.outcome for row in failures),
        outcomes=_histogram(row.outcome for row in judged),
        mean_solution_tokens=sum(row.solution_tokens for row in judged) / len(judged),
        mean_feedback_characters=sum(row.feedback_characters for row in failures) / max(1, len(failures)),
        eos_rate=sum(row.ended_itself for row in judged) / len(judged),
        num_overlong_prompts=len({row.problem_id for row in rows if row.had_no_room}),
    )


def _pass_at_k(
    drawn: np.ndarray, passed: np.ndarray, wanted: tuple[int, ...], bootstrap: Bootstrap
) -> dict[str, Interval]:
    possible = [k for k in sorted(set(wanted)) if k <= drawn.min()]
    return {str(k): bootstrap.interval(per_problem(drawn, passed, k)) for k in possible}


def _histogram(names: Iterable[str]) -> dict[str, int]:
    """Count names, most frequent first, equals by name."""
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))


def _reward_token(rows: list[Scored]) -> RewardToken:
    tokens = sorted({row.reward_token for row in rows})
    if len(tokens) > 1:
        raise ArtifactError(f"samples of one pass carry different reward tokens ({', '.join(tokens)}); start a new run")
    return tokens[0]


def _name(row: Sample | Execution) -> str:
    return f"problem {row.problem_id!r} sample {row.sample}"
