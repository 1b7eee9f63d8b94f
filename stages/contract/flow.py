"""What each stage reads and writes, and into how many parts its work is divided: the graph, seen from the artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from stages.contract.artifacts import ARTIFACTS, Part, Ref, parse_ref
from stages.contract.spec import RunSpec

StageName = Literal["prepare", "generate", "execute", "build", "train", "evaluate"]


class StageContract(NamedTuple):
    """What a stage reads and writes; the graph, the entry point and the audit read this table."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    per: Literal["run", "iteration", "pass"]
    fans_out: bool


STAGES: Mapping[StageName, StageContract] = {
    "prepare": StageContract((), ("problems", "pretraining", "checkpoint"), "run", False),
    "generate": StageContract(("problems", "checkpoint"), ("samples",), "pass", True),
    "execute": StageContract(("problems", "samples"), ("notes", "executions"), "pass", True),
    "build": StageContract(("problems", "samples", "executions", "checkpoint"), ("examples",), "iteration", True),
    "train": StageContract(
        ("examples", "pretraining", "checkpoint", "optimizer"), ("steps", "optimizer", "checkpoint"), "iteration", False
    ),
    "evaluate": StageContract(("problems", "samples", "executions"), ("metrics",), "pass", False),
}


def division(stage: StageName, spec: RunSpec, split: str) -> int:
    """Return how many parts a stage's work is divided into; `KeyError` for a pass that the spec does not have."""
    if not STAGES[stage].fans_out:
        return 1
    return spec.build.parts if stage == "build" else spec.get_pass(split).parts


def parts_of(ref: Ref, spec: RunSpec) -> int:
    """Return how many parts the spec divides an artifact into."""
    makes = next(name for name, contract in STAGES.items() if ref.artifact in contract.outputs)
    try:
        return division(makes, spec, ref.split or "train")
    except KeyError:  # a pass that this spec does not have
        return 1


def outputs(stage: StageName, spec: RunSpec, *, iteration: int, split: str) -> tuple[Ref, ...]:
    """Return what one unit of a stage commits, the one that means "done" last.

    `train` writes the model of the *next* iteration, so its checkpoint and optimizer carry `iteration + 1`.
    """
    if stage == "prepare":
        splits = (*(("train",) if spec.trains() else ()), *spec.evaluate.splits)
        stream = (Ref("pretraining"),) if spec.uses_pretraining() else ()
        return (*(Ref("problems", split=name) for name in splits), *stream, Ref("checkpoint", 0))
    if stage == "train":
        state = (Ref("optimizer", iteration + 1),) if spec.train.keep_optimizer else ()
        return (Ref("steps", iteration), *state, Ref("checkpoint", iteration + 1))
    coordinates = {"iteration": iteration, "split": split}
    return tuple(
        Ref(name, **{key: coordinates[key] for key in ARTIFACTS[name].coordinates})  # type: ignore[arg-type]
        for name in STAGES[stage].outputs
        if name != "notes" or spec.takes_notes(split)
    )


def inputs(stage: StageName, spec: RunSpec, *, iteration: int, split: str, part: Part | None = None) -> tuple[str, ...]:
    """Return what one unit of a stage reads, spelled as `Input.ref` is; `prepare` at most another run's checkpoint."""
    if stage == "prepare":
        origin = find_origin(spec)
        return (str(origin),) if origin else ()
    checkpoint = str(Ref("checkpoint", iteration))
    samples, executions = (str(Ref(name, iteration, split)) for name in ("samples", "executions"))
    if stage == "train":
        state = (str(Ref("optimizer", iteration)),) if iteration and spec.train.keep_optimizer else ()
        examples = (str(Ref("examples", iteration)),) if spec.uses_samples() else ()
        return (checkpoint, *examples, *(("pretraining",) if spec.uses_pretraining() else ()), *state)
    problems = str(Ref("problems", split=spec.get_pass(split).split))
    if stage == "evaluate":
        return (problems, samples, executions)
    if stage == "build":
        return (problems, samples, executions, checkpoint)
    if stage == "generate":
        return (problems, checkpoint)
    each = ("samples", "notes") if spec.takes_notes(split) else ("samples",)
    return (problems, *(f"{Ref(name, iteration, split)}#{part or Part()}" for name in each))


class Origin(NamedTuple):
    """A checkpoint of another run of the same store, spelled in lineage as `runs/NAME/iterations/0006/checkpoint`."""

    run: str
    ref: Ref

    def __str__(self) -> str:
        return f"runs/{self.run}/{self.ref}"


def find_origin(spec: RunSpec) -> Origin | None:
    """Return what a run starts from in place of a base model, or None; an iteration left open counts as the first."""
    if spec.model.from_run is None:
        return None
    return Origin(spec.model.from_run, Ref("checkpoint", spec.model.from_iteration or 0))


def parse_origin(text: str) -> Origin | None:
    """Return what `str(origin)` spells; None for anything else."""
    marker, _, rest = text.partition("/")
    name, _, place = rest.partition("/")
    named = parse_ref(place) if marker == "runs" and name not in ("", ".", "..") else None
    return Origin(name, named[0]) if named and named[0].artifact == "checkpoint" and named[1] is None else None
