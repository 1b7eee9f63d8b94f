"""A run that starts from another run's checkpoint: what must hold of the two, asked at submit and again by `prepare`.

Runs do not wait for each other. What is missing now is therefore an error of whoever submitted too early, and no
retry of the same pod would cure it.
"""

from __future__ import annotations

from typing import NamedTuple

from pydantic import BaseModel

from stages.contract.artifacts import Index, Input, Ref
from stages.contract.errors import ArtifactError, SpecError
from stages.contract.flow import Origin
from stages.contract.run import Run
from stages.contract.spec import ModelSpec, RunSpec
from stages.contract.store import Store

TAKEN_OVER = ("source", "revision", "tokens", "new_token_embeddings", "dtype")
"""Fields of `model` that are the other run's where `from_run` names one."""


class Found(NamedTuple):
    """The checkpoint that a run starts from, where it lies."""

    run: Run
    ref: Ref
    held: Index

    def input(self) -> Input:
        """Return the lineage entry."""
        return Input(ref=str(Origin(self.run.name, self.ref)), sha256=self.held.digest())


def find_checkpoint(store: Store, model: ModelSpec) -> Found:
    """Return the checkpoint that `model.from_run` and `model.from_iteration` name.

    Raises `UsageError` when the store has no such run, `ArtifactError` when the run has no such checkpoint, or none
    any more, and `SpecError` when it is another model than the spec describes.
    """
    if model.from_run is None or model.from_iteration is None:
        raise SpecError(
            f"model.from_iteration: {model.from_iteration} of model.from_run {model.from_run!r}; set the number of an "
            "iteration, or submit with leti-ctl, which looks up the best"
        )
    run, ref = Run(store, model.from_run), Ref("checkpoint", model.from_iteration)
    check_fields(model, run.spec.model, run.name)
    index = run.find_index(ref)
    if index is None:
        raise ArtifactError(
            f"model.from_iteration: run {run.name} has no checkpoint {ref.iteration}, only {committed(run)}; runs do "
            "not wait for each other, so submit or resume this one when that one has trained so far"
        )
    if gone := next((item.key for item in index.objects if store.size(run.key(item.key)) is None), None):
        raise ArtifactError(
            f"model.from_iteration: checkpoint {ref.iteration} of run {run.name} is no longer whole: {gone} was "
            "removed; choose another iteration"
        )
    return Found(run, ref, index)


def check_fields(model: ModelSpec, other: ModelSpec, name: str) -> None:
    """Raise `SpecError` for the first field that describes another model than run `name` has."""
    for field in TAKEN_OVER:
        here, there = getattr(model, field), getattr(other, field)
        if here != there:
            raise SpecError(
                f"model.{field}: {_spell(here)}, but the checkpoint of run {name} was made with {_spell(there)}; "
                "leave the field out, or set it to that"
            )


def committed(run: Run) -> str:
    """Return the checkpoints that a run has, in words."""
    start = len(run.key("iterations/"))
    keys = [key[start:] for key in run.store.list(run.key("iterations/")) if "/checkpoint/parts/" in key]
    return ", ".join(str(number) for number in sorted({int(key.partition("/")[0]) for key in keys})) or "none"


def complete(spec: RunSpec, other: RunSpec, iteration: int) -> RunSpec:
    """Return `spec` with the other run's model where it says nothing of its own, and the iteration to start from."""
    said = spec.model.model_fields_set & set(TAKEN_OVER)
    taken = {field: getattr(other.model, field) for field in TAKEN_OVER if field not in said}
    return spec.model_copy(update={"model": spec.model.model_copy(update={**taken, "from_iteration": iteration})})


def _spell(value: object) -> str:
    return str(value.model_dump()) if isinstance(value, BaseModel) else repr(value)
