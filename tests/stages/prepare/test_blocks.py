"""The pre-training stream: every token once and in order, equal bytes for equal texts, readable by `datasets`.

python -m pytest tests/stages/prepare/test_blocks.py -q
"""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from stages.contract.errors import UsageError
from stages.contract.spec import PretrainingSpec
from stages.prepare.blocks import write_blocks
from tests.models import END, make_tokenizer

TEXTS = ["def f(x):\n    return x\n" * 5, "print('<|good|> is text')\n", "", "# ünïcode\n" * 30]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(folder)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def rows(path: Path) -> list[list[int]]:
    table = pq.read_table(path)
    assert table.column("block").to_pylist() == list(range(len(table)))
    return table.column("input_ids").to_pylist()


@settings(max_examples=25, deadline=None)
@given(texts=st.lists(st.text(max_size=60), min_size=1, max_size=8), length=st.integers(1, 16), separate=st.booleans())
def test_blocks_hold_the_texts_end_to_end(
    tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory, texts: list[str], length: int, separate: bool
) -> None:
    path = tmp_path_factory.mktemp("blocks") / "b.parquet"
    spec = PretrainingSpec(block_length=length, separate_files=separate)
    tokenizer.encode_special_tokens = True
    whole = [id for text in texts for id in [*tokenizer.encode(text).ids, *([0] if separate else [])]]
    if len(whole) < length:
        with pytest.raises(UsageError, match="fills not one block"):
            write_blocks(path, texts, tokenizer, spec, 0)
        return
    stream = write_blocks(path, texts, tokenizer, spec, 0)
    assert stream.blocks == len(whole) // length and stream.files == len(texts)
    assert [id for block in rows(path) for id in block] == whole[: stream.blocks * length]


def test_names_of_special_tokens_in_a_text_are_ordinary_characters(tokenizer: Tokenizer, tmp_path: Path) -> None:
    write_blocks(tmp_path / "b.parquet", [f"<|good|>{END}" * 8], tokenizer, PretrainingSpec(block_length=4), 0)
    special = {tokenizer.token_to_id(name) for name in ("<|good|>", END)}
    assert not special & {id for block in rows(tmp_path / "b.parquet") for id in block}


def test_equal_texts_give_equal_bytes(tokenizer: Tokenizer, tmp_path: Path) -> None:
    spec = PretrainingSpec(block_length=8)
    for name in ("a", "b"):
        write_blocks(tmp_path / name, iter(TEXTS), tokenizer, spec, 0)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_files_and_blocks_are_limited(tokenizer: Tokenizer, tmp_path: Path) -> None:
    spec = PretrainingSpec(block_length=4, num_files=2, max_blocks=3)
    stream = write_blocks(tmp_path / "b", iter(TEXTS), tokenizer, spec, 0)
    assert stream.blocks == len(rows(tmp_path / "b")) == 3 and stream.files <= 2


@pytest.mark.slow
def test_datasets_reads_the_file_directly(tokenizer: Tokenizer, tmp_path: Path) -> None:
    import datasets

    write_blocks(tmp_path / "b.parquet", TEXTS, tokenizer, PretrainingSpec(block_length=8), 0)
    cache = str(tmp_path / "cache")
    loaded = datasets.load_dataset("parquet", data_files=str(tmp_path / "b.parquet"), split="train", cache_dir=cache)
    assert loaded["input_ids"][:] == rows(tmp_path / "b.parquet")
