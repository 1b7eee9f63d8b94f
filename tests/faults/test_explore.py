"""The commit protocol in every interleaving: each invariant of `docs/protocol.md`, named as there, at every state."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

from stages.contract.artifacts import Index, Made, Part, PartRecord, Ref
from stages.contract.errors import ArtifactError, RetryableError, StoreError
from stages.contract.records import Problem, write_rows
from stages.contract.run import Commit, Run
from stages.contract.spec import RunSpec
from stages.contract.store import Entry, Store
from tests.faults.broken import BROKEN, PARTS, Turns
from tests.faults.explore import Ended, Explorer, Found, Memory, Objects, State, Violation, Weather, Work
from tests.stages.contract.parts import MADE, PROBLEMS, problem

SPEC = RunSpec()
FAIR, LAG = Weather(), Weather(lag=True)
RECORD = re.compile(r"runs/r/(?P<prefix>.+)/(?:parts/\d{5}-of-\d{5}|index)\.json")
CONTENT = re.compile(r"[0-9a-f]{64}(?=\.jsonl$)")


def run_in(store: Store) -> Run:
    """A run whose spec needs no reading: it is there before, and stays as it is."""
    run = Run(store, "r")
    vars(run).update(spec=SPEC, spec_sha256=SPEC.digest())
    return run


def text(part: int, version: int) -> bytes:
    """The rows of a part: a stage that repeats itself to the bit has one version, one that does not has several."""
    return b"".join(write_rows(problem(100 * part + 10 * version + number) for number in range(2)))


class World:
    """The commits that processes make, their files written once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def commit(self, part: int, version: int, *, ref: Ref = PROBLEMS, of: int = PARTS, host: str = "") -> Commit:
        path = self.folder / f"{part}-{version}.jsonl"
        if not path.exists():
            path.write_bytes(text(part, version))
        made = Made(started_at=MADE.started_at, seconds=1.0, host=host or f"version-{version}")
        return Commit(ref, Part(part, of), {path: 2}, (), seed=7, made=made)

    def writer(self, part: int, version: int, *, host: str = "", of: int = PARTS) -> Work:
        made = self.commit(part, version, of=of, host=host)
        return lambda store: run_in(store).commit(made)

    def unit(self, version: int, *, same: int = 0) -> Work:
        """One try of a unit with three outputs; the first so many come out the same in every try."""
        commits = self.unit_commits(version, same=same)
        return lambda store: run_in(store).commit_together(commits)

    def unit_commits(self, version: int, *, same: int = 0) -> list[Commit]:
        """What one try of the unit makes."""
        return [
            self.commit(0, 0 if number < same else version, ref=Ref("problems", split=name), of=1, host=str(version))
            for number, name in enumerate(UNIT)
        ]

    def with_parts(self, *parts: int) -> Objects:
        """What is in the store when these are committed."""
        store = Memory({})
        for part in parts:
            self.writer(part, 0)(store)
        return store.objects

    def recover(self, objects: Objects) -> None:
        """I9, I10: all is done again by one process that nothing disturbs; winners stay, and the index is there."""
        store = Memory(objects)
        for part in range(PARTS):
            self.writer(part, 0, host="resumed")(store)
        run = run_in(store)
        rows = list(run.read(PROBLEMS, Problem))
        check_store(store.objects, objects)
        assert run.find_index(PROBLEMS) is not None, "I10: no index after a resume"
        assert len(rows) == 2 * PARTS, "I10: rows are missing after a resume"

    def recover_unit(self, objects: Objects, *, same: int) -> None:
        """A resumed unit completes what is there or says what to do, and adds nothing of its own to another's."""
        store = Memory(objects)
        try:
            self.unit(0, same=same)(store)
        except RetryableError as error:
            folders = re.findall(r"runs/r/\S+(?=,| and)", str(error).partition("delete ")[2])
            assert len(folders) == len(UNIT)
            for key in [key for key in store.objects if key.startswith(tuple(f"{folder}/" for folder in folders))]:
                store.delete(key)
            self.unit(0, same=same)(store)
        check_store(store.objects, {})
        check_unit(store.objects, same)


UNIT = ("train", "test", "validation")


@cache
def part_record(data: bytes) -> PartRecord:
    return PartRecord.model_validate_json(data)


@cache
def index_record(data: bytes) -> Index:
    return Index.model_validate_json(data)


@cache
def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


TEXTS = {text(part, version) for part in range(PARTS) for version in range(3)}


def check_store(objects: Objects, before: Objects) -> None:
    """What holds of a store whoever is at work in it."""
    for key, data in before.items():
        assert not RECORD.fullmatch(key) or objects.get(key) == data, f"I2: {key} has changed"
    for key, data in objects.items():
        named = CONTENT.search(key)
        assert not named or named[0] == sha256(data), f"I3: {key} does not hold what it names"
        if "/parts/" in key:
            record = part_record(data)
            assert record.is_intact(), f"I1: {key} is damaged"
            for item in record.objects:
                held = objects.get(f"runs/r/{item.key}")
                assert held is not None and sha256(held) == item.sha256, (
                    f"I1: {key} names {item.key}, which is not there"
                )
                assert held in TEXTS, f"I4: {item.key} is no try's"
        elif key.endswith("/index.json"):
            check_index(key, index_record(data), objects)


def check_index(key: str, index: Index, objects: Objects) -> None:
    folder = key.removesuffix("index.json") + "parts/"
    stems = [Part(number, index.parts).stem for number in range(index.parts)]
    assert all(f"{folder}{stem}.json" in objects for stem in stems), "I5: an index before its parts"
    parts = [part_record(objects[f"{folder}{stem}.json"]) for stem in stems]
    named = tuple(itertools.chain.from_iterable(part.objects for part in parts))
    assert index.objects == named and index.rows == sum(part.rows for part in parts), "I5: an index of other parts"


def check_unit(objects: Objects, same: int = 0) -> None:
    found = [objects.get(f"runs/r/problems/{name}/parts/00000-of-00001.json") for name in UNIT[same:]]
    there = {part_record(data).objects[0].sha256 for data in found if data is not None}
    assert len(there) <= 1, "I8: outputs of two tries stand side by side"


def check(state: State, before: State | None, ends: Sequence[Ended | None], *, lag: bool = False) -> None:
    check_store(state.objects, before.objects if before else {})
    for end in ends:
        if end and isinstance(end.result, PartRecord):
            key = f"runs/r/{PROBLEMS.part_key(Part(end.result.part, end.result.parts))}"
            assert part_record(state.objects[key]) == end.result, "I6: told of another record than stands"
        if end and isinstance(end.result, list):
            held = [text_of(state.objects, part) for part in range(PARTS)]
            assert b"".join(write_rows(end.result)) == b"".join(held), "I7: rows that are not the winners'"
        if end and end.error and not isinstance(end.error, StoreError):
            raise end.error
    done = all(end and not end.error for end in ends)
    there = sum("/problems/train/parts/" in key for key in state.objects) == PARTS
    if done and there and not lag:
        assert "runs/r/problems/train/index.json" in state.objects, "I9: all parts are there, and nobody made the index"


def text_of(objects: Objects, part: int) -> bytes:
    record = part_record(objects[f"runs/r/{PROBLEMS.part_key(Part(part, PARTS))}"])
    return objects[f"runs/r/{record.objects[0].key}"]


def read_all(store: Store) -> list[Problem] | None:
    """Read the artifact, which seals it; None while it is incomplete."""
    try:
        return list(run_in(store).read(PROBLEMS, Problem))
    except ArtifactError as error:
        if "is incomplete" not in str(error):
            raise
        return None


def explore(world: World, works: Mapping[str, Work], parts: Sequence[int] = (), weather: Weather = FAIR) -> Found:
    judge = partial(check, lag=weather.lag)
    found = Explorer(works, judge, world.recover, weather, world.with_parts(*parts)).explore()
    print(f"{found.schedules} schedules, {found.states} states, {found.crashes} of them with crashes", flush=True)
    return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


Scenario = tuple[dict[str, Work], tuple[int, ...], Weather]
"""Who is at work, which of the three parts are there before, and the weather."""


def scenarios(world: World) -> dict[str, Scenario]:
    """Two processes at a time, small enough for every `make test`."""
    one, equal, other = world.writer(0, 0), world.writer(0, 0, host="elsewhere"), world.writer(0, 1)
    last = world.writer(1, 0)
    return {
        "one part, equal bytes": ({"a": one, "b": equal}, (1,), FAIR),
        "the last part, other bytes": ({"a": one, "b": other}, (1, 2), FAIR),
        "the last two parts": ({"a": one, "b": last}, (2,), FAIR),
        "a writer and a reader": ({"a": one, "reader": read_all}, (1, 2), FAIR),
        "two readers": ({"a": partial(halt_before_index, one), "r": read_all, "s": read_all}, (1, 2), FAIR),
        "the last two parts, lagging listings": ({"a": one, "b": last}, (2,), LAG),
        "the last part, other bytes, two faults": ({"a": one, "b": other}, (1, 2), Weather(faults=2)),
        "the last two parts, a fault": ({"a": one, "b": last}, (2,), Weather(faults=1)),
    }


def large(world: World) -> dict[str, Scenario]:
    """Three processes, or more of everything: minutes."""
    one, other, last = world.writer(0, 0), world.writer(0, 1), world.writer(1, 0)
    return {
        "a writer and a reader, lagging listings": ({"a": one, "reader": read_all}, (1, 2), LAG),
        "three tries of the last part": ({"a": one, "b": other, "c": world.writer(0, 2)}, (1, 2), FAIR),
        "two tries, the other part and a reader": (
            {"a": one, "b": other, "c": last, "reader": read_all}, (2,), FAIR),
        "two tries and the other part, lagging": ({"a": one, "b": other, "c": last}, (2,), LAG),
        "two tries and a reader, two faults": (
            {"a": one, "b": other, "reader": read_all}, (1, 2), Weather(faults=2)),
        "all three parts, a fault": ({"a": one, "b": last, "c": world.writer(2, 0)}, (), Weather(faults=1)),
    }  # fmt: skip


class Halting(Turns):
    """Of a process that is killed where the part record is written and the index is not: who reads must make it."""

    def wait(self) -> Store:
        return self.inner

    def scan(self, prefix: str) -> Iterator[Entry]:
        raise StoreError("killed")


def halt_before_index(work: Work, store: Store) -> Any:
    return work(Halting(store))


@pytest.mark.slow
def test_every_interleaving_of_two_processes_keeps_every_invariant(world: World) -> None:
    found = [explore(world, *scenario) for scenario in scenarios(world).values()]
    schedules, states = sum(each.schedules for each in found), sum(each.states for each in found)
    print(f"{schedules} schedules through {states} states", flush=True)
    assert schedules > 1_000_000


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", range(6))
def test_every_interleaving_of_more_processes_keeps_every_invariant(world: World, number: int) -> None:
    assert explore(world, *list(large(world).values())[number]).schedules > 100_000


@pytest.mark.slow
@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_protocol_is_found_with_the_shortest_schedule(world: World, broken: type[Turns]) -> None:
    class Stepping(broken):  # type: ignore[misc, valid-type]
        def wait(self) -> Store:
            return self.inner

    def broken_as(work: Work) -> Work:
        return lambda store: work(Stepping(store))

    scenario, most = SHORTEST[broken.__name__]
    works, parts, _ = scenarios(world)[scenario]
    with pytest.raises(Violation, match=r"(?s)I\d: .*; after\n  1\. a: ") as caught:
        explore(world, {name: broken_as(work) for name, work in works.items()}, parts)
    print(f"{broken.__name__}: {caught.value}", flush=True)
    assert len(str(caught.value).splitlines()) - 1 <= most


SHORTEST = {
    "LastWins": ("the last part, other bytes", 5),
    "LooksThenWrites": ("the last part, other bytes", 7),
    "LoserBelievesItWon": ("the last part, other bytes", 9),
    "RecordBeforeData": ("the last part, other bytes", 1),
    "IndexBeforeRecord": ("the last part, other bytes", 6),
    "UploadInHalves": ("the last part, other bytes", 1),
    "LoserTidiesUp": ("one part, equal bytes", 5),
}
"""A scenario that shows it, and in how many operations."""


# Units of several outputs


@pytest.mark.slow
@pytest.mark.parametrize("same", [0, 1, pytest.param(2, marks=pytest.mark.soak)])
def test_outputs_of_two_tries_never_stand_side_by_side(world: World, same: int) -> None:
    works = {"a": world.unit(0, same=same), "b": world.unit(1, same=same)}
    found = Explorer(works, partial(check_tries, same=same), partial(world.recover_unit, same=same), FAIR).explore()
    print(f"{found.schedules} schedules through {found.states} states", flush=True)
    assert found.schedules > 100


def check_tries(state: State, before: State | None, ends: Sequence[Ended | None], *, same: int = 0) -> None:
    check_store(state.objects, before.objects if before else {})
    check_unit(state.objects, same)
    for end in ends:
        assert end is None or end.error is None or isinstance(end.error, RetryableError)
    if all(ends):
        assert any(end and not end.error for end in ends), "I8: no try could end"


@pytest.mark.slow
def test_outputs_committed_one_by_one_would_be_mixed(world: World) -> None:
    def one_by_one(version: int) -> Work:
        return lambda store: [run_in(store).commit(each) for each in world.unit_commits(version)]

    with pytest.raises(Violation, match="I8: outputs of two tries"):
        Explorer({"a": one_by_one(0), "b": one_by_one(1)}, check_tries, lambda objects: None, FAIR).explore()


# Parts of two divisions


@pytest.mark.slow
def test_parts_of_two_divisions_never_make_an_index_whatever_a_listing_leaves_out(world: World) -> None:
    def check_divisions(state: State, before: State | None, ends: Sequence[Ended | None]) -> None:
        check_store(state.objects, before.objects if before else {})
        assert "runs/r/problems/train/index.json" not in state.objects, "I5: an index of two divisions"
        for end in ends:
            assert end is None or end.error is None or "is divided into" in str(end.error)

    works = {"a": world.writer(0, 0, of=2), "b": world.writer(1, 0, of=3), "reader": read_all}
    found = Explorer(works, check_divisions, lambda objects: None, LAG).explore()
    assert found.schedules > 1000
