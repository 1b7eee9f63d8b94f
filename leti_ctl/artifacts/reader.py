"""Reading samples beside their executions, as a person inspects them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from leti_ctl import control
from stages.contract.artifacts import DataObject, Ref
from stages.contract.cuts import cut
from stages.contract.errors import ArtifactError, UsageError
from stages.contract.records import Block, Execution, PackedRow, Problem, Sample
from stages.contract.run import Run
from stages.contract.spec import Pass
from stages.contract.transfer import download


class Filter(NamedTuple):
    """Which samples to read; None matches all. `outcome` is an outcome or an error type."""

    iteration: int
    split: str
    problem: str | None = None
    outcome: str | None = None
    limit: int = 5


def read_samples(run: Run, wanted: Filter) -> list[dict[str, Any]]:
    """Return the first samples that match, each with its prompt, solution, verdict and feedback.

    Samples that are not executed yet have null verdicts, so that a running iteration can be read too.
    """
    one = _pass(run, wanted.split)
    prompts = {problem.problem_id: problem for problem in run.read(Ref("problems", split=one.split), Problem)}
    if wanted.problem and wanted.problem not in prompts:
        raise UsageError(f"--problem {wanted.problem!r}: split {one.split} has no such problem, but {_some(prompts)}")
    executions = _executions(run, wanted)
    found: list[dict[str, Any]] = []
    for sample in _samples(run, wanted):
        execution = executions.get((sample.problem_id, sample.sample))
        row = _row(sample, execution, prompts[sample.problem_id], run.spec.task.rule())
        if _matches(row, wanted):
            found.append(row)
        if len(found) == wanted.limit:
            break
    return found


def _pass(run: Run, name: str) -> Pass:
    passes = {one.name: one for one in control.current_spec(run).passes()}
    if name not in passes:
        raise UsageError(f"--split {name!r}: this run has {', '.join(passes)}")
    return passes[name]


def _samples(run: Run, wanted: Filter) -> list[Sample]:
    ref = Ref("samples", wanted.iteration, wanted.split)
    if run.find_index(ref) is None:
        raise UsageError(f"run {run.name}: no complete samples for iteration {wanted.iteration}, split {wanted.split}")
    return list(run.read(ref, Sample))


def _executions(run: Run, wanted: Filter) -> dict[tuple[str, int], Execution]:
    ref = Ref("executions", wanted.iteration, wanted.split)
    if run.find_index(ref) is None:
        return {}
    return {(row.problem_id, row.sample): row for row in run.read(ref, Execution)}


def _row(sample: Sample, execution: Execution | None, problem: Problem, how: str) -> dict[str, Any]:
    """`how` is the spec's `task.rule()`: `executed` is what that left of the solution."""
    return {
        "problem_id": sample.problem_id,
        "sample": sample.sample,
        "reward_token": sample.reward_token,
        "prompt": problem.prompt,
        "solution": sample.solution,
        "executed": cut(how, sample.solution),
        "finish_reason": sample.finish_reason,
        "tokens": len(sample.token_ids),
        "outcome": execution.outcome if execution else None,
        "error_type": execution.error_type if execution else None,
        "isolation": execution.isolation if execution else None,
        "feedback": execution.feedback if execution else None,
    }


def _matches(row: dict[str, Any], wanted: Filter) -> bool:
    if wanted.problem and row["problem_id"] != wanted.problem:
        return False
    return wanted.outcome is None or wanted.outcome in (row["outcome"], row["error_type"])


def _some(names: dict[str, Problem]) -> str:
    shown = list(names)[:3]
    return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def packed_rows(run: Run, ref: Ref) -> Iterator[PackedRow]:
    """Yield the rows of an iteration's examples, in training order, one object at a time."""
    yield from packed_in(run, run.get_index(ref).objects)


def packed_in(run: Run, objects: Iterable[DataObject]) -> Iterator[PackedRow]:
    """Yield the packed rows of some objects, in order, one object at a time, verified before it is read."""
    for row in _parquet(run, objects):
        yield _packed(row)


def blocks(run: Run, objects: Iterable[DataObject]) -> Iterator[Block]:
    """Yield the blocks of the pre-training stream in some objects, in order."""
    for row in _parquet(run, objects):
        yield Block(block=row["block"], input_ids=tuple(row["input_ids"]))


def _parquet(run: Run, objects: Iterable[DataObject]) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    for item in objects:
        with tempfile.TemporaryDirectory(prefix="leti-rows-", dir=scratch_folder()) as folder:
            path = Path(folder) / "rows.parquet"
            download(run.store, run.key(item.key), item, path, ArtifactError)
            for batch in pq.ParquetFile(path).iter_batches(batch_size=64):
                yield from batch.to_pylist()


def packed_row(path: Path, number: int) -> PackedRow:
    """Return one row of a file of packed rows, reading only the row group that has it; `IndexError` past the end."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        if number < count:
            return _packed(file.read_row_group(group).slice(number, 1).to_pylist()[0])
        number -= count
    raise IndexError(number)


def packed_sources(path: Path) -> Iterator[tuple[int, list[tuple[str, int]]]]:
    """Yield each row's step and the (problem, sample) pairs of its examples; the columns of token ids stay unread."""
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(path).iter_batches(columns=["step", "problem_ids", "samples"]):
        columns = (batch.column(name).to_pylist() for name in ("step", "problem_ids", "samples"))
        for step, problems, samples in zip(*columns, strict=True):
            yield step, list(zip(problems, samples, strict=True))


def scratch_folder() -> str | None:
    """Return where temporary files go, None for the machine's own place."""
    return os.environ.get("LETI_SCRATCH")


def _packed(row: dict[str, Any]) -> PackedRow:
    return PackedRow.model_validate({name: tuple_of(value) for name, value in row.items()})


def tuple_of(value: Any) -> Any:
    """Return lists as tuples, which is what records hold."""
    return tuple(value) if isinstance(value, list) else value
