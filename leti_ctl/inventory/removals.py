"""What collections of garbage removed on purpose, as they wrote it down in `gc/NNNN-SHA256.json`, NNNN their claim."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping

from pydantic import NonNegativeInt, ValidationError

from leti_ctl import control
from stages.contract.errors import ArtifactError
from stages.contract.records import Record, first_fault
from stages.contract.run import Run

PREFIX = "gc/"


class Removed(Record):
    """An object that a record names and that is gone on purpose."""

    key: str
    sha256: str
    size: NonNegativeInt


class Collection(Record):
    """One collection: what was removed, by which rule."""

    at: str
    rule: str
    objects: tuple[Removed, ...]


def write(run: Run, number: int, collection: Collection) -> None:
    """Write down what the collection that holds claim `number` is about to remove."""
    text = collection.model_dump_json(indent=2).encode()
    run.store.put_if_absent(run.key(f"{PREFIX}{number:04d}-{hashlib.sha256(text).hexdigest()}.json"), text)


def is_collection(key: str) -> bool:
    """Whether a key, relative to a run, is that of a collection."""
    return key.startswith(PREFIX)


def removed(run: Run, keys: Iterable[str]) -> Mapping[str, str]:
    """Return key and SHA-256 of every object that these collections removed; `ArtifactError` for a damaged one."""
    return dict(_removed(run, keys))


def _removed(run: Run, keys: Iterable[str]) -> Iterator[tuple[str, str]]:
    for key in keys:
        data = control.get_named(run, run.key(key))
        try:
            collection = Collection.model_validate_json(data)
        except ValidationError as error:
            raise ArtifactError(f"{run.key(key)}: {first_fault(error)}") from error
        yield from ((each.key, each.sha256) for each in collection.objects)
