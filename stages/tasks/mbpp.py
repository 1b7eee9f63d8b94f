"""MBPP (Austin et al. 2021, arXiv 2108.07732): 974 short Python problems, each with about three asserts.

The splits are the data set's own, by `task_id`. Ids 1 to 10 are its few-shot prompts and belong to none of them.
`challenge_test_list` is not executed, as in the official code; `test_setup_code` is (the official code forgets it).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from stages.contract.errors import RetryableError, UsageError
from stages.contract.prompts import mbpp_prompt
from stages.contract.records import Problem, first_fault
from stages.contract.spec import Split, TaskSpec
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
    rows = read_rows(Path(source)) if Path(source).suffix in (".jsonl", ".json") else _load_dataset(source)
    wanted = {row.task_id: row for row in rows if row.task_id in SPLITS[split]}
    if not wanted:
        ids = SPLITS[split]
        raise UsageError(
            f"task.source: {source} has no {split} problem (task_id {ids[0]} to {ids[-1]}); name MBPP's file"
        )
    return [wanted[task_id].to_problem("mbpp", spec.asserts_shown) for task_id in sorted(wanted)]


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a JSONL file in MBPP's columns; `UsageError` names the file, the line and the column."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UsageError(f"task.source: cannot read {path}: {error.strerror}; name MBPP's JSONL file") from error
    return list(_parse(lines, source=str(path)))


def _parse(lines: Iterable[bytes], *, source: str) -> Iterator[Row]:
    seen: set[int] = set()
    for number, line in enumerate(lines, 1):
        try:
            row = Row.model_validate_json(line)
        except ValidationError as error:
            raise UsageError(f"{source}, line {number}: {first_fault(error)}; correct the line") from error
        if row.task_id in seen:
            raise UsageError(f"{source}, line {number}: task_id: {row.task_id} stands twice; give each problem its own")
        seen.add(row.task_id)
        yield row


def _load_dataset(name: str) -> list[Row]:
    """Return the rows of all splits of a hub data set, or of a folder that `datasets` can read."""
    import datasets

    try:
        parts = datasets.load_dataset(name)
    except (datasets.exceptions.DatasetsError, FileNotFoundError, ValueError) as error:
        raise UsageError(f"task.source: {name}: {_first_line(error)}; name a data set with MBPP's columns") from error
    except OSError as error:
        raise RetryableError(f"task.source: {name} cannot be fetched: {_first_line(error)}; or name a file") from error
    rows: list[dict[str, Any]] = [row for part in parts.values() for row in part]
    return list(_parse((json.dumps(row).encode() for row in rows), source=name))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


TASK = Task(load)
