"""A run in a store: reading and committing artifacts. The commit protocol is specified in `artifacts.py`."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Container, Iterator, Mapping
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

import stages
from stages.contract.artifacts import ARTIFACTS, DataObject, Index, Input, Made, Part, PartRecord, Ref
from stages.contract.errors import ArtifactError, UsageError
from stages.contract.records import Record, first_fault, read_rows
from stages.contract.spec import RunSpec, document_digest, strip_compatible
from stages.contract.store import Store, open_store
from stages.contract.transfer import (
    READ_TRIES,
    Watch,
    digest_file,
    download,
    fault,
    lines,
    side_by_side,
    unwatched,
    verified,
)

R = TypeVar("R", bound=Record)
RecordOf = TypeVar("RecordOf", PartRecord, Index)
SPEC_KEY = "spec.json"
SPEC_CHECKSUM_KEY = "spec.sha256"


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
        self.watch: Watch = unwatched
        """Who is told how the transfer of artifacts goes on."""

    @classmethod
    def open(cls, uri: str) -> Run:
        """Return the run at `<store>/runs/<name>`, the form `--run` takes."""
        base, options = _split_options(uri)
        root, marker, name = base.rstrip("/").rpartition("/runs/")
        if not marker or name in ("", ".", "..") or "/" in name:
            raise UsageError(f"--run {uri!r}: write STORE/runs/NAME")
        return cls(open_store((root or "/") + options), name)

    @property
    def uri(self) -> str:
        """What `--run` takes to open this run again."""
        base, options = _split_options(self.store.uri)
        return f"{base.rstrip('/')}/runs/{self.name}{options}"

    def key(self, relative: str) -> str:
        """Return the store key of a key relative to the run."""
        return f"runs/{self.name}/{relative}"

    @cached_property
    def spec(self) -> RunSpec:
        """The spec the run was made with."""
        try:
            return RunSpec.model_validate_json(self._spec_document)
        except ValidationError as error:
            raise ArtifactError(f"{self.key(SPEC_KEY)}: {first_fault(error)}; restore the file") from error

    @cached_property
    def spec_sha256(self) -> str:
        """Digest of the fields that decide rows, as every record of the run has it."""
        _ = self.spec
        return document_digest(json.loads(self._spec_document))

    @cached_property
    def _spec_document(self) -> bytes:
        try:
            return self.store.get(self.key(SPEC_KEY))
        except KeyError:
            raise UsageError(
                f"no run {self.name!r} in {self.store.uri}; `leti-ctl runs` lists those that are there"
            ) from None

    def create(self, spec: RunSpec) -> bool:
        """Write the spec, once; return False when the run exists already.

        `UsageError` for a store that overwrites: nothing of the commit protocol would hold there.
        """
        key, text = self.key(SPEC_KEY), spec.to_json().encode()
        created = self.store.put_if_absent(key, text)
        if created and self.store.put_if_absent(key, text):
            raise UsageError(
                f"store {self.store.uri}: the first writer does not win (it ignores If-None-Match); "
                "use a store with conditional writes, or add ?settle=10 to its address (docs/protocol.md)"
            )
        if created:
            # Its compatible fields are in no digest, so the file has one of its own.
            self.store.put_if_absent(self.key(SPEC_CHECKSUM_KEY), hashlib.sha256(text).hexdigest().encode())
        for cached in ("spec", "spec_sha256", "_spec_document"):
            self.__dict__.pop(cached, None)
        return created

    def find_part(self, ref: Ref, part: Part) -> PartRecord | None:
        """Return the part's record, or None when it is not committed."""
        record = self._read_record(self._part_key(ref, part), PartRecord)
        return record and self._of(ref, record, self._part_key(ref, part))

    def find_index(self, ref: Ref) -> Index | None:
        """Return the artifact's index; written here if all parts exist but their committers died before it."""
        index = self._read_record(self._index_key(ref), Index)
        return self._of(ref, index, self._index_key(ref)) if index else self._seal(ref)

    def get_index(self, ref: Ref) -> Index:
        """Return the artifact's index, or say which parts are missing."""
        # A listing may lag behind; asked for by their names, all parts are seen.
        if index := self.find_index(ref) or self._seal(ref, by_name=True):
            return index
        raise ArtifactError(f"run {self.name}: {ref} is incomplete: {self._missing(ref)}; run its stage first")

    def commit(self, commit: Commit) -> PartRecord:
        """Publish a part; if another has committed it meanwhile, theirs stands and is returned."""
        if not commit.files:
            raise ArtifactError(f"{commit.ref} part {commit.part} holds no file; nothing to commit")
        objects = self._upload(commit)
        record = PartRecord(
            artifact=commit.ref.artifact,
            iteration=commit.ref.iteration,
            split=commit.ref.split,
            part=commit.part.number,
            parts=commit.part.of,
            rows=sum(commit.files.values()),
            objects=objects,
            inputs=commit.inputs,
            spec_sha256=self.spec_sha256,
            code=code_version(),
            seed=commit.seed,
            facts=dict(commit.facts),
            made=commit.made,
        )
        name = self._part_key(commit.ref, commit.part)
        record = record.sealed()
        won = self.store.put_if_absent(self.key(name), record.model_dump_json(indent=2).encode())
        self._seal(commit.ref, known=name)
        return record if won else self._winner(commit.ref, commit.part)

    def input(self, ref: Ref, part: Part | None = None) -> Input:
        """Return the lineage entry for an artifact, or for one part of it."""
        if part is None:
            return Input(ref=str(ref), sha256=self.get_index(ref).digest())
        record = self._get_part(ref, part)
        return Input(ref=f"{ref}#{part}", sha256=record.digest())

    def read(self, ref: Ref, record: type[R], part: Part | None = None) -> Iterator[R]:
        """Yield the rows of an artifact or of one part, in order; `ArtifactError` on any damaged byte."""
        objects = self._get_part(ref, part).objects if part is not None else self.get_index(ref).objects
        for item in objects:
            rows = 0
            for row in read_rows(lines(self._verified(ref, item)), record, source=self.key(item.key)):
                rows += 1
                yield row
            if rows != item.rows:
                raise self._damaged(ref, f"{self.key(item.key)}: {item.rows} rows expected, {rows} found")

    def fetch(self, ref: Ref, scratch: Path, *, only: Container[str] | None = None) -> Path:
        """Return a local folder that holds the artifact's files, every checksum verified.

        A local store's own folder is returned as it is; from a remote one the files are downloaded to
        `scratch/<digest>`, which a later call finds again. `only` names the files wanted, as paths within the artifact:
        others are neither downloaded nor verified, and names that the artifact does not hold are ignored.
        """
        index = self.get_index(ref)
        base = ref.prefix
        if ARTIFACTS[ref.artifact].format == "folder":
            base = "/".join(index.objects[0].key.split("/")[: len(base.split("/")) + 1])
        home = self.store.local_path(self.key(base))
        target = home or scratch / index.digest()
        paths = {item.key: target / item.key.removeprefix(f"{base}/") for item in index.objects}
        wanted = [item for item in index.objects if only is None or item.key.removeprefix(f"{base}/") in only]

        moved = self.watch(f"{'verifying' if home else 'downloading'} {ref}", sum(item.size for item in wanted))

        def bring(item: DataObject) -> None:
            if home is None:
                download(self.store, self.key(item.key), item, paths[item.key], partial(self._damaged, ref), moved)
            elif (wrong := fault(item, paths[item.key], moved)) is not None:
                raise self._damaged(ref, wrong)

        side_by_side(bring, wanted, [item.size for item in wanted])
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

    def _read_record(self, key: str, record: type[RecordOf]) -> RecordOf | None:
        for tries_left in reversed(range(READ_TRIES)):
            try:
                found = self._parse(key, self.store.get(self.key(key)), record)
            except KeyError:
                return None
            except ArtifactError:
                if not tries_left:
                    raise
                continue
            break
        if found.spec_sha256 != self.spec_sha256:
            raise ArtifactError(
                f"{self.key(key)} was made with spec {found.spec_sha256[:12]}, the run's is {self.spec_sha256[:12]}; "
                "start a new run for another spec"
            )
        return found

    def _parse(self, key: str, data: bytes, record: type[RecordOf]) -> RecordOf:
        try:
            found = record.model_validate_json(data)
        except ValidationError as error:
            raise ArtifactError(f"{self.key(key)}: {first_fault(error)}; delete it and resume") from error
        if not found.is_intact():
            raise ArtifactError(f"{self.key(key)} is damaged: its checksum is not its own; delete it and resume")
        return found

    def _of(self, ref: Ref, record: RecordOf, key: str) -> RecordOf:
        """Return the record if it is the one that belongs under its key: a copied file must not pass for another."""
        found = Ref(record.artifact, record.iteration, record.split)
        if found != ref or (isinstance(record, PartRecord) and not key.endswith(_part_name(record))):
            raise ArtifactError(f"{self.key(key)}: is the record of {found}, not of {ref}; delete it and resume")
        return record

    def _winner(self, ref: Ref, part: Part) -> PartRecord:
        record = self.find_part(ref, part)
        if record is None:
            key = self.key(self._part_key(ref, part))
            raise ArtifactError(f"{key} vanished while it was written; look who deletes in this store")
        return record

    def _part_names(self, ref: Ref) -> list[str]:
        """Return the keys of the artifact's part records that a listing shows, all of one division."""
        start = len(self.key(""))
        listed = [key[start:] for key in self.store.list(self.key(f"{ref.prefix}/parts/"))]
        names = [name for name in listed if _division(name)]
        divisions = sorted({_division(name) for name in names})
        if len(divisions) > 1:
            raise ArtifactError(
                f"run {self.name}: {ref} is divided into {' and into '.join(map(str, divisions))} parts; "
                f"delete those of one division in {self.key(ref.prefix)}/parts and resume"
            )
        return names

    def _part_records(self, ref: Ref, names: list[str]) -> list[PartRecord]:
        """Return what is committed of the artifact under these keys, in part order."""
        found = side_by_side(lambda name: self._read_record(name, PartRecord), names, [0] * len(names))
        return [self._of(ref, record, name) for record, name in zip(found, names, strict=True) if record]

    def _seal(self, ref: Ref, *, known: str = "", by_name: bool = False) -> Index | None:
        """Write the index if every part is there; return it, or None while parts are missing.

        A listing may lag behind: `known` is there whether it is listed or not, `by_name` asks for every part.
        """
        names = self._part_names(ref)
        names = sorted({*names, known}) if known else names
        if by_name:
            parts = _division(names[0]) if names else 1
            names = [self._part_key(ref, Part(number, parts)) for number in range(parts)]
        if not names or len(names) < _division(names[0]):
            return None
        records = self._part_records(ref, names)
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
        ).sealed()
        self.store.put_if_absent(self.key(self._index_key(ref)), index.model_dump_json(indent=2).encode())
        return index

    def _missing(self, ref: Ref) -> str:
        names = set(self._part_names(ref))
        if not names:
            return "no part is committed"
        parts = _division(min(names))
        gone = [number for number in range(parts) if self._part_key(ref, Part(number, parts)) not in names]
        return f"parts {', '.join(map(str, gone))} of {parts} are missing"

    def _upload(self, commit: Commit) -> tuple[DataObject, ...]:
        paths = list(commit.files)
        sizes = [path.stat().st_size for path in paths]
        found = dict(zip(paths, side_by_side(digest_file, paths, sizes), strict=True))
        stem, moved = commit.part.stem, self.watch(f"uploading {commit.ref}", sum(sizes))
        if commit.root is not None:
            listing = "".join(f"{found[path][0]} {path.relative_to(commit.root).as_posix()}\n" for path in paths)
            stem = hashlib.sha256(listing.encode()).hexdigest()

        def send(path: Path) -> DataObject:
            sha256, size = found[path]
            name = f"{stem}-{sha256}{path.suffix}"
            if commit.root is not None:
                name = f"{stem}/{path.relative_to(commit.root).as_posix()}"
            key = f"{commit.ref.prefix}/{name}"
            self.store.upload(self.key(key), path, moved)
            return DataObject(key=key, sha256=sha256, size=size, rows=commit.files[path])

        return tuple(side_by_side(send, paths, sizes))

    def _verified(self, ref: Ref, item: DataObject) -> Iterator[bytes]:
        return verified(self.store, self.key(item.key), item, partial(self._damaged, ref))

    def _damaged(self, ref: Ref, fault: str) -> ArtifactError:
        return ArtifactError(f"{fault}; delete {self.key(ref.prefix)} and resume the run, which makes it again")


def resume_spec(stored: RunSpec, wanted: RunSpec) -> RunSpec:
    """Return `wanted` if only compatible fields differ from `stored`, else say what differs."""
    if stored.digest() != wanted.digest():
        differences = diff(*(json.loads(json.dumps(strip_compatible(spec))) for spec in (stored, wanted)))
        raise UsageError(f"the run was made with another spec: {'; '.join(differences)}; start a new run")
    if stored.trains() != wanted.trains():
        # A run of no iterations prepared neither training problems nor the stream.
        raise UsageError(
            f"iterations: {stored.iterations} -> {wanted.iterations}: a run that only evaluates cannot be made to "
            "train, nor the other way round; start a new run, with model.from_run to go on from a checkpoint"
        )
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


def _split_options(uri: str) -> tuple[str, str]:
    """Return an S3 URI without and with only its `?options`; a folder's name may hold a question mark."""
    base, mark, options = uri.partition("?") if uri.startswith("s3://") else (uri, "", "")
    return base, mark + options


def _division(name: str) -> int:
    """Return how many parts a part record's key says there are; 0 for a stranger's key."""
    found = re.search(r"/\d{5}-of-(\d{5})\.json$", name)
    return int(found[1]) if found else 0


def _part_name(record: PartRecord) -> str:
    return f"/{Part(record.part, record.parts).stem}.json"
