"""HumanEval (Chen et al. 2021, arXiv 2107.03374): 164 functions to complete from signature and docstring.

There is one split, `test`. The program is prompt + solution, then the `test` column, then a call of its `check` on the
function. The prompt is stripped, as in the official code, so a solution begins with the newline after the docstring.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from stages.contract.errors import UsageError
from stages.contract.records import Problem
from stages.contract.spec import Split, TaskSpec
from stages.tasks import rows
from stages.tasks.task import Task

HUB_NAME = "openai/openai_humaneval"


class Row(BaseModel):
    """A line of HumanEval."""

    model_config = ConfigDict(frozen=True, strict=True)

    task_id: str
    """`HumanEval/0` and so on."""
    prompt: str = Field(min_length=1)
    entry_point: str = Field(pattern=r"^[^\W\d]\w*$")
    canonical_solution: str
    test: str = Field(pattern=r"\bdef check\(")

    def to_problem(self) -> Problem:
        """Return the row as a problem."""
        return Problem(
            problem_id=f"humaneval/{self.task_id.rpartition('/')[2]}",
            prompt=self.prompt.strip(),
            tests=(self.test, f"check({self.entry_point})"),
            reference=self.canonical_solution,
        )


def load(spec: TaskSpec, split: Split) -> list[Problem]:
    """Return HumanEval in file order, from the hub or from `task.source`."""
    if split != "test":
        raise UsageError(
            f"task.name: humaneval has only a test split, and the run asks for {split}; set iterations to 0"
        )
    source = spec.source or HUB_NAME
    return [row.to_problem() for row in rows.read_source(source, Row, benchmark="HumanEval", unique="task_id")]


TASK = Task(load)
