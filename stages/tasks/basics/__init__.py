"""The project's own problems: MBPP's kind and columns, easy enough that a model of 135M parameters solves some."""

from __future__ import annotations

from pathlib import Path

from stages.contract.errors import UsageError
from stages.contract.records import Problem
from stages.contract.spec import Split, TaskSpec
from stages.tasks import rows
from stages.tasks.mbpp import Row
from stages.tasks.task import Task


def load(spec: TaskSpec, split: Split) -> list[Problem]:
    """Return the split's problems in file order."""
    if spec.source is not None:
        raise UsageError(
            f"task.source: basics comes with leti, got {spec.source!r}; set it to null or task.name to mbpp"
        )
    found = rows.read_file(str(Path(__file__).with_name(f"{split}.jsonl")), Row, benchmark="basics", unique="task_id")
    return [row.to_problem("basics", spec.asserts_shown) for row in found]


TASK = Task(load)
