"""A run in a store: reading and committing artifacts. The commit protocol is specified in `artifacts.py`."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

import stages
from stages.contract.artifacts import (
    ARTIFACTS,
    DataObject,
    Index,
    Input,
    Made,
    Part,
    PartRecord,
    Ref,
)
from stages.contract.errors import ArtifactError, UsageError
from stages.contract.records import Record, first_fault, read_rows
from stages.contract.spec import RunSpec
from stages.contract.store import CHUNK_BYTES, Store, open_store

R = TypeVar("R", bound=Record)
SPEC_KEY = "spec.json"


class Commit(NamedTuple):
    """What a stage hands over for one part: files on scratch, and what is known about them."""

    ref: Ref
    part: Part
    files: Mapping[Path, int]
    """Scratch file of each object, in order, with its number of rows; for a folder artifact, the files below `root`."""
    inputs: tuple[Input, ...]
    seed: int
    made: Made
    facts: Mapping[str, int | float | str] = {}
    root: Path | None = None
    """The folder whose layout a folder artifact keeps."""


class Run:
    """One run. `name` is its folder under `runs/`; every key in records is relative to that folder."""

    def __init__(self, store: Store, name: str) -> None:
        self.store, self.name = store, name

    @classmethod
    def open(cls, uri: str) -> Run:
        """Return the run at `<store>/runs/<name>`, the form `--run` takes."""
        base, query, options = uri.partition("?")
        root, marker, name = base.rstrip("/").rpartition("/runs/")
        if not marker or not name or "/" in name:
            raise UsageError(f"--run {uri!r}: write STORE/runs/NAME")
        return cls(open_store(root + query + options), name)

    @property
    def uri(self) -> str:
        """What `--run` takes to open this run again."""
        base, query, options = self.store.uri.partition("?")
        return f"{base.rstrip('/')}/runs/{self.name}{query}{options}"

    def key(self, relative: str) -> str:
        """Return the store key of a key relative to the run."""
        return f"runs/{self.name}/{relative}"

    @cached_property
    def spec(self) -> RunSpec:
        """The spec the run was made with."""
        try:
            return RunSpec.model_validate_json(self.store.get(self.key(SPEC_KEY)))
        except KeyError:
            raise UsageError(
                f"no run {self.name!r} in {self.store.uri}; `leti-ctl runs` lists those that are there"
            ) from None
        except ValidationError as error:
            raise ArtifactError(f"{self.key(SPEC_KEY)}: {first_fault(error)}; restore the file") from error

    def create(self, spec: RunSpec) -> bool:
        """Write the spec, once; return False when the run exists already."""
        created = self.store.put_if_absent(self.key(SPEC_KEY), spec.to_json().encode())
        self.__dict__.pop("spec", None)
        return created

    def find_part(self, ref: Ref, part: Part) -> PartRecord | None:
        """Return the part's record, or None when it is not committed."""
        return self._read_record(self._part_key(ref, part), PartRecord)

    def find_index(self, ref: Ref) -> Index | None:
        """Return the artifact's index; written here if all parts exist but their committers died before it."""
        return self._read_record(self._index_key(ref), Index) or self._seal(ref)

    def get_index(self, ref: Ref) -> Index:
        """Return the artifact's index, or say which parts are missing."""
        if index := self.find_index(ref):
            return index
        raise ArtifactError(f"run {self.name}: {ref} is incomplete: {self._missing(ref)}; run its stage first")

    def commit(self, commit: Commit) -> PartRecord:
        """Publish a part; if another has committed it meanwhile, theirs stands and is returned."""
        objects = tuple(self._upload(commit))
        record = PartRecord(
            artifact=commit.ref.artifact,
            iteration=commit.ref.iteration,
            split=commit.ref.split,
            part=commit.part.number,
            parts=commit.part.of,
            rows=sum(commit.files.values()),
            objects=objects,
            inputs=commit.inputs,
            spec_sha256=self.spec.digest(),
            code=code_version(),
            seed=commit.seed,
            facts=dict(commit.facts),
            made=commit.made,
        )
        key = self._part_key(commit.ref, commit.part)
        won = self.store.put_if_absent(self.key(key), record.model_dump_json(indent=2).encode())
        self._seal(commit.ref)
        return record if won else self._winner(key)

    def input(self, ref: Ref, part: Part | None = None) -> Input:
        """Return the lineage entry for an artifact, or for one part of it."""
        if part is None:
            return Input(ref=str(ref), sha256=self.get_index(ref).digest())
        record = self._get_part(ref, part)
        return Input(ref=f"{ref}#{part}", sha256=record.digest())

    def read(self, ref: Ref, record: type[R], part: Part | None = None) -> Iterator[R]:
        """Yield the rows of an artifact or of one part, in order; `ArtifactError` on any damaged byte."""
        objects = self._get_part(ref, part).objects if part else self.get_index(ref).objects
        for item in objects:
            rows = 0
            for row in read_rows(_lines(self._verified(item)), record, source=item.key):
                rows += 1
                yield row
            if rows != item.rows:
                raise ArtifactError(f"{item.key}: {item.rows} rows expected, {rows} found")

    def fetch(self, ref: Ref, scratch: Path) -> Path:
        """Return a local folder that holds the artifact's files, every checksum verified.

        A local store's own folder is returned as it is; from a remote one the files are downloaded to
        `scratch/<digest>`, which a later call finds again.
        """
        index = self.get_index(ref)
        common = index.objects[0].key.split("/")[: len(ref.prefix.split("/")) + 1]
        home = self.store.local_path(self.key("/".join(common)))
        if ARTIFACTS[ref.artifact].format != "folder":
            home = self.store.local_path(self.key(ref.prefix))
            common = ref.prefix.split("/")
        target = home or scratch / index.digest()
        for item in index.objects:
            path = target / item.key.removeprefix("/".join(common) + "/")
            self._check_file(item, path) if home else self._download(item, path)
        return target

    def paths(self, ref: Ref, scratch: Path) -> list[Path]:
        """Return local paths of a row artifact's objects, in order, verified."""
        folder = self.fetch(ref, scratch)
        return [folder / item.key.removeprefix(ref.prefix + "/") for item in self.get_index(ref).objects]

    def _get_part(self, ref: Ref, part: Part) -> PartRecord:
        record = self.find_part(ref, part)
        if record is None:
            raise ArtifactError(f"run {self.name}: part {part} of {ref} is missing; run its stage first")
        return record

    def _part_key(self, ref: Ref, part: Part) -> str:
        return f"{ref.prefix}/parts/{part.stem}.json"

    def _index_key(self, ref: Ref) -> str:
        return f"{ref.prefix}/index.json"

    def _read_record(self, key: str, record: type[R]) -> R | None:
        try:
            data = self.store.get(self.key(key))
        except KeyError:
            return None
        try:
            found = record.model_validate_json(data)
        except ValidationError as error:
            raise ArtifactError(f"{self.key(key)}: {first_fault(error)}; delete it and resume") from error
        spec_sha256 = getattr(found, "spec_sha256", self.spec.digest())
        if spec_sha256 != self.spec.digest():
            raise ArtifactError(
                f"{self.key(key)} was made with spec {spec_sha256[:12]}, the run's is {self.spec.digest()[:12]}; "
                "start a new run for another spec"
            )
        return found

    def _winner(self, key: str) -> PartRecord:
        record = self._read_record(key, PartRecord)
        if record is None:
            raise ArtifactError(f"{self.key(key)} vanished while it was written; look who deletes in this store")
        return record

    def _part_records(self, ref: Ref) -> list[PartRecord]:
        keys = self.store.list(self.key(f"{ref.prefix}/parts/"))
        relative = (key.removeprefix(self.key("")) for key in keys)
        return [record for key in relative if (record := self._read_record(key, PartRecord))]

    def _seal(self, ref: Ref) -> Index | None:
        """Write the index if every part is there; return it, or None while parts are missing."""
        records = self._part_records(ref)
        if not records or len(records) < records[0].parts:
            return None
        index = Index(
            artifact=ref.artifact,
            iteration=ref.iteration,
            split=ref.split,
            parts=records[0].parts,
            rows=sum(record.rows for record in records),
            objects=tuple(itertools.chain.from_iterable(record.objects for record in records)),
            inputs=tuple(dict.fromkeys(itertools.chain.from_iterable(record.inputs for record in records))),
            spec_sha256=records[0].spec_sha256,
            facts={str(record.part): record.facts for record in records if record.facts},
        )
        self.store.put_if_absent(self.key(self._index_key(ref)), index.model_dump_json(indent=2).encode())
        return index

    def _missing(self, ref: Ref) -> str:
        records = self._part_records(ref)
        if not records:
            return "no part is committed"
        gone = sorted(set(range(records[0].parts)) - {record.part for record in records})
        return f"parts {', '.join(map(str, gone))} of {records[0].parts} are missing"

    def _upload(self, commit: Commit) -> Iterator[DataObject]:
        found = [(path, *_digest(path)) for path in commit.files]
        stem = commit.part.stem
        if commit.root is not None:
            listing = "".join(f"{sha} {path.relative_to(commit.root).as_posix()}\n" for path, sha, _ in found)
            stem = hashlib.sha256(listing.encode()).hexdigest()
        for path, sha256, size in found:
            name = f"{stem}-{sha256}{path.suffix}"
            if commit.root is not None:
                name = f"{stem}/{path.relative_to(commit.root).as_posix()}"
            key = f"{commit.ref.prefix}/{name}"
            self.store.upload(self.key(key), path)
            yield DataObject(key=key, sha256=sha256, size=size, rows=commit.files[path])

    def _verified(self, item: DataObject) -> Iterator[bytes]:
        """Yield the object's bytes; the checksum is known wrong only at the end, before any caller commits."""
        digest = hashlib.sha256()
        try:
            for chunk in self.store.stream(self.key(item.key)):
                digest.update(chunk)
                yield chunk
        except KeyError:
            raise ArtifactError(f"{self.key(item.key)} is named in an index but not in the store") from None
        if digest.hexdigest() != item.sha256:
            raise ArtifactError(f"{self.key(item.key)}: SHA-256 is {digest.hexdigest()[:12]}, not {item.sha256[:12]}")

    def _download(self, item: DataObject, path: Path) -> None:
        if path.exists():
            return self._check_file(item, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(f".staged-{path.name}")
        with open(staged, "wb") as file:
            for chunk in self._verified(item):
                file.write(chunk)
        staged.rename(path)

    def _check_file(self, item: DataObject, path: Path) -> None:
        sha256, _ = _digest(path) if path.is_file() else ("nothing", 0)
        if sha256 != item.sha256:
            raise ArtifactError(f"{path}: SHA-256 is {sha256[:12]}, not {item.sha256[:12]}")


def resume_spec(stored: RunSpec, wanted: RunSpec) -> RunSpec:
    """Return `wanted` if only compatible fields differ from `stored`, else say what differs."""
    differences = list(diff(stored.model_dump(mode="json"), wanted.model_dump(mode="json")))
    if stored.digest() != wanted.digest():
        raise UsageError(f"the run was made with another spec: {'; '.join(differences)}; start a new run")
    return wanted


def diff(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Yield one `path: old -> new` per differing leaf of two JSON values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            yield from diff(old.get(name), new.get(name), f"{path}.{name}" if path else name)
    elif old != new:
        yield f"{path}: {old!r} -> {new!r}"


@lru_cache(maxsize=1)
def code_version() -> str:
    """Return the package version and a digest of its Python sources, so that edited code is another code."""
    root = Path(stages.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return f"{stages.__version__}+{digest.hexdigest()[:16]}"


def _digest(path: Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        yield rest
