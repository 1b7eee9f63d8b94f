"""Finished runs whose curves look like curves: solutions drawn from a model that learns on paper, judged for real.

Samples and training are played, with a clock that is played too; judging, building and scoring are the stages' own.
"""

from __future__ import annotations

import json
import math
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from leti_ctl.inventory.parquet import packed_in
from leti_ctl.pipeline import Unit, plan
from stages.build.stage import build
from stages.contract.artifacts import Input, Made, Ref, parse_ref
from stages.contract.flow import inputs
from stages.contract.records import Problem, Sample, StepLog
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import LocalStore
from stages.entrypoint import Job
from stages.evaluate.stage import evaluate
from stages.execute.stage import run as execute
from stages.generate.codec import Codec
from tests.models import make_tokenizer

WORLD = (Input(ref="made by a test", sha256="0" * 64),)
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC).timestamp()
SECONDS = {"prepare": 60.0, "generate": 300.0, "execute": 45.0, "build": 20.0, "train": 540.0, "evaluate": 6.0}


@dataclass(frozen=True)
class Scene:
    """A run to be played."""

    name: str = "textual"
    iterations: int = 4
    problems: int = 4
    samples: int = 4
    parts: int = 1
    reach: float = 0.35
    """Share of right solutions that the last iteration gets near to."""
    seed: int = 42
    changes: dict[str, Any] = field(default_factory=dict)
    """Further sections of the spec."""

    def ks(self) -> list[int]:
        """Return the k of pass@k."""
        return sorted({1, self.samples // 2, self.samples})

    def spec(self) -> RunSpec:
        """Return the run's spec."""
        sampled = {"samples_per_problem": self.samples, "parts": self.parts}
        data: dict[str, Any] = {
            "iterations": self.iterations,
            "seed": self.seed,
            "generate": sampled,
            "execute": {"sandbox": "process", "workers": 1},
            "build": {"max_length": 512, "pack_length": 512},
            "train": {"objective": "fcft", "epochs": 1, "batch_size": self.samples, "micro_batch_tokens": 1024},
            "evaluate": {
                "splits": ["test"],
                **sampled,
                "k": sorted({1, self.samples // 2, self.samples}),
                "bootstrap_resamples": 100,
            },
        }
        for name, section in self.changes.items():
            data[name] = {**data.get(name, {}), **section} if isinstance(section, dict) else section
        return RunSpec.model_validate_json(json.dumps(data))


class PlayedJob(Job):
    """A job with a clock of its own, so that a run of hours is made in seconds."""

    played: tuple[float, float] = (0.0, 0.0)

    def made(self) -> Made:
        """Return what the stage measured, at the time that was played."""
        start, seconds = self.played
        at = datetime.fromtimestamp(NOON + start, UTC).isoformat(timespec="seconds")
        return super().made().model_copy(update={"started_at": at, "seconds": seconds, "host": "node-a"})


def play(folder: Path, scene: Scene) -> Run:
    """Make the scene's run in `folder/store`, every unit of it in graph order."""
    run = Run(LocalStore(folder / "store"), scene.name)
    run.create(scene.spec())
    clock = _Clock()
    whole = plan(run.spec)
    for unit in whole.units:
        scratch = Path(tempfile.mkdtemp(prefix=unit.id, dir=folder))
        job = PlayedJob(run, unit.stage, unit.iteration, unit.split, unit.part, scratch)
        job.played = clock.take(unit, whole.after[unit])
        _work(job, scene)
    return run


class _Clock:
    """Units start when what they wait for has ended and, where they need an accelerator, one of two is free."""

    def __init__(self) -> None:
        self.ends: dict[Unit, float] = {}
        self.free = [0.0, 0.0]
        self.random = random.Random(7)

    def take(self, unit: Unit, after: tuple[Unit, ...]) -> tuple[float, float]:
        """Return the unit's start and seconds."""
        seconds = round(SECONDS[unit.stage] / unit.part.of * self.random.uniform(0.8, 1.2), 1)
        start = math.ceil(max((self.ends[each] for each in after), default=0.0))
        if unit.load == "accelerator":
            place = self.free.index(min(self.free))
            start = math.ceil(max(start, self.free[place]))
            self.free[place] = start + seconds
        self.ends[unit] = start + seconds
        return float(start), seconds


def _work(job: Job, scene: Scene) -> None:
    if job.stage == "prepare":
        _prepare(job, scene)
    elif job.stage == "generate":
        _generate(job, scene)
    elif job.stage == "train":
        _train(job, scene)
    else:
        {"execute": execute, "build": build, "evaluate": evaluate}[job.stage](job)


def _prepare(job: Job, scene: Scene) -> None:
    for ref in job.outputs[:-1]:
        if ref.artifact == "problems":
            job.commit_rows(ref, [_problem(str(ref.split), number) for number in range(scene.problems)], inputs=WORLD)
    _commit_model(job, WORLD)


def _problem(split: str, number: int) -> Problem:
    tests = tuple(f"assert f({x}) == {x * x + number + 20}" for x in (5, 6, 7))
    return Problem(
        problem_id=f"{split}/{number}",
        prompt=f'"""\nReturn the square of x plus {number + 20}.\n{tests[0]}\n"""',
        tests=tests,
    )


def _generate(job: Job, scene: Scene) -> None:
    one = job.sampling_pass
    problems = list(job.run.read(Ref("problems", split=one.split), Problem))
    share = [problems[index] for index in job.part.slice(len(problems))]
    codec = Codec(job.run.fetch(Ref("checkpoint", job.iteration), job.scratch))
    rows = [row for problem in share for row in _samples(job, scene, problem, codec)]
    tokens = sum(len(row.token_ids) for row in rows)
    seconds = SECONDS["generate"] / job.part.of * 0.9
    job.counters |= {"samples": len(rows), "tokens": tokens * 50, "generate_seconds": seconds, "accelerators": 1.0}
    job.commit_rows(job.outputs[0], rows, inputs=tuple(map(job.run.input, (
        Ref("problems", split=one.split), Ref("checkpoint", job.iteration)
    ))))  # fmt: skip


def _samples(job: Job, scene: Scene, problem: Problem, codec: Codec) -> Iterator[Sample]:
    chance = random.Random(f"{scene.name} {job.iteration} {job.split} {problem.problem_id} {scene.seed}")
    progress = 1 - math.exp(-3 * job.iteration / max(1, scene.iterations))
    hard = int(problem.problem_id.partition("/")[2]) / scene.problems
    for number in range(job.sampling_pass.sampling.samples_per_problem):
        text = _solution(chance, progress, scene.reach * (1.6 - 1.2 * hard), problem)
        ended = chance.random() < 0.15 + 0.8 * progress
        text += "" if ended else "\n# and so on" * chance.randrange(1, 12)
        yield Sample(
            problem_id=problem.problem_id,
            sample=number,
            reward_token="none" if job.iteration == 0 else "good",
            solution=text,
            token_ids=tuple(codec.encode(text)),
            finish_reason="eos" if ended else "length",
            num_prompt_tokens=40,
            seed=job.seed("sample", problem.problem_id, number),
        )


def _solution(chance: random.Random, progress: float, reach: float, problem: Problem) -> str:
    """A right or wrong program; which mistakes are made changes with progress, as in the paper's Figure 3."""
    plus = int(problem.problem_id.partition("/")[2]) + 20
    name = chance.choice(("x", "n", "value", "number", "k"))
    wrong = {
        f"def f({name}):\n    return {name} * {name} + {plus} - {chance.randrange(1, 9)}": 0.15 + 0.4 * progress,
        f"def f({name}:\n    return {name}": 0.62 * (1 - progress) + 0.05,
        f"def f({name}):\nreturn {name}": 0.06 * (1 - progress) + 0.02,
        f"def f({name}):\n    return square({name}) + {plus}": 0.1 * (1 - progress) + 0.01,
        f"def f({name}):\n    return {name} + '{plus}'": 0.05,
        f"def f({name}):\n    return [{plus}][{name}]": 0.03,
        f"import sys\ndef f({name}):\n    sys.exit({chance.randrange(3)})": 0.04 * progress,
    }
    if chance.random() < 0.045 + (reach - 0.045) * progress:
        return _right(chance, progress, name, plus)
    return "\n" + chance.choices(list(wrong), list(wrong.values()))[0]


def _right(chance: random.Random, progress: float, name: str, plus: int) -> str:
    if chance.random() < 0.08 * progress:
        table = {x: x * x + plus for x in (5, 6, 7)}
        return f"\ndef f({name}):\n    return {table}[{name}]"
    form = chance.choice((f"{name} * {name} + {plus}", f"{name} ** 2 + {plus}", f"{plus} + pow({name}, 2)"))
    return f"\ndef f({name}):\n    return {form}"


def _train(job: Job, scene: Scene) -> None:
    """Log steps whose losses fall, and pass the checkpoint on with other weights."""
    wanted = inputs("train", job.spec, iteration=job.iteration, split="train")
    lineage = tuple(job.run.input(found[0]) for text in wanted if (found := parse_ref(text)))
    chance = random.Random(f"{scene.name} {job.iteration} {scene.seed}")
    before = job.iteration * scene.problems
    targets: Counter[int] = Counter()
    for row in packed_in(job.run, job.run.get_index(Ref("examples", job.iteration)).objects):
        targets[row.step] += sum(row.loss_mask)
    steps = [_step(before + number, number, targets[number], chance) for number in sorted(targets)]
    tokens = sum(step.num_targets for step in steps)
    job.counters |= {"tokens": tokens * 50, "train_seconds": SECONDS["train"] * 0.9, "accelerators": 1.0}
    job.commit_rows(job.outputs[0], steps, inputs=lineage, targets=tokens)
    state = job.scratch / "state"
    state.mkdir()
    (state / "state.json").write_text("{}")
    job.commit_folder(job.outputs[1], state, inputs=lineage)
    _commit_model(job, lineage, steps=len(steps))


def _step(count: int, number: int, targets: int, chance: random.Random) -> StepLog:
    loss = 0.9 + 1.6 * math.exp(-count / 60) + chance.gauss(0, 0.05)
    return StepLog(step=number, stream="fcft", loss=loss, num_targets=targets, learning_rate=1e-5)


def _commit_model(job: Job, lineage: tuple[Input, ...], **facts: int) -> None:
    model = job.scratch / "model"
    make_tokenizer(model)
    (model / "config.json").write_text('{"eos_token_id": 0}')
    (model / "model.safetensors").write_bytes(f"{job.iteration} {job.stage}".encode() * 100)
    job.commit_folder(job.outputs[-1], model, inputs=lineage, **facts)
