"""Where texts come from, and that their order does not depend on the file system.

python -m pytest tests/stages/prepare/test_corpus.py -q
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from stages.contract.errors import UsageError
from stages.contract.spec import PretrainingSpec
from stages.prepare.corpus import read_texts


def write(root: Path, **files: str) -> PretrainingSpec:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".py").write_text(text)
    return PretrainingSpec(source=str(root))


def test_a_folder_is_read_by_relative_path(tmp_path: Path) -> None:
    spec = write(tmp_path, b="2", a__z="1", c="4", b_a="3")
    (tmp_path / "notes.txt").write_text("not Python")
    assert list(read_texts(spec)) == ["1", "2", "3", "4"]


def test_tests_and_installed_packages_are_skipped(tmp_path: Path) -> None:
    kept = {"tests": "a file may be called so"}
    skipped = {f"{name}__x": "no" for name in ("test", "tests", "lib2to3", "site-packages", "idle_test")}
    assert list(read_texts(write(tmp_path, **kept, **skipped))) == ["a file may be called so"]


def test_bytes_that_are_no_utf8_do_not_stop_the_stream(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"x = '\xff'\r\n")
    assert list(read_texts(PretrainingSpec(source=str(tmp_path)))) == ["x = '\ufffd'\n"]


def test_the_standard_library_is_there_and_starts_the_same_twice() -> None:
    first, second = (list(islice(read_texts(PretrainingSpec(source="stdlib")), 40)) for _ in range(2))
    assert first == second and len(first) == 40 and sum(map(len, first)) > 100_000


def test_a_missing_folder_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no folder .*gone"):
        read_texts(PretrainingSpec(source=str(tmp_path / "gone")))
