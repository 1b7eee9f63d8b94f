"""`PackedRow`s as Parquet: plain list columns that `datasets.load_dataset("parquet")` and pyarrow read as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.build.sequence import Example
from stages.contract.records import PackedRow

ROW_GROUP = 512
"""Packed rows per row group: about a million tokens at the default pack length."""
SCHEMA = pa.schema(
    [
        ("epoch", pa.int32()),
        ("step", pa.int32()),
        ("input_ids", pa.list_(pa.int32())),
        ("lengths", pa.list_(pa.int32())),
        ("loss_mask", pa.list_(pa.int8())),
        ("problem_ids", pa.list_(pa.string())),
        ("samples", pa.list_(pa.int32())),
    ]
)
assert SCHEMA.names == list(PackedRow.model_fields)


class Row(NamedTuple):
    """One packed row, before it is laid out in columns."""

    epoch: int
    step: int
    examples: tuple[Example, ...]


def write_rows(path: Path, rows: Iterable[Row]) -> int:
    """Write the rows and return their number. Equal rows give equal bytes; memory holds one row group."""
    iterator, count = iter(rows), 0
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        while group := list(islice(iterator, ROW_GROUP)):
            writer.write_batch(_columns(group))
            count += len(group)
    return count


def _columns(rows: list[Row]) -> pa.RecordBatch:
    columns = [
        pa.array([row.epoch for row in rows], pa.int32()),
        pa.array([row.step for row in rows], pa.int32()),
        _lists(([example.ids for example in row.examples] for row in rows), pa.int32()),
        pa.array([[len(example.ids) for example in row.examples] for row in rows], pa.list_(pa.int32())),
        _lists(([_mask(example) for example in row.examples] for row in rows), pa.int8()),
        pa.array([[example.problem_id for example in row.examples] for row in rows], pa.list_(pa.string())),
        pa.array([[example.sample for example in row.examples] for row in rows], pa.list_(pa.int32())),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _mask(example: Example) -> np.ndarray[Any, np.dtype[np.int8]]:
    return (np.arange(len(example.ids)) >= example.first_target).astype(np.int8)


def _lists(rows: Iterator[list[np.ndarray[Any, Any]]], kind: pa.DataType) -> pa.ListArray:
    """Join each row's arrays into one list, without a Python object per token."""
    joined = [np.concatenate(arrays) for arrays in rows]
    offsets = np.concatenate([[0], np.cumsum([len(values) for values in joined])]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(joined), kind))
