"""The bytes themselves: each object is read once, hashed, and handed on to whoever checks what is in it."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TypeVar

from pydantic import ValidationError

from leti_ctl.inventory.catalog import UNREADABLE, Catalog
from leti_ctl.inventory.finding import Finding
from stages.contract.artifacts import DataObject, Ref
from stages.contract.records import Record, first_fault
from stages.contract.transfer import SMALL_BYTES, begun, digest_of, lines, reread

R = TypeVar("R", bound=Record)
SPOOL_BYTES = 8 << 20


class Reader:
    """Reads the objects of a run and notes every fault instead of raising it. One per thread of the audit."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.findings: list[Finding] = []
        self.objects = self.bytes = self.rows = 0

    def hash(self, items: Iterable[DataObject]) -> None:
        """Check objects whose content is not rows."""
        for item in items:
            for _ in self._chunks(item):
                pass

    def read(self, ref: Ref, record: type[R]) -> Iterator[R]:
        """Yield the rows of a JSONL artifact that have its columns, in part order."""
        for item in self.catalog.objects(ref):
            rows = 0
            for number, line in enumerate(lines(self._chunks(item)), 1):
                rows += 1
                try:
                    yield record.model_validate_json(line)
                except ValidationError as error:
                    self.note("schema", f"{item.key}, line {number}", f"a row of {ref.artifact}", first_fault(error))
            self.count(item, rows)

    @contextmanager
    def spooled(self, item: DataObject) -> Iterator[IO[bytes]]:
        """Give the object as a file, small ones in memory; the file is empty where the object cannot be read."""
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as file:
            for chunk in self._chunks(item):
                file.write(chunk)
            file.seek(0)
            yield file

    def count(self, item: DataObject, rows: int) -> None:
        """Note the number of rows that were found in an object."""
        self.rows += rows
        if rows != item.rows:
            self.note("rows", item.key, f"{item.rows} rows", str(rows))

    def note(self, check: str, key: str, expected: str, found: str) -> None:
        """Keep a finding."""
        self.findings.append(Finding(check, key, expected, found))

    def _chunks(self, item: DataObject) -> Iterator[bytes]:
        size = self.catalog.sizes.get(item.key)
        if size is None and self.catalog.removed.get(item.key) == item.sha256:
            return
        if size is None:
            self.note("existence", item.key, f"an object of {item.size} bytes", "none")
            return
        if size != item.size:
            self.note("size", item.key, f"{item.size} bytes", f"{size}")
        try:
            found = yield from self._whole(item) if size <= SMALL_BYTES else self._pieces(item)
        except KeyError:
            self.note("existence", item.key, "the object that was listed", "none")
            return
        except UNREADABLE as error:
            self.findings.append(Finding.unread(item.key, error, "existence", "an object that can be read"))
            return
        self.objects += 1
        if found != item.sha256:
            self.note("checksum", item.key, f"SHA-256 {item.sha256[:16]}", found[:16])

    def _stream(self, item: DataObject) -> Iterator[bytes]:
        return begun(self.catalog.run.store, self.catalog.run.key(item.key))

    def _pieces(self, item: DataObject) -> Generator[bytes, None, str]:
        """Yield a large object and return its SHA-256, taken again where it is wrong: the fault may be the way's."""
        digest = hashlib.sha256()
        for chunk in self._stream(item):
            digest.update(chunk)
            self.bytes += len(chunk)
            yield chunk
        found = digest.hexdigest()
        return found if found == item.sha256 else digest_of(self._stream(item))[0]

    def _whole(self, item: DataObject) -> Generator[bytes, None, str]:
        """Yield a small object whole and return its SHA-256; one that came altered is read again first."""

        def read() -> tuple[str, bytes]:
            data = self.catalog.run.store.get(self.catalog.run.key(item.key))
            return hashlib.sha256(data).hexdigest(), data

        found, data = reread(read, lambda each: each[0] == item.sha256, (KeyError,))
        self.bytes += len(data)
        yield data
        return found
