"""What each unit of the graph does, in tokens, samples and bytes, and how many seconds that takes."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path

from leti_ctl.estimate.layout import Layout, Pool
from leti_ctl.estimate.ranges import ONE, ZERO, Range, as_range
from leti_ctl.estimate.rates import Rates
from leti_ctl.pipeline import Unit
from stages.contract.artifacts import Part
from stages.contract.errors import UsageError
from stages.contract.spec import Pass, RunSpec

MB = 1e6
BYTES = {"float32": 4, "bfloat16": 2}
MOMENT_BYTES = 8
"""AdamW's two fp32 moments per parameter."""
MASTER_BYTES = 4
"""fp32 masters, which a bf16 trainer keeps beside the weights."""


def count_parameters(source: str, rates: Rates) -> int:
    """Return the parameters of a known model or of a folder's safetensors; `UsageError` for any other."""
    if source in rates.models:
        return rates.models[source]
    files = sorted(Path(source).expanduser().glob("*.safetensors"))
    if not files:
        raise UsageError(
            f"model.source {source!r}: its size is not known here; give it with --parameters N, such as 350000000"
        )
    return sum(_count_tensors(file) for file in files)


def _count_tensors(file: Path) -> int:
    """Sum the shapes in a safetensors header: eight bytes of length, then JSON."""
    with open(file, "rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        header = json.loads(opened.read(length))
    return sum(prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


@dataclass(frozen=True)
class Work:
    """The amounts of a run, from its spec and the table."""

    spec: RunSpec
    rates: Rates
    parameters: int

    def samples(self, unit: Unit) -> int:
        """Return the samples a unit makes or reads."""
        return self._samples(self.spec.get_pass(unit.split), unit.part)

    def solution_tokens(self, one: Pass) -> Range:
        """Return the tokens of one solution."""
        return self.rates.figure("solution_share") * one.sampling.max_new_tokens

    def example_tokens(self) -> Range:
        """Return the tokens of one iteration's FCFT examples, one epoch of them."""
        if not self.spec.uses_samples():
            return ZERO
        one = self.spec.passes()[0]
        feedback = self.rates.figure("feedback_tokens") * self.rates.figure("failed_share")
        feedback = feedback if self.spec.build.textual_feedback else ZERO
        length = self.rates.figure("prompt_tokens") + self.solution_tokens(one) + feedback
        most = float(self.spec.build.max_length)
        capped = Range(min(length.low, most), min(length.likely, most), min(length.high, most))
        return capped * self._samples(one, Part())

    def steps(self) -> int:
        """Return an iteration's FCFT steps; "only pre-training" takes as many of its own."""
        per_epoch = self._samples(self.spec.passes()[0], Part()) // self.spec.train.batch_size
        return max(1, per_epoch) * self.spec.train.epochs

    def saving_seconds(self) -> Range:
        """Return what an iteration's mid-stage checkpoints take."""
        train = self.spec.train
        steps = self.steps() * (2 if train.objective == "alternate" else 1)
        saves = (steps - 1) // train.checkpoint_steps
        return _moved(saves * (self.checkpoint_bytes + self.optimizer_bytes), self)

    def train_tokens(self) -> Range:
        """Return the tokens of one iteration's steps, both streams."""
        train = self.spec.train
        blocks = (
            self.steps() * (train.pretraining_batch_size or train.batch_size) if self.spec.uses_pretraining() else 0
        )
        return self.example_tokens() * train.epochs + float(blocks * self.spec.pretraining.block_length)

    def pretraining_tokens(self) -> Range:
        """Return the tokens of the stream that is cut once per run."""
        stream = self.spec.pretraining
        if not self.spec.uses_pretraining():
            return ZERO
        tokens = self.rates.figure("tokens_per_file") * stream.num_files
        most = float(stream.max_blocks * stream.block_length) if stream.max_blocks else float("inf")
        return Range(min(tokens.low, most), min(tokens.likely, most), min(tokens.high, most))

    @property
    def checkpoint_bytes(self) -> float:
        """Bytes of the weights as stored."""
        return float(self.parameters * BYTES[self.spec.model.dtype])

    @property
    def optimizer_bytes(self) -> float:
        """Bytes of the trainer's state as stored."""
        masters = MASTER_BYTES if self.spec.train.precision == "bf16" else 0
        return float(self.parameters * (MOMENT_BYTES + masters))

    @property
    def weights_bytes(self) -> float:
        """Bytes of all checkpoints and optimizer states of the run."""
        states = self.spec.iterations if self.spec.train.keep_optimizer else 0
        return self.checkpoint_bytes * (self.spec.iterations + 1) + self.optimizer_bytes * states

    def store_bytes(self) -> Range:
        """Return what the finished run leaves in the store; every checkpoint and optimizer state is kept."""
        spec, rates = self.spec, self.rates
        kept = as_range(self.weights_bytes)
        for number, one in enumerate(spec.passes()):
            times = spec.iterations + (number > 0) if number or spec.uses_samples() else 0
            row = self.solution_tokens(one) * rates.figure("sample_bytes") + rates.figure("execution_bytes")
            kept += row * (self._samples(one, Part()) * times)
        packed = self.example_tokens() * (spec.train.epochs * spec.iterations) + self.pretraining_tokens()
        return kept + packed * rates.figure("example_bytes")

    def scratch_bytes(self) -> float:
        """Return the most a unit keeps on its own disk: a trainer's inputs, outputs and one mid-stage checkpoint."""
        return 3 * (self.checkpoint_bytes + self.optimizer_bytes) if self.spec.trains() else self.checkpoint_bytes

    def _samples(self, one: Pass, part: Part) -> int:
        if one.split == "train" and not self.spec.trains():
            return 0
        task = self.spec.task
        known = self.rates.problems.get(task.name, {})
        if one.split not in known:
            raise UsageError(f"problems has no {task.name}.{one.split}; add it with --rates FILE")
        wanted = {"train": task.train_problems, "validation": task.validation_problems, "test": task.test_problems}
        count = min(known[one.split], wanted[one.split] or known[one.split])
        return len(part.slice(count)) * one.sampling.samples_per_problem


def unit_seconds(unit: Unit, work: Work, layout: Layout) -> Range:
    """Return the seconds from a unit's pod (or process) to its end."""
    pool = layout.pool(unit)
    busy = {
        "prepare": _prepare, "generate": _generate, "execute": _execute,
        "build": _build, "train": _train, "evaluate": _evaluate,
    }[unit.stage](unit, work, pool)  # fmt: skip
    own = work.rates.figure(f"{unit.stage}_start") + busy
    repeats = work.rates.figure("spot_repeats") if pool.spot else ONE
    return own * repeats + (work.rates.figure(pool.start) if pool.start else ZERO)


def _prepare(_unit: Unit, work: Work, _pool: Pool) -> Range:
    return _moved(2 * work.checkpoint_bytes, work) + work.pretraining_tokens() / work.rates.figure("tokenize_rate")


def _generate(unit: Unit, work: Work, pool: Pool) -> Range:
    tokens = work.solution_tokens(work.spec.get_pass(unit.split)) * work.samples(unit)
    if unit.split == "train" and work.spec.generate.solutions == "reference":
        tokens = ZERO
    # One process, so one accelerator however many the pod has; on processors it uses them all.
    devices = 1 if pool.has_accelerator else pool.devices
    vllm = work.spec.generate.engine == "vllm"
    rate = work.rates.generate_rate(pool.accelerator, work.parameters, vllm=vllm) * devices
    return _moved(work.checkpoint_bytes, work) + tokens / rate


def _execute(unit: Unit, work: Work, pool: Pool) -> Range:
    spec, samples = work.spec.execute, work.samples(unit)
    side_by_side = spec.workers or pool.cores
    ran = as_range(samples) / (work.rates.figure(f"{spec.sandbox}_executions") * side_by_side)
    return ran + work.rates.figure("timed_out_share") * (samples * spec.timeout_seconds / side_by_side)


def _build(unit: Unit, work: Work, _pool: Pool) -> Range:
    return work.example_tokens() * (1 / unit.part.of) / work.rates.figure("tokenize_rate")


def _train(_unit: Unit, work: Work, pool: Pool) -> Range:
    train = work.spec.train
    rate = work.rates.train_rate(pool.accelerator, work.parameters, bf16=train.precision == "bf16")
    devices = train_devices(work.spec, pool)
    scaling = work.rates.figure("train_scaling") if devices > 1 and pool.has_accelerator else ONE
    state = work.checkpoint_bytes + work.optimizer_bytes
    moved = _moved(2 * state, work) + work.saving_seconds()
    return moved + work.train_tokens() / (rate * scaling * devices)


def _evaluate(unit: Unit, work: Work, _pool: Pool) -> Range:
    return as_range(work.samples(unit)) / work.rates.figure("row_rate")


def train_devices(spec: RunSpec, pool: Pool) -> int:
    """Return the devices that compute in training: as many as processes, and no more than there are."""
    if not pool.has_accelerator:
        return pool.devices * spec.train.nodes
    return min(spec.train.processes, pool.devices) * spec.train.nodes


def _moved(amount: float, work: Work) -> Range:
    return as_range(amount / MB) / work.rates.figure("store_rate")
