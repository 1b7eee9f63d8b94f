"""RunSpec: the one typed, frozen, hashed description of a run. People write YAML, machines write JSON.

Where the paper and its official code differ, presets choose among the fields of its `sections`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple, get_args

from pydantic import BaseModel, Field, model_validator
from pydantic.fields import FieldInfo

from stages.contract.benchmarks import benchmark_of
from stages.contract.records import RewardToken
from stages.contract.rules import first_conflict
from stages.contract.sections import (
    COMPATIBLE,
    BuildSpec,
    CutName,
    EvaluateSpec,
    ExecuteSpec,
    FeedbackSource,
    FeedbackSpec,
    GenerateSpec,
    ModelSpec,
    PretrainingSpec,
    Sampling,
    Sandbox,
    Section,
    Split,
    StopSpec,
    TaskName,
    TaskSpec,
    Tokens,
    TrainSpec,
)

__all__ = [
    "BuildSpec",
    "CutName",
    "EvaluateSpec",
    "ExecuteSpec",
    "FeedbackSource",
    "FeedbackSpec",
    "GenerateSpec",
    "ModelSpec",
    "Pass",
    "PretrainingSpec",
    "RunSpec",
    "Sampling",
    "Sandbox",
    "Section",
    "Split",
    "StopSpec",
    "TaskName",
    "TaskSpec",
    "Tokens",
    "TrainSpec",
    "diff",
    "document_digest",
    "is_compatible",
    "strip_compatible",
    "task_names",
]


class Pass(NamedTuple):
    """One sampling pass over one split; `name` is what `--split` takes and what keys carry."""

    name: str
    split: Split
    sampling: Sampling
    parts: int


class RunSpec(Section):
    """Everything that decides what a run computes."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 42
    """Root of every random choice."""
    iterations: Annotated[int, Field(ge=0, le=10_000, json_schema_extra=COMPATIBLE)] = 12
    """Rounds of generate, execute, build and train; 0 only evaluates. Compatible: a finished run can be given more,
    unless it was made with 0."""
    model: ModelSpec = ModelSpec()
    """The language model."""
    task: TaskSpec = TaskSpec()
    """The benchmark."""
    generate: GenerateSpec = GenerateSpec()
    """Sampling for training."""
    execute: ExecuteSpec = ExecuteSpec()
    """The judge."""
    feedback: FeedbackSpec = FeedbackSpec()
    """The text of failures."""
    build: BuildSpec = BuildSpec()
    """FCFT sequences."""
    pretraining: PretrainingSpec = PretrainingSpec()
    """The regularising stream."""
    train: TrainSpec = TrainSpec()
    """Optimisation."""
    evaluate: EvaluateSpec = EvaluateSpec()
    """Scoring."""
    stop: Annotated[StopSpec, Field(json_schema_extra=COMPATIBLE)] = StopSpec()
    """Early end. Compatible."""

    @model_validator(mode="after")
    def _possible(self) -> RunSpec:
        # The spec is frozen for everyone else: this is still part of its making.
        object.__setattr__(self, "evaluate", self._fitting())
        if conflict := first_conflict(self):
            raise ValueError(conflict)
        return self

    def _fitting(self) -> EvaluateSpec:
        """Return `evaluate` with defaults that suit the task's splits, where it says nothing itself."""
        said, here = self.evaluate.model_fields_set, benchmark_of(self.task.name).splits
        splits = self.evaluate.splits if "splits" in said else tuple(s for s in self.evaluate.splits if s in here)
        select_on = self.evaluate.select_on
        if "select_on" not in said:
            select_on = "validation" if "validation" in splits else "test"
        return self.evaluate.model_copy(update={"splits": splits, "select_on": select_on})

    def passes(self) -> tuple[Pass, ...]:
        """Return every sampling pass of an iteration, training first."""
        several = self.evaluate.temperatures or (self.evaluate.temperature,)
        held_out = tuple(
            Pass(
                split if len(several) == 1 else f"{split}-t{temperature:g}",
                split,
                self.evaluate.model_copy(update={"temperature": temperature, "temperatures": None}),
                self.evaluate.parts,
            )
            for split in self.evaluate.splits
            for temperature in several
        )
        return (Pass("train", "train", self.generate, self.generate.parts), *held_out)

    def get_pass(self, name: str) -> Pass:
        """Return the pass called `name`; `KeyError` when the spec has none."""
        return {one.name: one for one in self.passes()}[name]

    def trains(self) -> bool:
        """Whether anything is trained; a run of no iterations only evaluates."""
        return self.iterations > 0

    def takes_notes(self, name: str) -> bool:
        """Whether failures of the pass called `name` are given notes."""
        return self.feedback.source == "notes" and self.get_pass(name).split == "train"

    def runs_programs(self) -> bool:
        """Whether solutions are run, so that a sandbox is needed."""
        return benchmark_of(self.task.name).is_program

    def uses_pretraining(self) -> bool:
        """Whether training reads the pre-training stream."""
        return self.trains() and self.train.objective != "fcft"

    def uses_samples(self) -> bool:
        """Whether training reads FCFT examples."""
        return self.trains() and self.train.objective != "pretraining"

    def reward_token(self, iteration: int, sampling: Sampling) -> RewardToken:
        """Return what stands before the prompts: nothing for a base model, which has never seen such a token."""
        return sampling.reward_token if iteration or self.model.from_run is not None else "none"

    def to_json(self) -> str:
        """Return the resolved spec, two-space indented, keys in class order."""
        return self.model_dump_json(indent=2) + "\n"

    def digest(self) -> str:
        """Return the `document_digest` of the spec as this version writes it."""
        return document_digest(self.model_dump(mode="json"))


def document_digest(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a stored spec's fields that decide rows, as canonical JSON (sorted keys, no spaces).

    Of the document, not of the class: a spec that an earlier leti wrote keeps its digest when later ones add fields.
    """
    text = json.dumps(_strip(RunSpec, document), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def strip_compatible(section: Section) -> dict[str, Any]:
    """Return the section as JSON data without its compatible fields."""
    return _strip(type(section), section.model_dump(mode="json"))


def _strip(section: type[BaseModel], data: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in data.items():
        field = section.model_fields.get(name)
        if field is not None and is_compatible(field):
            continue
        kind = field.annotation if field is not None else None
        nested = isinstance(kind, type) and issubclass(kind, BaseModel)
        kept[name] = _strip(kind, value) if nested and isinstance(value, Mapping) else value  # type: ignore[arg-type]
    return kept


def diff(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Yield one `path: old -> new` per differing leaf of two JSON values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            yield from diff(old.get(name), new.get(name), f"{path}.{name}" if path else name)
    elif old != new:
        yield f"{path}: {old!r} -> {new!r}"


def is_compatible(field: FieldInfo) -> bool:
    """Whether a field may differ between a run and its resumption."""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("compatible"))


def task_names() -> tuple[str, ...]:
    """Return the tasks a spec may name."""
    return get_args(TaskName)
