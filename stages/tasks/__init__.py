"""One module per benchmark. A task turns its data set's rows into `Problem`s; the name in the spec is the module's.

Adding a task is one module that defines `TASK`, and its name in `spec.TaskName`.
"""

from __future__ import annotations

from importlib import import_module

from stages.contract.records import Problem
from stages.contract.spec import Split, TaskName, TaskSpec
from stages.tasks.task import Task


def load_task(name: TaskName) -> Task:
    """Return the task of that name."""
    task: Task = import_module(f"stages.tasks.{name}").TASK
    return task


def load_problems(spec: TaskSpec, split: Split) -> list[Problem]:
    """Return the problems of a split, in file order, cut to the number the spec asks for."""
    problems = load_task(spec.name).load(spec, split)
    wanted = {"train": spec.train_problems, "validation": spec.validation_problems, "test": spec.test_problems}
    return problems[: wanted[split]]
