"""What damage to an artifact looks like to whoever reads it: one line that names it, whatever was altered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.contract.artifacts import Index, Part, PartRecord
from stages.contract.errors import ArtifactError
from stages.contract.records import Problem
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import LocalStore
from tests.stages.contract.parts import (
    CHECKPOINT,
    PROBLEMS,
    commit_folder,
    commit_numbers,
    new_run,
    problem,
)


@settings(max_examples=25)
@given(st.data())
def test_a_flipped_bit_in_any_object_is_found(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    tmp_path = tmp_path_factory.mktemp("flip")
    run = new_run(str(tmp_path / "store"))
    for number in range(2):
        commit_numbers(run, Part(number, 2), tmp_path)
    path = data.draw(st.sampled_from(run.paths(PROBLEMS, tmp_path)))
    damaged = bytearray(path.read_bytes())
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(damaged)
    with pytest.raises(ArtifactError, match="problems/train") as caught:
        list(run.read(PROBLEMS, Problem))
    assert "\n" not in str(caught.value)
    with pytest.raises(ArtifactError, match=r"SHA-256 is .*, not .*; delete .*problems/train.* and resume"):
        run.fetch(PROBLEMS, tmp_path)


def test_a_flipped_bit_in_a_model_is_found(anywhere: Run, model: Path, tmp_path: Path) -> None:
    record = commit_folder(anywhere, model)
    key = next(item.key for item in record.objects if item.key.endswith("safetensors"))
    data = bytearray((model / "model.safetensors").read_bytes())
    data[2500] ^= 1
    (tmp_path / "damaged").write_bytes(data)
    anywhere.store.upload(anywhere.key(key), tmp_path / "damaged")
    with pytest.raises(ArtifactError, match=r"model.safetensors: SHA-256 is .*; delete .*checkpoint.* and resume"):
        anywhere.fetch(CHECKPOINT, tmp_path / "scratch")


def damage(run: Run, relative: str, data: bytes | None) -> None:
    path = run.store.local_path(run.key(relative))
    assert path is not None
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)


def cut(run: Run, relative: str) -> None:
    damage(run, relative, run.store.get(run.key(relative))[:-20])


def other_coordinates(run: Run, relative: str) -> None:
    kind = Index if relative == INDEX else PartRecord
    record = kind.model_validate_json(run.store.get(run.key(relative))).model_copy(update={"split": "test"})
    damage(run, relative, record.sealed().model_dump_json().encode())


def outside(run: Run, relative: str) -> None:
    record = json.loads(run.store.get(run.key(relative)))
    record["objects"][0]["key"] = "../../../etc/passwd"
    damage(run, relative, json.dumps(record).encode())


def other_rows(run: Run, relative: str) -> None:
    text = run.store.get(run.key(relative)).decode()
    damage(run, relative, text.replace('"rows": 7', '"rows": 3').encode())


def no_part(run: Run, relative: str) -> None:
    record = json.loads(run.store.get(run.key(relative)))
    damage(run, relative, json.dumps({**record, "part": 1}).encode())


def newer(run: Run, relative: str) -> None:
    record = json.loads(run.store.get(run.key(relative)))
    damage(run, relative, json.dumps({**record, "format": 2}).encode())


PART = "problems/train/parts/00000-of-00001.json"
INDEX = "problems/train/index.json"


@pytest.mark.parametrize(
    ("harm", "relative", "message"),
    [
        (cut, "spec.json", r"runs/r1/spec.json: Invalid JSON: EOF .*; restore the file"),
        (cut, PART, rf"runs/r1/{PART}: Invalid JSON: .*; delete it and .*index.json, and resume"),
        (cut, INDEX, rf"runs/r1/{INDEX}: Invalid JSON: .*; delete it and resume"),
        (
            other_coordinates,
            PART,
            rf"runs/r1/{PART}: is the record of problems/test/.*; delete it and .*index.json, and resume",
        ),
        (other_coordinates, INDEX, rf"runs/r1/{INDEX}: is the record of problems/test/.*; delete it and resume"),
        (outside, PART, rf"runs/r1/{PART}: objects.0.key: key '../../../etc/passwd' leaves the store.*; delete it"),
        (outside, INDEX, rf"runs/r1/{INDEX}: objects.0.key: key '../../../etc/passwd' leaves the store.*; delete it"),
        (
            other_rows,
            PART,
            rf"runs/r1/{PART} is damaged: its checksum is not its own; delete it and .*index.json, and resume",
        ),
        (other_rows, INDEX, rf"runs/r1/{INDEX} is damaged: its checksum is not its own; delete it and resume"),
        (no_part, PART, rf"runs/r1/{PART}: part 1 of 1 is none; delete it and runs/r1/problems/train/index.json, and"),
        (newer, INDEX, rf"runs/r1/{INDEX}: format: Input should be 1, got 2"),
    ],
)
def test_a_damaged_record_is_one_clear_line(
    harm: Callable[[Run, str], None], relative: str, message: str, run: Run, tmp_path: Path
) -> None:
    commit_numbers(run, Part(), tmp_path)
    harm(run, relative)
    again = Run.open(run.uri)
    with pytest.raises(ArtifactError, match=message) as caught:
        again.find_part(PROBLEMS, Part())
        again.get_index(PROBLEMS)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_missing_object_is_one_clear_line(run: Run, tmp_path: Path) -> None:
    record = commit_numbers(run, Part(), tmp_path)
    damage(run, record.objects[0].key, None)
    with pytest.raises(ArtifactError, match=r"is named in an index but not in the store; delete .* and resume"):
        list(run.read(PROBLEMS, Problem))
    with pytest.raises(ArtifactError, match=r"00000-of-00001-.*jsonl is missing; delete .* and resume"):
        run.fetch(PROBLEMS, tmp_path)


@pytest.mark.parametrize("relative", [PART, INDEX])
def test_any_flipped_bit_in_a_record_is_found(relative: str, run: Run, tmp_path: Path) -> None:
    commit_numbers(run, Part(), tmp_path)
    kind = Index if relative == INDEX else PartRecord
    intact = run.store.get(run.key(relative))
    assert kind.model_validate_json(intact).is_intact()
    for bit in range(len(intact) * 8):
        flipped = bytearray(intact)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            record = kind.model_validate_json(bytes(flipped))
        except ValueError:
            continue
        assert not record.is_intact(), f"bit {bit} of {relative}"


def test_a_spec_of_an_earlier_version_keeps_its_digest_when_fields_are_added(run: Run, tmp_path: Path) -> None:
    document = json.loads(run.store.get(run.key("spec.json")))
    del document["train"]["weight_decay"]
    older = Run(LocalStore(tmp_path / "older"), "r1")
    older.create(RunSpec())
    damage(older, "spec.json", json.dumps(document).encode())
    commit_numbers(older, Part(), tmp_path)
    again = Run.open(older.uri)
    assert again.get_index(PROBLEMS).spec_sha256 == again.spec_sha256 != again.spec.digest()


def test_rows_that_are_too_few_are_found(run: Run, tmp_path: Path) -> None:
    record = commit_numbers(run, Part(), tmp_path)
    wrong = record.model_copy(update={"objects": (record.objects[0].model_copy(update={"rows": 9}),)})
    damage(run, PART, wrong.sealed().model_dump_json().encode())
    with pytest.raises(ArtifactError, match="9 rows expected, 7 found"):
        list(run.read(PROBLEMS, Problem, Part()))


def test_leftovers_of_killed_writers_change_nothing(run: Run, tmp_path: Path) -> None:
    folder = run.store.local_path(run.key("problems/train/parts"))
    assert folder is not None
    folder.mkdir(parents=True)
    (folder / ".staged-abc").write_bytes(b"{")
    commit_numbers(run, Part(), tmp_path)
    assert list(run.read(PROBLEMS, Problem)) == [problem(number) for number in range(7)]


def test_a_part_of_another_spec_is_refused(run: Run, tmp_path: Path) -> None:
    commit_numbers(run, Part(), tmp_path)
    damage(run, "spec.json", RunSpec(seed=43).to_json().encode())
    with pytest.raises(ArtifactError, match=r"was made with spec .*, the run's is .*; start a new run"):
        Run.open(run.uri).find_part(PROBLEMS, Part())
