"""Whatever lies in a store, an audit ends with findings or with one line, never with a traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from leti_ctl.audit.report import audit
from stages.contract.errors import LetiError
from stages.contract.run import Run
from stages.contract.store import LocalStore

RECORD = "iterations/0000/samples/train/parts/00000-of-00002.json"
DEEP = b"[" * 100_000


def one(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(f"iterations/0000/{pattern}"))[0]


def instead(pattern: str, data: bytes) -> Callable[[Path], object]:
    return lambda folder: one(folder, pattern).write_bytes(data)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def edited(old: str, new: str) -> Callable[[Path], object]:
    def harm(folder: Path) -> None:
        text = (folder / RECORD).read_text()
        assert old in text
        (folder / RECORD).write_text(text.replace(old, new))

    return harm


def nulls(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = one(folder, "examples/*.parquet")
    table = pq.read_table(path)
    rows = [{**row, "lengths": None, "loss_mask": [None]} for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: a_folder(folder / RECORD),
        lambda folder: a_folder(one(folder, "samples/train/*.jsonl")),
        lambda folder: a_folder(folder / "spec.json"),
        lambda folder: (folder / "spec.json").write_bytes(b"\xff\xfe{"),
        lambda folder: (folder / "spec.sha256").write_bytes(b"\xff\n\x1b"),
        lambda folder: (folder / RECORD).write_bytes(DEEP),
        lambda folder: (folder / RECORD).write_bytes(b""),
        lambda folder: (folder / RECORD).write_bytes(b"{" + b"x" * 5_000_000),
        edited('"rows": ', '"rows": 9999999999999999999999'),
        edited('"seconds": ', '"seconds": 1e999, "more": '),
        instead("samples/train/*.jsonl", b'{"problem_id":' + DEEP),
        instead("samples/train/*.jsonl", b'{"problem_id":"\xff\xfe"}\n'),
        instead("samples/train/*.jsonl", b'{"problem_id":"' + b"x" * 5_000_000),
        instead("checkpoint/*/tokenizer.json", DEEP),
        instead("checkpoint/*/tokenizer.json", b"[]"),
        instead("checkpoint/*/tokenizer.json", b'{"added_tokens": [1]}'),
        instead("examples/*.parquet", b"PAR1junkPAR1"),
        nulls,
    ],
)
def test_a_damaged_store_is_not_clean_and_no_traceback(harm: Callable[[Path], object], run_folder: Path) -> None:
    harm(run_folder)
    try:
        report = audit(Run(LocalStore(run_folder.parents[1]), run_folder.name))
    except LetiError as error:
        assert "\n" not in str(error)
        return
    assert not report.clean
    lines = [each.line for each in report.findings]
    assert len(lines) == len(set(lines))
    assert all(line.isprintable() and len(line) < 800 for line in lines)


def test_a_strange_key_cannot_steer_the_terminal(run_folder: Path) -> None:
    (run_folder / "iterations/0000/samples/train/\x1b[31mred\nline").write_text("x")
    report = audit(Run(LocalStore(run_folder.parents[1]), run_folder.name))
    assert report.clean
    assert [each.line.partition(": expected")[0] for each in report.findings] == [
        r"warning orphans: iterations/0000/samples/train/\x1b[31mred\nline"
    ]
