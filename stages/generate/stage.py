"""From problems and a checkpoint to one part of a sampling pass, rows in problem order, then sample order."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from time import perf_counter

from stages.contract.artifacts import Ref
from stages.contract.records import Problem, RewardToken, Sample
from stages.entrypoint import Job
from stages.generate.engine import Completed, Engine, Request, load_engine
from stages.generate.reference import FILES, ReferenceEngine

log = logging.getLogger("leti")


def generate(job: Job) -> None:
    """Sample the part's share of the pass's problems and commit the samples."""
    sampling = job.sampling_pass.sampling
    problems_ref = Ref("problems", split=job.sampling_pass.split)
    checkpoint_ref = Ref("checkpoint", job.iteration)
    problems = list(job.run.read(problems_ref, Problem))
    share = [problems[index] for index in job.part.slice(len(problems))]
    token = job.spec.reward_token(job.iteration, sampling)
    spelled = job.spec.model.tokens.as_tuple().reward(token)
    requests = [_request(job, problem, spelled, sampling.samples_per_problem) for problem in share]

    engine = _engine(job, share)
    log.info("%d problems, %d samples each", len(share), sampling.samples_per_problem)
    clock = _Clock(job, total=len(requests) * sampling.samples_per_problem)
    completed = list(engine.generate(requests, sampling, clock.tick))
    job.counters |= {**engine.counters, **clock.counters()}
    inputs = (job.run.input(problems_ref), job.run.input(checkpoint_ref))
    job.commit_rows(job.outputs[0], _rows(requests, completed, token), inputs=inputs)


def _engine(job: Job, share: Sequence[Problem]) -> Engine:
    """Return what answers: the checkpoint's model, or in the training pass the data set itself if the spec says so."""
    ref = Ref("checkpoint", job.iteration)
    if job.sampling_pass.split == "train" and job.spec.generate.solutions == "reference":
        return ReferenceEngine(share, job.run.fetch(ref, job.scratch, only=FILES))
    return load_engine(job.spec, job.run.fetch(ref, job.scratch))


def _request(job: Job, problem: Problem, spelled: str, samples: int) -> Request:
    seeds = tuple(job.seed("sample", problem.problem_id, number) for number in range(samples))
    return Request(problem.problem_id, problem.prompt, spelled, seeds)


def _rows(requests: Sequence[Request], completed: Sequence[Completed], token: RewardToken) -> Iterator[Sample]:
    for request, answer in zip(requests, completed, strict=True):
        for number, (seed, one) in enumerate(zip(request.seeds, answer.completions, strict=True)):
            yield Sample(
                problem_id=request.problem_id,
                sample=number,
                reward_token=token,
                solution=one.text,
                token_ids=one.token_ids,
                finish_reason=one.finish_reason,
                num_prompt_tokens=answer.num_prompt_tokens,
                seed=seed,
            )


class _Clock:
    """Reports progress while the engine works and says afterwards how fast it was."""

    def __init__(self, job: Job, total: int) -> None:
        self.job, self.total, self.started = job, total, perf_counter()
        self.samples = self.tokens = 0

    def tick(self, samples: int, tokens: int) -> None:
        """Note how far the engine is."""
        self.samples, self.tokens = samples, tokens
        self.job.progress(samples, self.total, "samples", tokens_per_second=round(tokens / self._seconds(), 1))

    def counters(self) -> dict[str, float]:
        """Return what was measured: `tokens` and the seconds they took, without loading the model."""
        seconds = self._seconds()
        rate = round(self.tokens / seconds, 1)
        return {"samples": self.samples, "tokens": self.tokens, "generate_seconds": seconds, "tokens_per_second": rate}

    def _seconds(self) -> float:
        return max(perf_counter() - self.started, 1e-9)
