"""The training of one iteration: order of steps, loss log, checkpoints, outputs. What trains is behind `Trainer`."""

from __future__ import annotations

import hashlib
import logging
import math
import shutil
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple

from stages.contract.artifacts import Input, Ref
from stages.contract.errors import SpecError, Stopped
from stages.contract.records import StepLog, write_rows
from stages.device import count_accelerators
from stages.entrypoint import Job, Output, threads
from stages.train import launch
from stages.train.checkpoint import Checkpoints
from stages.train.data import Blocks, count_steps, read_steps
from stages.train.engine import Step, Trainer
from stages.train.plan import plan_pretraining, plan_steps

if TYPE_CHECKING:
    from stages.train.model import Start

log = logging.getLogger("leti.train")
PRETRAINING = Ref("pretraining")


class Plan(NamedTuple):
    """The steps of an iteration and how many they are."""

    steps: Iterable[Step]
    total: int


def train(job: Job) -> None:
    """Train the iteration's model and commit loss log, optimizer state and the next checkpoint."""
    if launch.needs_launch(job):
        launch.launch(job)
        return
    with launch.reporting_failure(), _asked_to_stop() as stop:
        _train(job, stop)


def _train(job: Job, stop: list[int]) -> None:
    checkpoints = Checkpoints(job.run, job.iteration)
    logged, state = _resume(job, checkpoints)
    trainer = _make_trainer(job, state)
    trainer.check_agreement(len(logged), "steps")
    trainer.check_agreement(_fingerprint(logged), "checkpoints")
    job.counters["load_seconds"] = round(time.time() - job.started, 3)
    plan = make_plan(job)
    loop = _Loop(job, trainer, checkpoints, logged, stop)
    loop.run(plan)
    _commit(job, trainer, logged)
    if trainer.rank == 0:
        checkpoints.remove()
        if job.iteration:
            # One that was killed between its last commit and this line left its checkpoints behind; where it was not
            # started again, because all of it was there, nobody has swept.
            Checkpoints(job.run, job.iteration - 1).remove()
    trainer.close()


def sweep(job: Job) -> None:
    """Remove the mid-stage checkpoints of a training that has committed: it was killed before it could."""
    Checkpoints(job.run, job.iteration).remove()


def make_plan(job: Job) -> Plan:
    """Return the iteration's steps, from the first, and their number."""
    spec, run = job.spec, job.run
    blocks = Blocks(run.paths(PRETRAINING, job.scratch)) if spec.uses_pretraining() else None
    if not spec.uses_samples():
        assert blocks is not None
        per_epoch = _fcft_steps_per_epoch(job)
        return Plan(plan_pretraining(spec.train, per_epoch, blocks), spec.train.epochs * per_epoch)
    paths = run.paths(Ref("examples", job.iteration), job.scratch)
    total = count_steps(paths) * (2 if spec.train.objective == "alternate" else 1)
    return Plan(plan_steps(spec.train, read_steps(paths), blocks), total)


def _fcft_steps_per_epoch(job: Job) -> int:
    """The steps per epoch an iteration with samples would take; "only pre-training" takes as many."""
    problems = job.run.get_index(Ref("problems", split="train")).rows
    return max(1, problems * job.spec.generate.samples_per_problem // job.spec.train.batch_size)


class _Loop:
    """Takes the steps that are left, logs each, and saves at intervals and when asked to stop."""

    def __init__(
        self, job: Job, trainer: Trainer, checkpoints: Checkpoints, logged: list[StepLog], stop: list[int]
    ) -> None:
        self.job, self.trainer, self.checkpoints = job, trainer, checkpoints
        self.logged, self.stop = logged, stop
        self.train = job.spec.train
        self.tokens, self.saving = 0, 0.0

    def run(self, plan: Plan) -> None:
        """Take every step of the plan that is not in the log yet."""
        self.started = time.perf_counter()
        for step in plan.steps:
            if step.number < len(self.logged):
                continue
            self._step(step)
            self._report(plan.total)
            self._save_if_due(plan.total)
        self.checkpoints.wait()
        self.job.counters |= self._measured()

    def _step(self, step: Step) -> None:
        loss = self.trainer.train_step(step)
        if not math.isfinite(loss):
            raise SpecError(
                f"iteration {self.job.iteration}, step {step.number} ({step.stream}): the loss is {loss}; start a run "
                f"with a lower train.learning_rate (now {self.train.learning_rate:g}) or with train.gradient_clip"
            )
        self.tokens += step.tokens
        self.logged.append(
            StepLog(
                step=step.number,
                stream=step.stream,
                loss=loss,
                num_targets=step.num_targets,
                learning_rate=self.train.learning_rate,
            )
        )

    def _report(self, total: int) -> None:
        if self.trainer.rank == 0:
            speed = self._measured()["tokens_per_second"]
            self.job.progress(len(self.logged), total, "steps", loss=self.logged[-1].loss, tokens_per_second=speed)

    def _save_if_due(self, total: int) -> None:
        done = len(self.logged)
        stopping = self.trainer.any(bool(self.stop))
        if stopping or (done < total and done % self.train.checkpoint_steps == 0):
            started = time.perf_counter()
            self._save()
            self.saving += time.perf_counter() - started
        if stopping:
            self.checkpoints.wait()
            raise Stopped(f"asked to stop after step {done} of {total}; resume goes on from there")

    def _save(self) -> None:
        self.checkpoints.wait()
        folder = self.job.scratch / f"checkpoint-{len(self.logged):06d}"
        folder.mkdir()
        self.trainer.save_state(folder, weights=True)
        if self.trainer.rank == 0:
            self.checkpoints.save_beside(folder, self.logged)
        else:
            shutil.rmtree(folder)

    def _measured(self) -> dict[str, float]:
        seconds = max(time.perf_counter() - self.started - self.saving, 1e-9)
        return {
            "tokens": self.tokens,
            "train_seconds": round(seconds, 3),
            "tokens_per_second": round(self.tokens / seconds, 1),
            "checkpoint_seconds": round(self.saving, 3),
        }


def _resume(job: Job, checkpoints: Checkpoints) -> tuple[list[StepLog], Path | None]:
    """Return the loss log and trainer state to go on from: mid-stage, of the iteration before, or nothing."""
    folder = job.scratch / "resumed"
    if (logged := checkpoints.load(folder)) is not None:
        log.info("resuming after step %d", len(logged), extra={"event": "resumed", "fields": {"steps": len(logged)}})
        return logged, folder
    if job.iteration and job.spec.train.keep_optimizer:
        return [], job.run.fetch(Ref("optimizer", job.iteration), job.scratch)
    return [], None


def _fingerprint(logged: list[StepLog]) -> int:
    """Return a number that tells two trainers' logs apart, small enough for a float to hold it."""
    return int.from_bytes(hashlib.sha256(b"".join(write_rows(logged))).digest()[:6])


def _make_trainer(job: Job, state: Path | None) -> Trainer:
    """Start the engine that the spec names; imported here because that takes seconds and launching needs none of it."""
    import torch

    from stages.train.model import Start

    torch.set_num_threads(threads(job.spec.train.processes))
    torch.manual_seed(job.seed("train"))
    folder = job.run.fetch(Ref("checkpoint", job.iteration), job.scratch)
    trainer = _load_trainer(job, Start(folder, state, job.spec.model.dtype))
    if trainer.rank:
        logging.getLogger("leti").setLevel(logging.WARNING)
    job.environment |= {"torch": torch.__version__, "device": str(trainer.device)}
    job.counters["accelerators"] = float(count_accelerators() * job.spec.train.nodes)
    return trainer


def _load_trainer(job: Job, start: Start) -> Trainer:
    if job.spec.train.engine == "torch":
        from stages.train.plain import TorchTrainer
        from stages.train.static import shape_of

        return TorchTrainer(start, job.spec.train, shape_of(job.spec), job.scratch)
    from stages.train.deepspeed import DeepSpeedTrainer

    return DeepSpeedTrainer(start, job.spec.train, job.scratch)


def _commit(job: Job, trainer: Trainer, logged: list[StepLog]) -> None:
    """Commit the outputs together, in the order of `job.outputs`; every process gathers, the first writes."""
    for ref in job.outputs:
        folder = job.scratch / f"output-{ref.artifact}"
        folder.mkdir()
        if ref.artifact == "optimizer":
            trainer.save_state(folder, weights=job.spec.model.dtype != "float32")
        elif ref.artifact == "checkpoint":
            _copy_all_but_weights(job.run.fetch(Ref("checkpoint", job.iteration), job.scratch), folder)
            trainer.save_model(folder)
    if trainer.rank == 0:
        job.commit_together(list(_outputs(job, logged)))


def _outputs(job: Job, logged: list[StepLog]) -> Iterator[Output]:
    lineage = _lineage(job)
    for ref in job.outputs:
        folder = job.scratch / f"output-{ref.artifact}"
        if ref.artifact == "steps":
            tokens = sum(row.num_targets for row in logged)
            yield job.row_output(ref, logged, inputs=lineage, targets=tokens)
        else:
            yield job.folder_output(ref, folder, inputs=lineage, steps=len(logged))


def _lineage(job: Job) -> tuple[Input, ...]:
    refs = [Ref("checkpoint", job.iteration)]
    refs += [Ref("examples", job.iteration)] if job.spec.uses_samples() else []
    refs += [PRETRAINING] if job.spec.uses_pretraining() else []
    refs += [Ref("optimizer", job.iteration)] if job.iteration and job.spec.train.keep_optimizer else []
    return tuple(job.run.input(ref) for ref in refs)


def _copy_all_but_weights(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")):
        if path.is_file() and not path.name.endswith((".safetensors", ".bin", ".index.json")):
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)


@contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """Collect SIGTERM for the end of the current step, where a checkpoint is whole; a second one stops at once."""
    asked: list[int] = []
    before = signal.getsignal(signal.SIGTERM)

    def remember(number: int, frame: FrameType | None) -> None:
        if asked and callable(before):
            before(number, frame)
        asked.append(number)

    signal.signal(signal.SIGTERM, remember)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)
