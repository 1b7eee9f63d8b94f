"""Rows of a benchmark, from a JSONL file or through `datasets`, checked column by column."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from stages.contract.errors import RetryableError, UsageError, first_line
from stages.contract.records import first_fault

R = TypeVar("R", bound=BaseModel)


def is_file(source: str) -> bool:
    """Whether a source names a file of rows rather than a data set of the hub or a folder of one."""
    return source.removesuffix(".gz").endswith((".jsonl", ".json"))


def read_file(source: str, row: type[R], *, benchmark: str, unique: str | None = None) -> list[R]:
    """Return the rows of a JSONL file, packed by gzip if its name ends in .gz.

    `benchmark` is how people call the data; `unique` is a column in which no two rows may agree. `UsageError` names the
    file, the line and the column at fault.
    """
    try:
        data = Path(source).read_bytes()
        lines = (gzip.decompress(data) if source.endswith(".gz") else data).splitlines()
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"task.source: cannot read {source}: {reason}; name {benchmark}'s JSONL file") from error
    return list(_parse(lines, row, source=source, unique=unique))


def read_source(source: str, row: type[R], *, benchmark: str, unique: str | None = None) -> list[R]:
    """Return the rows of a file, or of all splits of a data set one after the other; raises as those do."""
    if is_file(source):
        return read_file(source, row, benchmark=benchmark, unique=unique)
    parts = read_dataset(source, row, benchmark=benchmark, unique=unique)
    return [one for part in parts.values() for one in part]


def read_dataset(
    source: str, row: type[R], *, benchmark: str, configuration: str | None = None, unique: str | None = None
) -> dict[str, list[R]]:
    """Return the rows of a hub data set, or of a folder that `datasets` can read, by the data set's own splits.

    Raises UsageError where there is no such data set or a column is wrong, RetryableError where it cannot be fetched.
    """
    import datasets

    try:
        parts = datasets.load_dataset(source, None if Path(source).is_dir() else configuration)
    except (datasets.exceptions.DatasetsError, FileNotFoundError, ValueError) as error:
        raise UsageError(
            f"task.source: {source}: {first_line(error)}; name a data set with {benchmark}'s columns"
        ) from error
    except OSError as error:
        raise RetryableError(f"task.source: {source} cannot be fetched: {first_line(error)}; or name a file") from error
    return {
        name: list(_parse(_lines(part), row, source=f"{source}, {name}", unique=unique)) for name, part in parts.items()
    }


def _lines(part: Iterable[Mapping[str, object]]) -> Iterator[bytes]:
    return (json.dumps(row).encode() for row in part)


def _parse(lines: Iterable[bytes], row: type[R], *, source: str, unique: str | None) -> Iterator[R]:
    seen: set[object] = set()
    for number, line in enumerate(lines, 1):
        try:
            parsed = row.model_validate_json(line)
        except ValidationError as error:
            raise UsageError(f"{source}, line {number}: {first_fault(error)}; correct the line") from error
        if unique is not None:
            value = getattr(parsed, unique)
            if value in seen:
                raise UsageError(f"{source}, line {number}: {unique}: {value} stands twice; give each problem its own")
            seen.add(value)
        yield parsed
