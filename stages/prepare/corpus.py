"""Where the pre-training stream's texts come from: the standard library, a folder, or a hub data set.

Each source yields whole files in an order that does not depend on the machine's file system.
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from stages.contract.errors import RetryableError, UsageError, first_line
from stages.contract.spec import PretrainingSpec

PYTHON_SUBSETS = {
    name: "data/python" for name in ("bigcode/the-stack", "bigcode/the-stack-dedup", "bigcode/the-stack-smol")
}
"""Hub data sets of many languages, and the folder that holds Python (paper section 3.1)."""
TEXT_COLUMNS = ("content", "text", "code")
# Tests repeat themselves and hold files that are broken on purpose; site-packages belongs to whoever installed it.
SKIPPED_FOLDERS = {"test", "tests", "idle_test", "lib2to3", "site-packages", "dist-packages", "__pycache__"}


def read_texts(spec: PretrainingSpec) -> Iterator[str]:
    """Yield the texts of the stream in order, all of them; the caller takes as many as it wants."""
    if spec.source == "stdlib":
        return _read_folder(Path(sysconfig.get_paths()["stdlib"]))
    if os.path.isdir(spec.source):
        return _read_folder(Path(spec.source))
    if spec.source.startswith((".", "/", "~")):
        raise UsageError(
            f"pretraining.source: no folder {spec.source}; name a folder of .py files, stdlib or a hub name"
        )
    return _stream_dataset(spec)


def _read_folder(root: Path) -> Iterator[str]:
    """Yield the .py files below `root` by relative path; bytes that are no UTF-8 become U+FFFD."""
    for path in sorted(_find_sources(root), key=lambda path: path.relative_to(root).as_posix()):
        yield path.read_text(encoding="utf-8", errors="replace")


def _find_sources(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        # Pruned here, not filtered later: site-packages can hold a hundred times the standard library's files.
        folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS]
        yield from (path for name in names if name.endswith(".py") and (path := Path(folder, name)).is_file())


def _stream_dataset(spec: PretrainingSpec) -> Iterator[str]:
    import datasets

    options = {"data_dir": PYTHON_SUBSETS[spec.source]} if spec.source in PYTHON_SUBSETS else {}
    try:
        rows = datasets.load_dataset(spec.source, split="train", streaming=True, revision=spec.revision, **options)
        for row in rows:
            yield row[_text_column(spec.source, tuple(row))]
    except (datasets.exceptions.DatasetsError, FileNotFoundError, ValueError) as error:
        raise UsageError(
            f"pretraining.source: {spec.source}: {first_line(error)}; check name, revision and access (HF_TOKEN)"
        ) from error
    except OSError as error:
        raise RetryableError(f"pretraining.source: {spec.source} cannot be fetched: {first_line(error)}") from error


def _text_column(source: str, columns: tuple[str, ...]) -> str:
    for name in TEXT_COLUMNS:
        if name in columns:
            return name
    raise UsageError(
        f"pretraining.source: {source} has the columns {', '.join(columns)}; one must be {', '.join(TEXT_COLUMNS)}"
    )
