"""The pre-training stream as token blocks (paper section 2.4): texts laid end to end, cut into equal blocks.

The official code cuts within groups of 1,000 files and drops each group's remainder; here only the last one is lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tokenizers import Tokenizer

from stages.contract.errors import UsageError
from stages.contract.records import Block
from stages.contract.spec import PretrainingSpec

FILES_TOGETHER = 64
ROW_GROUP = 512
"""Blocks per row group: a million tokens at the default block length."""
SCHEMA = pa.schema([("block", pa.int32()), ("input_ids", pa.list_(pa.int32()))])
assert SCHEMA.names == list(Block.model_fields)


class Stream(NamedTuple):
    """What became of the texts."""

    blocks: int
    files: int
    """Files that were read; the last ones may reach beyond the last block."""
    sha256: str
    """Over the texts that were read, in order."""


def write_blocks(path: Path, texts: Iterable[str], tokenizer: Tokenizer, spec: PretrainingSpec, eos: int) -> Stream:
    """Write the stream of the first `num_files` texts as Parquet; equal texts give equal bytes."""
    read = _Read()
    ids = _tokenize(read.counted(islice(texts, spec.num_files)), tokenizer, [eos] if spec.separate_files else [])
    blocks = islice(_cut(ids, spec.block_length), spec.max_blocks)
    count = 0
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        while group := list(islice(blocks, ROW_GROUP)):
            writer.write_batch(_columns(group, count))
            count += len(group)
    if count == 0:
        raise UsageError(
            f"pretraining.source: {spec.source} fills not one block of {spec.block_length} tokens "
            f"({read.files} files read); name more text or set a smaller pretraining.block_length"
        )
    return Stream(count, read.files, read.digest.hexdigest())


class _Read:
    """Counts and digests the texts that pass through."""

    def __init__(self) -> None:
        self.files = 0
        self.digest = hashlib.sha256()

    def counted(self, texts: Iterable[str]) -> Iterator[str]:
        for text in texts:
            encoded = text.encode("utf-8", "surrogatepass")
            self.files += 1
            self.digest.update(len(encoded).to_bytes(8, "big") + encoded)
            yield text


def _tokenize(texts: Iterator[str], tokenizer: Tokenizer, separator: list[int]) -> Iterator[NDArray[np.int32]]:
    """Yield each text's ids. Names of special tokens in a text are ordinary characters."""
    tokenizer.encode_special_tokens = True
    while group := list(islice(texts, FILES_TOGETHER)):
        for encoding in tokenizer.encode_batch_fast(group, add_special_tokens=False):
            yield np.array(encoding.ids + separator, np.int32)


def _cut(ids: Iterator[NDArray[np.int32]], length: int) -> Iterator[NDArray[np.int32]]:
    rest = np.empty(0, np.int32)
    for one in ids:
        joined = np.concatenate([rest, one])
        whole = len(joined) // length * length
        yield from joined[:whole].reshape(-1, length)
        rest = joined[whole:]


def _columns(blocks: list[NDArray[np.int32]], first: int) -> pa.RecordBatch:
    offsets = np.arange(len(blocks) + 1, dtype=np.int32) * len(blocks[0])
    ids = pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(blocks)))
    numbers = pa.array(np.arange(first, first + len(blocks), dtype=np.int32))
    return pa.RecordBatch.from_arrays([numbers, ids], schema=SCHEMA)
