"""A run in a store: reading and committing artifacts, by the commit protocol.

`docs/protocol.md` specifies it: objects and keys, what each writer does, invariants, every place to be killed at.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import ValidationError

from stages.contract.artifacts import ARTIFACTS, DataObject, Index, Input, Made, Part, PartRecord, Ref
from stages.contract.errors import ArtifactError, NoRun, ResourceError, RetryableError, UsageError
from stages.contract.flow import parts_of
from stages.contract.packages import code_version
from stages.contract.records import Record, first_fault, read_rows
from stages.contract.seal import divisions, make_index, part_keys, part_under
from stages.contract.spec import RunSpec, document_digest
from stages.contract.store import Store, address, open_store
from stages.contract.transfer import (
    READ_TRIES,
    Watch,
    digest_file,
    download,
    fault,
    lines,
    reread,
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
        base, options = address.split(uri)
        root, marker, name = base.rstrip("/").rpartition("/runs/")
        if not marker or name in ("", ".", "..") or "/" in name:
            raise UsageError(f"--run {uri!r}: write STORE/runs/NAME")
        return cls(open_store((root or "/") + options), name)

    @property
    def uri(self) -> str:
        """What `--run` takes to open this run again."""
        return address.join(self.store.uri, f"runs/{self.name}")

    def key(self, relative: str) -> str:
        """Return the store key of a key relative to the run."""
        return f"runs/{self.name}/{relative}"

    @cached_property
    def spec(self) -> RunSpec:
        """The spec the run was made with."""
        return reread(self._read_spec)

    @cached_property
    def spec_sha256(self) -> str:
        """Digest of the fields that decide rows, as every record of the run has it."""
        _ = self.spec
        return document_digest(json.loads(self._spec_document))

    def _read_spec(self) -> RunSpec:
        try:
            return RunSpec.model_validate_json(self._spec_document)
        except ValidationError as error:
            self.__dict__.pop("_spec_document")
            raise ArtifactError(f"{self.key(SPEC_KEY)}: {first_fault(error)}; restore the file") from error

    @cached_property
    def _spec_document(self) -> bytes:
        try:
            return self.store.get(self.key(SPEC_KEY))
        except KeyError:
            text = f"no run {self.name!r} in {self.store.uri}; `leti-ctl runs` lists those that are there"
            raise NoRun(text) from None

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
            self._spec_document = text
            self.vouch()
        for cached in ("spec", "spec_sha256", "_spec_document"):
            self.__dict__.pop(cached, None)
        return created

    def vouch(self) -> None:
        """Write the checksum of `spec.json` unless it is there: its compatible fields are in no other digest."""
        self.store.put_if_absent(self.key(SPEC_CHECKSUM_KEY), hashlib.sha256(self._spec_document).hexdigest().encode())

    def find_part(self, ref: Ref, part: Part) -> PartRecord | None:
        """Return the part's record, or None when it is not committed."""
        return self._read_record(ref, ref.part_key(part), PartRecord)

    def find_index(self, ref: Ref) -> Index | None:
        """Return the artifact's index, written now if its last committer died before it did; None without all parts."""
        return self._read_record(ref, ref.index_key, Index) or self._seal(ref, reading=True)

    def get_index(self, ref: Ref) -> Index:
        """Return the artifact's index, or say which parts are missing."""
        # A listing may lag behind; asked for by their names, all parts are seen.
        if index := self.find_index(ref) or self._seal(ref, reading=True, by_name=True):
            return index
        raise ArtifactError(f"run {self.name}: {ref} is incomplete: {self._missing(ref)}; run its stage first")

    def commit(self, commit: Commit) -> PartRecord:
        """Publish a part; if another has committed it meanwhile, theirs stands and is returned."""
        return self._publish(self._upload_part(commit))

    def commit_together(self, commits: Sequence[Commit]) -> list[PartRecord]:
        """Publish the outputs of one unit, in order; return the records that won, all of one attempt or of equal ones.

        All data goes up before the first record. An attempt that finds a record of other bytes than its own publishes
        nothing more, so outputs of two attempts never mix; `RetryableError` while the other's are not complete.
        """
        mine = [self._upload_part(commit) for commit in commits]
        for record in mine:
            if self._publish(record).digest() != record.digest():
                break
        found = [self.find_part(commit.ref, commit.part) for commit in commits]
        if None in found:
            folders = ", ".join(self.key(commit.ref.prefix) for commit in commits)
            raise RetryableError(
                f"{self.key(record.artifact)}: another try has committed other bytes than this one, and not all of its "
                f"outputs yet; unless it is still at work, delete {folders} and resume"
            )
        return [record for record in found if record]

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
            chunks = verified(self.store, self.key(item.key), item, partial(self._damaged, ref))
            for row in read_rows(lines(chunks), record, source=self.key(item.key)):
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
        # Some servers take a while to know what they have just been given.
        found = (self.find_part(ref, part) for _ in range(READ_TRIES))
        record = next((each for each in found if each), None)
        if record is None:
            raise ArtifactError(f"run {self.name}: part {part} of {ref} is missing; run its stage first")
        return record

    def _read_record(self, ref: Ref, key: str, record: type[RecordOf]) -> RecordOf | None:
        try:
            found = reread(lambda: self._of(ref, self._parse(key, self.store.get(self.key(key)), record), key))
        except KeyError:
            return None
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
            raise ArtifactError(f"{self.key(key)}: {first_fault(error)}; {self._remedy(key)}") from error
        if not found.is_intact():
            raise ArtifactError(f"{self.key(key)} is damaged: its checksum is not its own; {self._remedy(key)}")
        return found

    def _remedy(self, key: str) -> str:
        """What to do about a bad record. A part that is made again may come out otherwise, so its index goes too."""
        prefix, marker, _ = key.partition("/parts/")
        return f"delete it and {self.key(prefix)}/index.json, and resume" if marker else "delete it and resume"

    def _of(self, ref: Ref, record: RecordOf, key: str) -> RecordOf:
        """Return the record if it is the one that belongs under its key: a copied file must not pass for another."""
        if record.ref != ref or record.key != key:
            raise ArtifactError(f"{self.key(key)}: is the record of {record.key}; {self._remedy(key)}")
        return record

    def _part_names(self, ref: Ref, known: str = "") -> list[str]:
        """Return the keys of the artifact's part records that a listing shows, and a known one, all of one division."""
        listed = self.store.list(self.key(f"{ref.prefix}/parts/"))
        found = {*(key.removeprefix(self.key("")) for key in listed), known}
        names = sorted(name for name in found if part_under(ref, name))
        if len(numbers := divisions(ref, names)) > 1:
            right, folder = parts_of(ref, self.spec), self.key(ref.prefix)
            raise ArtifactError(
                f"run {self.name}: {ref} is divided into {' and into '.join(map(str, numbers))} parts, the spec says "
                f"{right}; delete all but *-of-{right:05d}.json in {folder}/parts, and {folder}/index.json, and resume"
            )
        return names

    def _part_records(self, ref: Ref, names: list[str]) -> list[PartRecord]:
        """Return what is committed of the artifact under these keys, in part order."""
        found = side_by_side(lambda name: self._read_record(ref, name, PartRecord), names, [0] * len(names))
        return [record for record in found if record]

    def _seal(self, ref: Ref, *, known: str = "", reading: bool = False, by_name: bool = False) -> Index | None:
        """Write the index if every part is there; return the one that stands, or None while parts are missing.

        A listing may lag behind: `known` is there whether it is listed or not, `by_name` asks for every part. Who is
        `reading` may lack the right to write; the index says nothing that the part records do not.
        """
        names = self._part_names(ref, known)
        parts = next(iter(divisions(ref, names)), parts_of(ref, self.spec))
        wanted = part_keys(ref, parts)
        if not by_name and names != wanted:
            return None
        records = self._part_records(ref, wanted)
        if len(records) < parts:
            return None
        index = make_index(ref, records)
        try:
            return self._publish_index(ref, index)
        except (UsageError, ResourceError, OSError):
            if not reading:
                raise
            return index

    def _publish_index(self, ref: Ref, index: Index) -> Index:
        if self.store.put_if_absent(self.key(ref.index_key), index.model_dump_json(indent=2).encode()):
            return index
        found = self._read_record(ref, ref.index_key, Index)
        if found is not None and found != index:
            raise ArtifactError(
                f"{self.key(ref.index_key)} is not of the parts that are there: one of them was deleted and came out "
                "otherwise; delete the index and resume, and `leti-ctl audit` names what was made from the old one"
            )
        return index

    def _missing(self, ref: Ref) -> str:
        names = set(self._part_names(ref))
        if not names:
            return "no part is committed"
        (parts,) = divisions(ref, names)
        gone = [str(number) for number, key in enumerate(part_keys(ref, parts)) if key not in names]
        return f"parts {', '.join(gone)} of {parts} are missing"

    def _upload_part(self, commit: Commit) -> PartRecord:
        """Bring a part's data into the store and return the record that will announce it."""
        if not commit.files:
            raise ArtifactError(f"{commit.ref} part {commit.part} holds no file; nothing to commit")
        return PartRecord(
            artifact=commit.ref.artifact,
            iteration=commit.ref.iteration,
            split=commit.ref.split,
            part=commit.part.number,
            parts=commit.part.of,
            rows=sum(commit.files.values()),
            objects=self._upload(commit),
            inputs=commit.inputs,
            spec_sha256=self.spec_sha256,
            code=code_version(),
            seed=commit.seed,
            facts=dict(commit.facts),
            made=commit.made,
        ).sealed()

    def _publish(self, record: PartRecord) -> PartRecord:
        """Write a part record unless there is one; return the one that stands."""
        won = self.store.put_if_absent(self.key(record.key), record.model_dump_json(indent=2).encode())
        self._seal(record.ref, known=record.key)
        winner = record if won else self.find_part(record.ref, record.position)
        if winner is None:
            raise ArtifactError(f"{self.key(record.key)} vanished while it was written; look who deletes in this store")
        return winner

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

    def _damaged(self, ref: Ref, fault: str) -> ArtifactError:
        return ArtifactError(f"{fault}; delete {self.key(ref.prefix)} and resume the run, which makes it again")
