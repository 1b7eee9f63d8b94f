"""A run's keys and objects in a few flat buffers: an audit holds all of them at once, and there may be millions.

As Python objects a key, its size and its digest take a kilobyte; here they take little more than their text.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Self, overload

from stages.contract.artifacts import DataObject
from stages.contract.store import Entry

MOST = 2**64 - 1
"""Larger numbers are nobody's; they count as this, which no object has either."""


class Texts(Sequence[str]):
    """Strings in one buffer."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self.buffer = bytearray()
        self._ends = array("Q", [0])
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Add one."""
        self.buffer += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self.buffer))

    def extend(self, others: Texts) -> None:
        """Add all of others."""
        start = len(self.buffer)
        self.buffer += others.buffer
        self._ends.extend(array("Q", [start + end for end in others._ends[1:]]))

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        start, end = self._ends[index], self._ends[index + 1]
        return self.buffer[start:end].decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        start = 0
        for end in self._ends[1:]:
            yield self.buffer[start:end].decode("utf-8", "surrogatepass")
            start = end

    def __len__(self) -> int:
        return len(self._ends) - 1


class Listing(Mapping[str, int]):
    """The sizes of a listing's objects in bytes, by key, and when each was written."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._found = 0
        if not self._fill(entries):
            keys = self._keys  # a server that keeps no order
            order = sorted(range(len(keys)), key=keys.__getitem__)
            self._fill([Entry(keys[each], self._sizes[each], self._modified[each]) for each in order])

    def modified(self, key: str) -> float:
        """Return when the object was written, seconds since the epoch; `KeyError` when it is not listed."""
        return self._modified[self._index(key)]

    def others(self, keys: Iterable[str]) -> Iterator[str]:
        """Yield what is listed and not among these keys."""
        marks = bytearray(len(self))
        for key in keys:
            with suppress(KeyError):
                marks[self._index(key)] = 1
        return (key for key, mark in zip(self._keys, marks, strict=True) if not mark)

    def __getitem__(self, key: str) -> int:
        return self._sizes[self._index(key)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def _fill(self, entries: Iterable[Entry]) -> bool:
        """Take the entries; return whether they are in the order of their keys."""
        self._keys, self._sizes, self._modified = Texts(), array("Q"), array("d")
        is_sorted, last = True, ""
        for entry in entries:
            self._keys.append(entry.key)
            self._sizes.append(entry.size)
            self._modified.append(entry.modified)
            is_sorted, last = is_sorted and last <= entry.key, entry.key
        return is_sorted

    def _index(self, key: str) -> int:
        # Whoever asks for many goes through them in order.
        index = self._found + 1
        if index >= len(self._keys) or self._keys[index] != key:
            index = bisect_left(self._keys, key)
            if index >= len(self._keys) or self._keys[index] != key:
                raise KeyError(key)
        self._found = index
        return index


class Objects(Sequence[DataObject]):
    """The objects of a part or an artifact, each made when it is asked for."""

    def __init__(self, objects: Iterable[DataObject] = ()) -> None:
        self._lines, self._sizes, self._rows = Texts(), array("Q"), array("Q")
        self._starts = array("I")
        self.extend(objects)

    def extend(self, objects: Iterable[DataObject]) -> None:
        """Add some."""
        for item in objects:
            # As `objects_digest` spells them.
            self._lines.append(f"{item.sha256} {item.key}\n")
            self._starts.append(len(item.sha256))
            self._sizes.append(min(item.size, MOST))
            self._rows.append(min(item.rows, MOST))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return the objects of all parts, in order."""
        if len(parts) == 1:
            return parts[0]
        whole = cls()
        for part in parts:
            whole._lines.extend(part._lines)
            whole._starts.extend(part._starts)
            whole._sizes.extend(part._sizes)
            whole._rows.extend(part._rows)
        return whole

    def keys(self) -> Iterator[str]:
        """Yield their keys."""
        return (line[start + 1 : -1] for line, start in zip(self._lines, self._starts, strict=True))

    def larger(self, size: int) -> list[DataObject]:
        """Return those of more than so many bytes."""
        return [self[place] for place, each in enumerate(self._sizes) if each > size]

    def digest(self) -> str:
        """Return what `objects_digest` returns for them."""
        return hashlib.sha256(self._lines.buffer).hexdigest()

    @property
    def rows(self) -> int:
        """Rows of all of them."""
        return sum(self._rows)

    def seal(self) -> bytes:
        """Return a digest of all their fields, sizes and rows included."""
        digest = hashlib.sha256(self._lines.buffer)
        for numbers in (self._starts, self._sizes, self._rows):
            digest.update(numbers.tobytes())
        return digest.digest()

    @overload
    def __getitem__(self, index: int) -> DataObject: ...
    @overload
    def __getitem__(self, index: slice) -> list[DataObject]: ...
    def __getitem__(self, index: int | slice) -> DataObject | list[DataObject]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        line, start = self._lines[index], self._starts[index]
        # They were validated when their record was read.
        return DataObject.model_construct(
            key=line[start + 1 : -1], sha256=line[:start], size=self._sizes[index], rows=self._rows[index]
        )

    def __len__(self) -> int:
        return len(self._sizes)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Objects):
            return self.seal() == other.seal()
        return tuple(self) == other if isinstance(other, tuple) else NotImplemented

    __hash__ = None  # type: ignore[assignment]
