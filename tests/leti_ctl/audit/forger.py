"""A consistent forger: changes rows or records of a finished run and makes everything else in the store fit again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.contract.artifacts import ARTIFACTS, DataObject, Index, Input, Part, PartRecord, Ref, parse_ref
from stages.contract.records import Record, read_rows, write_rows

Rows = list[Any]


class Forger:
    """Works on one run in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def record_path(self, ref: Ref, number: int = 0) -> Path:
        """The file of a part record."""
        return sorted((self.folder / ref.prefix / "parts").iterdir())[number]

    def record(self, ref: Ref, number: int = 0) -> PartRecord:
        return PartRecord.model_validate_json(self.record_path(ref, number).read_bytes())

    def write(self, ref: Ref, number: int, record: PartRecord) -> None:
        """Write a part record with a checksum of its own, the index over it, and who names it as an input."""
        before = self._digests(ref)
        self.record_path(ref, number).write_text(record.sealed().model_dump_json(indent=2))
        self.index(ref)
        after = self._digests(ref)
        self._rename({before[name]: (name, after[name]) for name in before if before[name] != after[name]})

    def index(self, ref: Ref) -> None:
        """Write the index that follows from the parts."""
        records = [self.record(ref, number) for number in range(len(self._records(ref)))]
        path = self.folder / ref.prefix / "index.json"
        index = Index.model_validate_json(path.read_bytes())
        sums = {
            "rows": sum(record.rows for record in records),
            "objects": tuple(item for record in records for item in record.objects),
            "inputs": tuple(dict.fromkeys(each for record in records for each in record.inputs)),
            "facts": {str(record.part): record.facts for record in records if record.facts},
        }
        path.write_text(index.model_copy(update=sums).sealed().model_dump_json(indent=2))

    def rows(self, ref: Ref, change: Callable[[Rows], Rows], *, number: int = 0, **facts: Any) -> None:
        """Change the rows of a part of a JSONL artifact, under the name that its new content has."""
        kind = ARTIFACTS[ref.artifact].record
        assert kind is not None
        path = self.folder / self.record(ref, number).objects[0].key
        rows = change(list(read_rows(path.read_bytes().splitlines(), kind, source="rows")))
        self.content(ref, b"".join(write_rows(rows)), len(rows), number=number, **facts)

    def parquet(self, ref: Ref, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
        """The same of a Parquet artifact, rows as plain data."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.folder / self.record(ref).objects[0].key
        table = pq.read_table(path)
        rows = change(table.to_pylist())
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), sink)
        self.content(ref, sink.getvalue().to_pybytes(), len(rows))

    def content(self, ref: Ref, data: bytes, rows: int, *, number: int = 0, **facts: Any) -> None:
        """Replace the one object of a part."""
        record = self.record(ref, number)
        old = self.folder / record.objects[0].key
        sha256 = hashlib.sha256(data).hexdigest()
        name = f"{Part(record.part, record.parts).stem}-{sha256}{old.suffix}"
        old.unlink()
        (old.parent / name).write_bytes(data)
        item = DataObject(key=f"{ref.prefix}/{name}", sha256=sha256, size=len(data), rows=rows)
        changes = {"objects": (item,), "rows": rows, "facts": record.facts | facts}
        self.write(ref, number, record.model_copy(update=changes))

    def _records(self, ref: Ref) -> list[Path]:
        return list((self.folder / ref.prefix / "parts").iterdir())

    def _digests(self, ref: Ref) -> dict[str, str]:
        """Digests by how inputs spell them: the artifact's and its parts'."""
        records = [self.record(ref, number) for number in range(len(self._records(ref)))]
        whole = "".join(f"{item.sha256} {item.key}\n" for record in records for item in record.objects)
        parts = {f"{ref}#{record.part}/{record.parts}": record.digest() for record in records}
        return {str(ref): hashlib.sha256(whole.encode()).hexdigest(), **parts}

    def _rename(self, changed: dict[str, tuple[str, str]]) -> None:
        """Put new digests where records name old ones; a digest is of an artifact's objects, so this ends here."""
        for path in sorted(self.folder.rglob("parts/*.json")):
            record = PartRecord.model_validate_json(path.read_bytes())
            inputs = tuple(
                Input(ref=each.ref, sha256=changed[each.sha256][1] if each.sha256 in changed else each.sha256)
                for each in record.inputs
            )
            if inputs != record.inputs:
                path.write_text(record.model_copy(update={"inputs": inputs}).sealed().model_dump_json(indent=2))
                self.index(Ref(record.artifact, record.iteration, record.split))


def first(change: Callable[[Record], dict[str, Any]], where: Callable[[Any], bool] = lambda row: True) -> Any:
    """Return a change of the first row of which `where` holds."""

    def edit(rows: Rows) -> Rows:
        number = next(number for number, row in enumerate(rows) if where(row))
        return [*rows[:number], rows[number].model_copy(update=change(rows[number])), *rows[number + 1 :]]

    return edit


def refs(folder: Path) -> list[Ref]:
    """Every artifact of the run that has a part record."""
    found = {path.parent.parent.relative_to(folder).as_posix() for path in folder.rglob("parts/*.json")}
    return sorted(named[0] for text in found if (named := parse_ref(text)))
