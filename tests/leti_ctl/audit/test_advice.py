"""What messages tell a user to do about damage is done, to the letter: the run comes back byte for byte, and clean."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from leti_ctl import control
from leti_ctl.audit.report import audit
from leti_ctl.pipeline import plan
from stages.contract.artifacts import DataObject, Index, Part, PartRecord, Ref
from stages.contract.errors import ArtifactError
from stages.contract.run import Commit, Run
from stages.contract.store import LocalStore
from tests.leti_ctl.audit.made import make_run

ROUNDS = 4
"""One piece of advice may lead to the next, but not for ever."""
REFS = {
    "problems": Ref("problems", split="train"),
    "checkpoint": Ref("checkpoint", 1),
    "samples": Ref("samples", 0, "train"),
    "executions": Ref("executions", 1, "test"),
    "examples": Ref("examples", 0),
    "steps": Ref("steps", 0),
    "optimizer": Ref("optimizer", 2),
    "metrics": Ref("metrics", 1, "test"),
}
each_artifact = pytest.mark.parametrize("ref", REFS.values(), ids=REFS)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def work(folder: Path) -> None:
    """What a user does: resume, and read everything."""
    run = make_run(folder)
    for unit in plan(run.spec).units:
        for ref in unit.outputs(run.spec):
            run.fetch(ref, folder)


def follow(message: str, store: Path) -> None:
    """Delete what a message says is to be deleted."""
    found = re.search(r"delete (.+?),? and resume", message)
    assert found, message
    for what in re.split(r", and |, | and ", found[1]):
        named = re.search(r"runs/[^\s:,]+", message if what in ("it", "the index") else what)
        assert named, message
        kept = re.fullmatch(r"all but (\S+) in \S+", what)
        path = store / named[0]
        if kept:
            for each in set(path.iterdir()) - set(path.glob(kept[1])):
                each.unlink()
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def work_on_advice(folder: Path) -> list[str]:
    """Work, and do what each message says until there is none; return them."""
    messages: list[str] = []
    for _ in range(ROUNDS):
        try:
            work(folder)
            return messages
        except ArtifactError as error:
            messages.append(str(error))
            follow(messages[-1], folder / "store")
    raise AssertionError(messages)


def contents(run: Path) -> dict[str, object]:
    """Every object; of a part record what is the same whenever it is made."""
    return {
        path.relative_to(run).as_posix(): PartRecord.model_validate_json(path.read_bytes()).model_copy(
            update={"made": None, "checksum": ""}
        )
        if path.parent.name == "parts"
        else path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and "environments" not in path.parts
    }


@pytest.fixture
def heals(run_folder: Path, finished: Path) -> Callable[[str], None]:
    """A check that work ends, on such advice, in what an undisturbed run left."""
    folder = run_folder.parents[2]

    def check(advice: str) -> None:
        messages = work_on_advice(folder)
        assert any(re.search(advice, message) for message in messages), messages
        assert contents(run_folder) == contents(finished / "runs/made")
        report = audit(Run(LocalStore(folder / "store"), "made"))
        assert [finding.line for finding in report.findings] == []

    return check


def first_object(run_folder: Path, ref: Ref) -> Path:
    record = next((run_folder / ref.prefix / "parts").iterdir())
    return run_folder / PartRecord.model_validate_json(record.read_bytes()).objects[-1].key


@pytest.mark.slow
@each_artifact
def test_a_damaged_object_is_made_again(ref: Ref, run_folder: Path, heals: Callable[[str], None]) -> None:
    flip(first_object(run_folder, ref))
    heals(rf"SHA-256 is .*; delete runs/made/{ref.prefix} and resume the run")


@pytest.mark.soak
@each_artifact
def test_a_missing_object_is_made_again(ref: Ref, run_folder: Path, heals: Callable[[str], None]) -> None:
    first_object(run_folder, ref).unlink()
    heals(rf"is missing; delete runs/made/{ref.prefix} and resume the run")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["steps", "samples", "metrics"])
def test_a_damaged_part_record_is_made_again(name: str, run_folder: Path, heals: Callable[[str], None]) -> None:
    folder = run_folder / REFS[name].prefix / "parts"
    flip(sorted(folder.iterdir())[-1])
    heals(rf"/parts/.*delete it and runs/made/{REFS[name].prefix}/index.json, and resume")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["problems", "checkpoint"])
def test_a_damaged_index_is_made_again(name: str, run_folder: Path, heals: Callable[[str], None]) -> None:
    flip(run_folder / REFS[name].prefix / "index.json")
    heals(r"index.json.*; delete it and resume")


@pytest.mark.slow
def test_a_record_copied_over_another_is_made_again(run_folder: Path, heals: Callable[[str], None]) -> None:
    folder = run_folder / REFS["samples"].prefix / "parts"
    shutil.copyfile(folder / "00000-of-00002.json", folder / "00001-of-00002.json")
    heals(r"is the record of .*; delete it and .*index.json, and resume")


@pytest.mark.slow
def test_parts_of_a_division_that_is_not_the_specs_go(run_folder: Path, heals: Callable[[str], None]) -> None:
    ref = REFS["samples"]
    path = next((run_folder / ref.prefix / "parts").glob("00000-of-*"))
    record = PartRecord.model_validate_json(path.read_bytes()).model_copy(update={"parts": 3}).sealed()
    (path.parent / "00000-of-00003.json").write_text(record.model_dump_json(indent=2))
    (run_folder / ref.index_key).unlink()
    heals(r"divided into 2 and into 3 parts, the spec says 2; delete all but \*-of-00002.json in ")


@pytest.mark.slow
def test_an_index_that_is_not_of_its_parts_is_made_again(run_folder: Path, heals: Callable[[str], None]) -> None:
    """Forged to fit itself; nobody need compare it with the parts until one of them is committed again."""
    ref = REFS["steps"]
    path = run_folder / ref.index_key
    index = Index.model_validate_json(path.read_bytes())
    other = DataObject(key=index.objects[0].key, sha256="0" * 64, size=3)
    path.write_text(index.model_copy(update={"objects": (other,)}).sealed().model_dump_json(indent=2))
    next((run_folder / ref.prefix / "parts").iterdir()).unlink()
    heals(r"index.json is not of the parts that are there: .*; delete the index and resume")


@pytest.mark.slow
def test_rows_that_were_forged_twice_over_are_made_again(run_folder: Path, finished: Path) -> None:
    """`evaluate` names no key; what it says leads, by and by, to a run that is as it was."""
    ref = Ref("executions", 2, "test")
    shutil.rmtree(run_folder / Ref("metrics", 2, "test").prefix)
    forge_twice(run_folder, ref)
    folder = run_folder.parents[2]
    with pytest.raises(ArtifactError, match=r"was executed twice; delete the executions and resume"):
        work(folder)
    shutil.rmtree(run_folder / ref.prefix)
    work(folder)
    assert contents(run_folder) == contents(finished / "runs/made")


def forge_twice(run_folder: Path, ref: Ref) -> None:
    """Let the first row stand twice, in an object and records that fit each other."""
    path = next((run_folder / ref.prefix / "parts").iterdir())
    record = PartRecord.model_validate_json(path.read_bytes())
    lines = (run_folder / record.objects[0].key).read_bytes().splitlines(keepends=True)
    run = Run(LocalStore(run_folder.parents[1]), "made")
    scratch = run_folder.parents[2] / "forged.jsonl"
    scratch.write_bytes(b"".join([lines[0], *lines]))
    shutil.rmtree(run_folder / ref.prefix)
    part = Part(record.part, record.parts)
    run.commit(Commit(ref, part, {scratch: len(lines) + 1}, record.inputs, record.seed, record.made, record.facts))


@pytest.mark.slow
def test_an_amendment_that_is_damaged_gives_way_to_the_one_before(run_folder: Path) -> None:
    run = Run(LocalStore(run_folder.parents[1]), "made")
    control.amend(run, run.spec.model_copy(update={"iterations": 3}))
    amendment = run_folder / "control/drivers/0000.json"
    flip(amendment)
    with pytest.raises(ArtifactError, match=r"drivers/0000.json.*; delete it and all below .*drivers/0000/, and"):
        control.current_spec(run)
    amendment.unlink()
    shutil.rmtree(amendment.with_suffix(""))
    assert control.current_spec(run) == run.spec
    assert json.loads((run_folder / "spec.json").read_text())["iterations"] == 2
