"""Rows of Parquet artifacts, each file verified before it is read: packed training rows, and blocks of the stream."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from stages.contract.artifacts import DataObject
from stages.contract.errors import ArtifactError
from stages.contract.records import Block, PackedRow
from stages.contract.run import Run
from stages.contract.transfer import download


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
