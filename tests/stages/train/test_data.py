from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.build.parquet import Row as BuiltRow
from stages.build.parquet import write_rows
from stages.build.sequence import Example
from stages.contract.errors import ArtifactError
from stages.train.data import Blocks, count_steps, read_steps


def example(ids: list[int], first_target: int = 1) -> Example:
    return Example("p", 0, True, np.array(ids, dtype=np.int32), first_target)


def write_blocks(path: Path, first: int, count: int, row_group_size: int) -> Path:
    ids = [[number, 7, 7] for number in range(first, first + count)]
    schema = pa.schema([("block", pa.int64()), ("input_ids", pa.list_(pa.int64()))])
    table = pa.table({"block": range(first, first + count), "input_ids": ids}, schema=schema)
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def test_steps_come_back_as_build_wrote_them(tmp_path: Path) -> None:
    rows = [
        BuiltRow(0, 0, (example([1, 2, 3]), example([4, 5], 2))),
        BuiltRow(0, 0, (example([6, 7, 8, 9], 3),)),
        BuiltRow(0, 1, (example([1, 2]),)),
        BuiltRow(1, 1, (example([3, 4]),)),
    ]
    write_rows(tmp_path / "examples.parquet", rows)
    first, second = read_steps([tmp_path / "examples.parquet"])
    assert [row.input_ids.tolist() for row in first.batch.rows] == [[1, 2, 3, 4, 5], [6, 7, 8, 9]]
    assert [row.lengths.tolist() for row in first.batch.rows] == [[3, 2], [4]]
    assert [row.loss_mask.tolist() for row in first.batch.rows] == [[0, 1, 1, 0, 0], [0, 0, 0, 1]]
    assert (second.epoch, len(second.batch.rows)) == (0, 2)
    assert count_steps([tmp_path / "examples.parquet"]) == 2


def test_a_mask_on_a_first_token_is_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "examples.parquet", [BuiltRow(0, 0, (example([1, 2, 3], 0),))])
    with pytest.raises(ArtifactError, match="do not fit"):
        list(read_steps([tmp_path / "examples.parquet"]))


def test_blocks_are_read_across_row_groups_and_files_and_wrap(tmp_path: Path) -> None:
    paths = [write_blocks(tmp_path / "a", 0, 5, 2), write_blocks(tmp_path / "b", 5, 3, 8)]
    blocks = Blocks(paths)
    assert blocks.count == 8
    batch = blocks.batch(3, 7)
    assert [int(row.input_ids[0]) for row in batch.rows] == [3, 4, 5, 6, 7, 0, 1]
    assert batch.num_targets == 7 * 2


def test_an_empty_stream_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no block"):
        Blocks([write_blocks(tmp_path / "a", 0, 0, 1)])
