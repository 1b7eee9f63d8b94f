"""The artifact table, keys, part records and indexes: how stages hand work to each other, and nothing else.

The commit protocol (a part is one fan-out unit), in short:

1. data objects are written under keys that carry their SHA-256;
2. the part record is written if absent: the part exists from here on, and the first writer wins for ever;
3. when all parts exist, whoever notices writes the index, if absent. It holds nothing that differs between two runs
   of the same work, so every writer writes the same bytes.

A process killed between any two steps leaves data nobody points to, and running it again goes on from there.
`docs/protocol.md` specifies it: what it asks of a store, its invariants and why they hold, every place to be killed at.
"""

from __future__ import annotations

import hashlib
import re
from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import AfterValidator, NonNegativeInt, PositiveInt, model_validator

from stages.contract.errors import UsageError
from stages.contract.records import Block, Execution, Metrics, Note, PackedRow, Problem, Record, Sample, StepLog
from stages.contract.store.verbs import check_key

FORMAT: Literal[1] = 1
MOST_PARTS = 99_999
"""Of one artifact: keys have five digits for a part's number, so that they sort as numbers do."""
Format = Literal["jsonl", "parquet", "folder"]


class Artifact(NamedTuple):
    """A row of the table: what it holds, how it is stored, which coordinates its key has."""

    record: type[Record] | None
    format: Format
    coordinates: tuple[Literal["iteration", "split"], ...]
    meaning: str


ARTIFACTS: Mapping[str, Artifact] = {
    "problems": Artifact(Problem, "jsonl", ("split",), "the benchmark's items, as loaded once for this run"),
    "pretraining": Artifact(Block, "parquet", (), "token blocks of the regularising stream"),
    "checkpoint": Artifact(None, "folder", ("iteration",), "Hugging Face folder; iteration 0 is the base model"),
    "optimizer": Artifact(None, "folder", ("iteration",), "trainer state that belongs to the checkpoint"),
    "samples": Artifact(Sample, "jsonl", ("iteration", "split"), "solutions the iteration's model wrote"),
    "notes": Artifact(Note, "jsonl", ("iteration", "split"), "texts about failures, as their executions took them"),
    "executions": Artifact(Execution, "jsonl", ("iteration", "split"), "what happened to each program"),
    "examples": Artifact(PackedRow, "parquet", ("iteration",), "packed FCFT rows, in training order"),
    "steps": Artifact(StepLog, "jsonl", ("iteration",), "one row per optimizer step"),
    "metrics": Artifact(Metrics, "jsonl", ("iteration", "split"), "scores of the iteration's model on a split"),
}


class Ref(NamedTuple):
    """One artifact of a run. `split` is the name of a sampling pass, or of a problem split for `problems`."""

    artifact: str
    iteration: int | None = None
    split: str | None = None

    @property
    def prefix(self) -> str:
        """Key prefix relative to the run, without a final slash: `iterations/0003/samples/train`."""
        parts = [] if self.iteration is None else ["iterations", f"{self.iteration:04d}"]
        return "/".join([*parts, self.artifact, *([self.split] if self.split else [])])

    @property
    def index_key(self) -> str:
        """Key of its index, relative to the run."""
        return f"{self.prefix}/index.json"

    def part_key(self, part: Part) -> str:
        """Return the key of a part's record, relative to the run."""
        return f"{self.prefix}/parts/{part.stem}.json"

    def path(self, key: str) -> str:
        """Return where a data object stands in the artifact: its path in the folder that was committed, else its name.

        The folder's own name, the digest of what is in it, is left out.
        """
        rest = key.removeprefix(f"{self.prefix}/")
        return rest.partition("/")[2] if ARTIFACTS[self.artifact].format == "folder" else rest

    def __str__(self) -> str:
        return self.prefix


class Part(NamedTuple):
    """Unit `number` (from 0) of `of`."""

    number: int = 0
    of: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def stem(self) -> str:
        """How keys spell it: `00002-of-00004`."""
        return f"{self.number:05d}-of-{self.of:05d}"

    def slice(self, count: int) -> range:
        """Return this unit's share of `count` items: contiguous, sizes differing by at most one."""
        return range(count * self.number // self.of, count * (self.number + 1) // self.of)


def parse_part(text: str) -> Part:
    """Return the part that `K/N` spells, K from 0."""
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and int(number) < int(of) <= MOST_PARTS):
        raise UsageError(f"--part {text!r}: write K/N with K from 0 to N-1, such as 0/4")
    return Part(int(number), int(of))


class DataObject(Record):
    """One object of a part. `key` is relative to the run."""

    key: Annotated[str, AfterValidator(check_key)]
    sha256: str
    size: NonNegativeInt
    rows: NonNegativeInt = 0


class Input(Record):
    """What a part was made from: an artifact (or one part of it) and the digest of what it held."""

    ref: str
    sha256: str


class Made(Record):
    """When, where and how long; differs between two runs of the same work, and so stays out of the index."""

    started_at: str
    """UTC, ISO 8601."""
    seconds: float
    host: str
    counters: dict[str, float] = {}
    """What the stage measured, units in the names: `tokens_per_second`, `executions`, `startup_seconds`."""
    environment: dict[str, str] = {}
    """Python, packages, platform, sandbox, image."""


class Sealed(Record):
    """A record that carries the SHA-256 of all its other fields, so that a flipped bit in it is found."""

    checksum: str = ""

    def sealed(self) -> Self:
        """Return the record with its checksum."""
        return self.model_copy(update={"checksum": self._own()})

    def is_intact(self) -> bool:
        """Whether the checksum is the record's own."""
        return self.checksum == self._own()

    def _own(self) -> str:
        return hashlib.sha256(self.model_dump_json(exclude={"checksum"}).encode()).hexdigest()


class CommitRecord(Sealed):
    """A record of an artifact, or of a part of one, in a run."""

    format: Literal[1] = FORMAT
    artifact: str
    iteration: NonNegativeInt | None = None
    split: str | None = None

    @property
    def ref(self) -> Ref:
        """The artifact it is of."""
        return Ref(self.artifact, self.iteration, self.split)

    @property
    @abstractmethod
    def key(self) -> str:
        """Key that it belongs under, relative to the run."""


class PartRecord(CommitRecord):
    """The commit of one part; its existence is what "done" means."""

    part: NonNegativeInt
    parts: PositiveInt
    rows: NonNegativeInt
    objects: tuple[DataObject, ...]
    inputs: tuple[Input, ...]
    spec_sha256: str
    code: str
    """Version and digest of the `stages` package that made it."""
    seed: NonNegativeInt
    facts: dict[str, int | float | str] = {}
    """What the stage found out about its rows and repeats exactly: `packing_fill`, `infra_errors`."""
    made: Made

    @model_validator(mode="after")
    def _is_one_of_its_parts(self) -> Self:
        if self.part >= self.parts:
            raise ValueError(f"part {self.part} of {self.parts} is none")
        return self

    @property
    def position(self) -> Part:
        """Which part it is the commit of."""
        return Part(self.part, self.parts)

    @property
    def key(self) -> str:
        """Key that it belongs under, relative to the run."""
        return self.ref.part_key(self.position)

    def digest(self) -> str:
        """SHA-256 over the part's objects; equal for equal data."""
        return objects_digest(self.objects)


class Index(CommitRecord):
    """The commit of a whole artifact: every object, in part order."""

    parts: PositiveInt
    rows: NonNegativeInt
    objects: tuple[DataObject, ...]
    inputs: tuple[Input, ...]
    spec_sha256: str
    facts: dict[str, dict[str, int | float | str]] = {}
    """The parts' facts, keyed by part number."""

    @property
    def key(self) -> str:
        """Key that it belongs under, relative to the run."""
        return self.ref.index_key

    def digest(self) -> str:
        """SHA-256 over the objects of all parts."""
        return objects_digest(self.objects)


class MidStage(Sealed):
    """The commit of a checkpoint in the middle of a training, which a killed stage goes on from."""

    steps: NonNegativeInt
    """Optimizer steps of this iteration that it contains."""
    spec_sha256: str
    objects: tuple[DataObject, ...]


def objects_digest(objects: tuple[DataObject, ...]) -> str:
    """Return the SHA-256 of the objects' names and digests, in order."""
    lines = "".join(f"{item.sha256} {item.key}\n" for item in objects)
    return hashlib.sha256(lines.encode()).hexdigest()


_REF = re.compile(
    r"(?:iterations/(?P<iteration>\d{4,})/)?(?P<artifact>\w+)(?:/(?P<split>[\w.-]+))?(?:#(?P<part>\d+/\d+))?"
)


def parse_ref(text: str) -> tuple[Ref, Part | None] | None:
    """Return what `Input.ref` names, the inverse of `str(ref)` and `ref#K/N`; None for a source outside the store."""
    found = _REF.fullmatch(text)
    if not found or found["artifact"] not in ARTIFACTS:
        return None
    ref = Ref(found["artifact"], None if found["iteration"] is None else int(found["iteration"]), found["split"])
    has = {name for name in ("iteration", "split") if getattr(ref, name) is not None}
    if has != set(ARTIFACTS[ref.artifact].coordinates):
        return None
    return ref, parse_part(found["part"]) if found["part"] else None


def find_ref(key: str) -> Ref | None:
    """Return the artifact below whose prefix a key lies, relative to the run; None for any other key."""
    names = key.split("/")
    found = (parse_ref("/".join(names[:depth])) for depth in range(1, len(names)))
    return next((named[0] for named in found if named), None)
