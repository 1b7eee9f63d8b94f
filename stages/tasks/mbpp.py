"""MBPP (Austin et al. 2021, arXiv 2108.07732): 974 short Python problems, each with about three asserts.

The splits are the data set's own, by `task_id`. Ids 1 to 10 are its few-shot prompts and belong to none of them.
`challenge_test_list` is not executed, as in the official code; `test_setup_code` is (the official code forgets it).
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

from stages.contract.errors import UsageError
from stages.contract.prompts import mbpp_prompt
from stages.contract.records import Problem
from stages.contract.spec import Split, TaskSpec
from stages.tasks import rows
from stages.tasks.task import Task

HUB_NAME = "google-research-datasets/mbpp"
SPLITS: dict[Split, range] = {"train": range(601, 975), "validation": range(511, 601), "test": range(11, 511)}


class Row(BaseModel):
    """A line of MBPP; columns that are not used are ignored."""

    model_config = ConfigDict(frozen=True, strict=True)

    task_id: NonNegativeInt
    text: str
    code: str
    test_list: tuple[str, ...] = Field(min_length=1)
    test_setup_code: str = ""

    def to_problem(self, task: str, asserts_shown: int) -> Problem:
        """Return the row as a problem of `task`; every assert is executed, the first few are shown."""
        return Problem(
            problem_id=f"{task}/{self.task_id}",
            prompt=mbpp_prompt(self.text, self.test_list, shown=asserts_shown),
            tests=self.test_list,
            setup=self.test_setup_code,
            reference=self.code,
        )


def load(spec: TaskSpec, split: Split) -> list[Problem]:
    """Return the split's problems by ascending `task_id`, from the hub or from `task.source`."""
    source = spec.source or HUB_NAME
    found = rows.read_source(source, Row, benchmark="MBPP", unique="task_id")
    wanted = {row.task_id: row for row in found if row.task_id in SPLITS[split]}
    if not wanted:
        ids = SPLITS[split]
        raise UsageError(
            f"task.source: {source} has no {split} problem (task_id {ids[0]} to {ids[-1]}); name MBPP's file"
        )
    return [wanted[task_id].to_problem("mbpp", spec.asserts_shown) for task_id in sorted(wanted)]


TASK = Task(load)
