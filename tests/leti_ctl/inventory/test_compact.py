"""Keys and records in flat buffers say the same as the objects they stand for."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from leti_ctl.inventory.compact import Listing, Objects
from leti_ctl.inventory.parsing import BITE, parse
from stages.contract.artifacts import DataObject, Made, PartRecord, objects_digest
from stages.contract.store import Entry

NAMES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="/\0"), min_size=1, max_size=8)
OBJECTS = st.lists(
    st.builds(
        DataObject,
        key=NAMES.filter(lambda name: name not in (".", "..")),
        sha256=st.text("0123456789abcdef", max_size=64),
        size=st.integers(0, 2**40),
        rows=st.integers(0, 9),
    ),
    max_size=20,
)


def record(objects: list[DataObject], host: str = "here") -> PartRecord:
    made = Made(started_at="2026-01-01T00:00:00+00:00", seconds=1.5, host=host, environment={"objects": host})
    place = {
        "artifact": "problems",
        "split": "train",
        "part": 0,
        "parts": 1,
        "spec_sha256": "s",
        "code": "c",
        "seed": 1,
    }
    return PartRecord(**place, rows=0, objects=tuple(objects), inputs=(), made=made).sealed()


@given(OBJECTS)
def test_objects_are_what_they_were_made_of(objects: list[DataObject]) -> None:
    compact = Objects(objects)
    assert list(compact) == objects
    assert compact.digest() == objects_digest(tuple(objects))
    assert list(compact.keys()) == [item.key for item in objects]
    halves = [Objects(objects[:3]), Objects(objects[3:])]
    assert Objects.joined(halves) == compact == tuple(objects)
    assert compact.larger(9) == [item for item in objects if item.size > 9]


@settings(max_examples=50)
@given(OBJECTS, st.sampled_from([None, 2]), st.text(max_size=20))
def test_a_record_says_the_same_however_it_is_read(objects: list[DataObject], indent: int | None, host: str) -> None:
    written = record(objects, host)
    found = parse(written.model_dump_json(indent=indent).encode(), PartRecord)
    assert found.is_intact == (indent == 2)
    assert found.record == written.model_copy(update={"objects": ()})
    assert found.objects == tuple(objects)
    forged = written.model_copy(update={"seed": 2}).model_dump_json(indent=indent).encode()
    assert not parse(forged, PartRecord).is_intact


def test_a_record_of_many_objects_is_read_in_bites() -> None:
    objects = [DataObject(key=f"a/{number}", sha256="f" * 64, size=number) for number in range(2000)]
    data = record(objects, 'tricky\n  "objects": [\n    },\n  ],\n').model_dump_json(indent=2).encode()
    assert len(data) > 3 * BITE
    otherwise = parse(json.dumps(json.loads(data)).encode(), PartRecord)
    assert parse(data, PartRecord) == otherwise._replace(is_intact=True) and not otherwise.is_intact
    assert len(parse(data, PartRecord).objects) == 2000
    for harm in (data[: len(data) // 2], data.replace(b'"size": 1999', b'"size": -1'), data + b"x"):
        with pytest.raises(ValidationError):
            parse(harm, PartRecord)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"0.30000000000000004", b"0.30000000000000005"), (b'"rows": 0', b'"rows":  0'), (b"}\n}", b"}\n}\n")],
    ids=["a digit that no float holds", "a space", "a line"],
)
def test_a_record_with_any_other_byte_is_not_intact(old: bytes, new: bytes) -> None:
    assert float(old) == float(new) if old[:1].isdigit() else True
    written = record([DataObject(key="a/0", sha256="f" * 64, size=1)])
    timed = written.model_copy(update={"made": written.made.model_copy(update={"seconds": 0.1 + 0.2})}).sealed()
    data = timed.model_dump_json(indent=2).encode()
    assert parse(data, PartRecord).is_intact and data.count(old) >= 1
    assert not parse(data.replace(old, new), PartRecord).is_intact


@given(st.lists(st.tuples(NAMES, st.integers(0, 2**40)), unique_by=lambda each: each[0]))
def test_a_listing_finds_every_key_and_no_other(pairs: list[tuple[str, int]]) -> None:
    listing = Listing(Entry(key, size, size / 2) for key, size in pairs)
    assert dict(listing) == dict(pairs) and list(listing) == sorted(dict(pairs))
    assert all(listing.modified(key) == size / 2 for key, size in pairs)
    assert "no/such" not in listing and listing.get("no/such") is None
    half = [key for key, _ in pairs[::2]]
    assert sorted(listing.others([*half, "no/such"])) == sorted(set(dict(pairs)) - set(half))
