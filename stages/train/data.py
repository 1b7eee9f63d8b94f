"""Training rows and pre-training blocks, read from Parquet one row group at a time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stages.contract.errors import ArtifactError
from stages.train.engine import Batch, Row


class FcftStep(NamedTuple):
    """The rows of one FCFT step, and the epoch it begins in."""

    epoch: int
    batch: Batch


def read_steps(paths: Sequence[Path]) -> Iterator[FcftStep]:
    """Yield the FCFT steps of `examples`, in order."""
    for _, group in groupby(_numbered_rows(paths), key=lambda item: item[0]):
        rows = list(group)
        yield FcftStep(rows[0][1], Batch(tuple(row for _, _, row in rows)))


def count_steps(paths: Sequence[Path]) -> int:
    """Return how many FCFT steps `examples` holds."""
    last = -1
    for path in paths:
        steps = pq.read_table(path, columns=["step"])["step"]
        last = max(last, int(steps[-1].as_py())) if len(steps) else last
    return last + 1


def _numbered_rows(paths: Sequence[Path]) -> Iterator[tuple[int, int, Row]]:
    columns = ["step", "epoch", "input_ids", "lengths", "loss_mask"]
    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=256, columns=columns):
                steps, epochs = batch["step"].to_pylist(), batch["epoch"].to_pylist()
                for number, (step, epoch) in enumerate(zip(steps, epochs, strict=True)):
                    yield step, epoch, _row(batch, number, path)


def _row(batch: pa.RecordBatch, number: int, path: Path) -> Row:
    def column(name: str, kind: type[Any]) -> NDArray[Any]:
        return np.asarray(batch[name][number].values, dtype=kind)

    row = Row(column("input_ids", np.int32), column("lengths", np.int32), column("loss_mask", np.int8))
    starts = np.cumsum(row.lengths) - row.lengths
    if int(row.lengths.sum()) != row.tokens or len(row.loss_mask) != row.tokens or row.loss_mask[starts].any():
        raise ArtifactError(f"{path.name}: a row of {row.tokens} tokens has lengths or a loss mask that do not fit it")
    return row


class Blocks:
    """The pre-training stream: equally long blocks, read by number and beginning again after the last."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.files = [pq.ParquetFile(path) for path in paths]
        self.groups = [(file, group) for file in self.files for group in range(file.num_row_groups)]
        sizes = [file.metadata.row_group(group).num_rows for file, group in self.groups]
        self.starts = [0, *accumulate(sizes)]
        self.count = self.starts[-1]
        if not self.count:
            raise ArtifactError("pretraining holds no block; give it more files or shorter blocks")
        # Blocks are read in order, so one row group is read again only where a batch straddles two.
        self._read_group = lru_cache(maxsize=2)(self._read_group_from_disk)

    def batch(self, start: int, size: int) -> Batch:
        """Return `size` blocks from block `start`; numbers beyond the last wrap round."""
        return Batch(tuple(self._block((start + offset) % self.count) for offset in range(size)))

    def _block(self, number: int) -> Row:
        group = bisect_right(self.starts, number) - 1
        ids = self._read_group(group)[number - self.starts[group]]
        mask = np.ones(len(ids), dtype=np.int8)
        mask[0] = 0
        return Row(ids, np.array([len(ids)], dtype=np.int32), mask)

    def _read_group_from_disk(self, group: int) -> list[NDArray[np.int32]]:
        file, number = self.groups[group]
        column = file.read_row_group(number, columns=["input_ids"])["input_ids"]
        return [np.asarray(ids.values, dtype=np.int32) for ids in column]
