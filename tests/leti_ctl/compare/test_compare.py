"""Two runs and two iterations side by side: what differs, where they part, and whether it could be chance.

python -m pytest tests/leti_ctl/compare/test_compare.py -q
"""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from leti_ctl.cli import cli
from leti_ctl.compare.report import compare
from leti_ctl.compare.sides import Side
from leti_ctl.compare.surroundings import environment
from leti_ctl.compare.verdicts import paired
from stages.contract.artifacts import PartRecord
from stages.contract.errors import UsageError
from stages.contract.packages import lock_key
from stages.contract.records import Execution
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import LocalStore, open_store
from tests.leti_ctl.audit.made import BODIES, make_run, make_spec

GOLDEN = Path(__file__).parents[2] / "golden/audit"


def diff(store: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Return exit code and JSON."""
    done = CliRunner().invoke(cli, ["artifacts", "diff", *arguments, "--store", str(store), "--json"])
    return done.exit_code, json.loads(done.stdout)


def states(found: dict[str, Any]) -> dict[str, str]:
    return {row["artifact"]: row["state"] for row in found["artifacts"]}


def other_spec(folder: Path, **sections: dict[str, object]) -> RunSpec:
    """The spec of the run `made`, some fields changed."""
    data = json.loads(make_spec(folder).to_json())
    for section, fields in sections.items():
        data[section] |= fields
    return RunSpec.model_validate_json(json.dumps(data))


@pytest.fixture(scope="module")
def changed(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of its own with a run in which `train/1` is solved by another sample and `test/2` by none."""
    folder = tmp_path_factory.mktemp("changed")
    spec = other_spec(folder, train={"learning_rate": 2e-5})
    script = Path(str(spec.generate.script))
    rows = [json.loads(line) for line in script.read_text().splitlines()]
    for row in rows:
        if row["problem_id"] == "train/1":
            row["solutions"] = [BODIES[1], BODIES[1], BODIES[0].format(1), BODIES[3]]
        if row["problem_id"] == "test/2":
            row["solutions"] = [BODIES[2]] * 4
    script.write_text("".join(json.dumps(row) + "\n" for row in rows))
    make_run(folder, spec=spec.model_copy(update={"iterations": 1}))
    return folder / "store"


def test_a_run_and_itself_are_the_same(store: Path) -> None:
    code, found = diff(store, "made", "made")
    assert (code, found["same"], found["parted"], found["rows"]) == (0, True, None, None)
    assert set(states(found).values()) == {"same"} and len(found["artifacts"]) == 26
    assert found["environment"]["same"] and found["spec"] == []


@pytest.mark.slow
def test_a_run_that_was_killed_and_resumed_is_the_same_as_one_that_was_not(run_folder: Path, tmp_path: Path) -> None:
    """Of two stores, one run each; hosts and times differ, and are no difference."""
    killed = tmp_path / "killed"
    shutil.copytree(run_folder.parents[1], killed / "store")
    for folder in ("iterations/0001/executions", "iterations/0001/examples", "iterations/0002"):
        shutil.rmtree(killed / "store/runs/made" / folder)
    shutil.rmtree(killed / "store/runs/made/iterations/0001/metrics")
    spec = Run(LocalStore(killed / "store"), "made").spec
    make_run(killed, spec=spec)
    code, found = diff(run_folder.parents[1], "made", "--other-store", str(killed / "store"))
    assert (code, found["same"]) == (0, True)


def test_where_two_runs_part_is_named_with_the_reason(store: Path, changed: Path) -> None:
    code, found = diff(store, "made", "--other-store", str(changed))
    assert (code, found["same"]) == (1, False)
    changes = {each["field"]: each["compatible"] for each in found["spec"]}
    assert changes == {"generate.script": False, "iterations": True, "train.learning_rate": False}
    parted = found["parted"]
    assert (parted["same_before"], parted["artifact"]) == (
        "iterations/0000/checkpoint",
        "iterations/0000/samples/train",
    )
    assert (parted["part"], parted["made_from_the_same"]) == ("1/2", True)
    (row,) = found["rows"]["differing"]
    assert (row["of"]["problem_id"], row["of"]["sample"]) == ("train/1", 0)
    (solution,) = (each for each in row["columns"] if each["column"] == "solution")
    assert solution["diff"][1:] == [" ", "-    return x + 1", "+    return x", " "]


def test_problems_gained_and_lost_are_named_with_their_samples(store: Path, changed: Path) -> None:
    _, found = diff(store, "made", "--other-store", str(changed))
    passes = {(each["iterations"][0], each["split"]): each for each in found["verdicts"]}
    test = passes[0, "test"]
    assert test["lost"] == [{"problem_id": "test/2", "first": "1/2", "second": "0/2", "samples": [0]}]
    assert test["gained"] == []
    train = passes[0, "train"]
    assert (train["gained"], train["lost"]) == ([], []) and train["samples_changed"] == 2


def test_scores_stand_side_by_side_with_their_paired_difference(store: Path, changed: Path) -> None:
    _, found = diff(store, "made", "--other-store", str(changed))
    (test,) = (each for each in found["verdicts"] if (each["iterations"], each["split"]) == ([0, 0], "test"))
    (score,) = (each for each in test["scores"] if each["k"] == 2)
    assert score["difference"] == pytest.approx(score["second"]["value"] - score["first"]["value"])
    assert score["low"] <= score["difference"] <= score["high"] and score["pairs"] == 3
    assert (score["p"], score["significant"]) == (1.0, False)


def test_rows_of_another_artifact_are_shown_when_asked_for(store: Path, changed: Path) -> None:
    name = "iterations/0000/executions/train"
    _, found = diff(store, "made", "--other-store", str(changed), "--artifact", name, "--limit", "9")
    assert {row["of"]["problem_id"] for row in found["rows"]["differing"]} == {"train/1"}
    _, found = diff(store, "made", "--other-store", str(changed), "--artifact", "iterations/0000/examples")
    assert {"text"} <= {each["column"] for row in found["rows"]["differing"] for each in row["columns"]}


def test_training_examples_are_compared_with_themselves_however_they_are_packed(store: Path, changed: Path) -> None:
    name = "iterations/0000/examples"
    _, found = diff(store, "made", "--other-store", str(changed), "--artifact", name, "--limit", "99")
    differing = found["rows"]["differing"]
    assert differing and not any(each["only"] for each in differing)
    assert not {"epoch", "problem_id", "sample"} & {each["column"] for row in differing for each in row["columns"]}


def test_iterations_of_a_run_are_compared_by_their_data(store: Path) -> None:
    code, found = diff(store, "made", "--iterations", "0", "1")
    assert code == 1
    found_states = states(found)
    assert {found_states[name] for name in ("checkpoint", "samples/train")} == {"different"}
    assert found_states["executions/train"] == "same"
    assert found["parted"]["artifact"] == "checkpoint" and not found["parted"]["made_from_the_same"]


@pytest.mark.slow
def test_the_same_rows_in_other_parts_are_no_difference(store: Path, tmp_path: Path) -> None:
    make_run(tmp_path, spec=other_spec(tmp_path, generate={"parts": 3}).model_copy(update={"iterations": 1}))
    _, found = diff(store, "made", "--other-store", str(tmp_path / "store"))
    assert states(found)["iterations/0000/samples/train"] == "divided"
    assert states(found)["iterations/0000/executions/train"] == "divided"
    assert states(found)["iterations/0000/examples"] == "same"


def test_packages_that_differ_are_told_with_their_versions(run_folder: Path, tmp_path: Path) -> None:
    """With records that name another lock, as another image leaves them."""
    twin = tmp_path / "twin"
    shutil.copytree(run_folder, twin / "runs/made")
    for number, folder in enumerate((run_folder, twin / "runs/made")):
        text = f"Left_Pad-1.{number}\nnumpy-2.0\n" + ("only-b-3\n" if number else "")
        (folder / lock_key(text)).write_text(text)
        for path in folder.glob("iterations/**/parts/*.json"):
            record = PartRecord.model_validate_json(path.read_bytes())
            made = record.made.model_copy(
                update={"environment": {**record.made.environment, "packages": lock_key(text), "image": f"img{number}"}}
            )
            path.write_text(record.model_copy(update={"made": made}).sealed().model_dump_json())
        shutil.rmtree(folder / "problems")
    sides = [Side(Run(LocalStore(root), "made")) for root in (run_folder.parents[1], twin)]
    found = environment(*sides)
    assert found["images"] == [["img0"], ["img1"]] and not found["same"]
    assert found["versions"] == [
        {"package": "left-pad", "first": ["1.0"], "second": ["1.1"]},
        {"package": "only-b", "first": None, "second": ["3"]},
    ]


def test_damage_is_trouble_and_no_difference(run_folder: Path) -> None:
    record = run_folder / "iterations/0001/samples/train/parts/00000-of-00002.json"
    record.write_text(record.read_text()[:100])
    code, found = diff(run_folder.parents[1], "made", "made")
    assert code == 65 and not found["same"]
    assert found["findings"][0]["key"] == "iterations/0001/samples/train/parts/00000-of-00002.json"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["made"], "needs a second RUN"),
        (["made", "nobody"], "no run 'nobody'"),
        (["made", "--iterations", "0", "9"], "--iterations 9: run made has 0 to 2"),
        (["made", "made", "--artifact", "nothing"], "--artifact 'nothing': neither side has it"),
    ],
)
def test_what_cannot_be_compared_is_one_line_and_trouble(arguments: list[str], message: str, store: Path) -> None:
    line = ["artifacts", "diff", *arguments, "--store", str(store)]
    done = CliRunner().invoke(cli, line, standalone_mode=False)
    assert isinstance(done.exception, UsageError) and done.exception.exit_code == 2
    assert message in str(done.exception) and "\n" not in str(done.exception)


def test_a_run_that_has_committed_nothing_is_one_line(tmp_path: Path) -> None:
    run = Run(open_store(str(tmp_path / "other")), "empty")
    run.create(make_spec(tmp_path))
    with pytest.raises(UsageError, match="have committed nothing yet"):
        compare(Side(run), Side(run))


def test_the_comparison_that_a_person_reads_is_the_golden(store: Path, changed: Path) -> None:
    line = ["artifacts", "diff", "made", "--other-store", str(changed), "--store", str(store)]
    done = CliRunner().invoke(cli, line)
    found = done.output
    for pattern, instead in (
        (re.escape(str(store)), "A"),
        (re.escape(str(changed)), "B"),
        (r"'/\S+/script.jsonl'", "'SCRIPT'"),
        (r"  [0-9a-f]{16}", "  SHA256"),
        (r"-> [0-9a-f]{16}", "-> SHA256"),
    ):
        found = re.sub(pattern, instead, found)
    golden = GOLDEN / "diff.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(found)
    assert (done.exit_code, found) == (1, golden.read_text())


def outcomes(passes: dict[str, list[bool]]) -> dict[str, dict[int, Execution]]:
    return {
        name: {
            number: Execution(problem_id=name, sample=number, program_sha256="", outcome="passed" if each else "failed",
                              error_type=None, feedback="", isolation="none")
            for number, each in enumerate(samples)
        }
        for name, samples in passes.items()
    }  # fmt: skip


def test_the_sign_flip_test_is_exact_where_few_problems_differ() -> None:
    """Against counting every choice of signs with plain Python."""
    chance = random.Random(7)
    for _ in range(20):
        sides = [{f"p{n}": [chance.random() < 0.5 for _ in range(4)] for n in range(8)} for _ in range(2)]
        found = paired(outcomes(sides[0]), outcomes(sides[1]), 1)
        differences = [sum(sides[1][name]) / 4 - sum(sides[0][name]) / 4 for name in sides[0]]
        actual = abs(math.fsum(differences)) - 1e-12
        choices = list(itertools.product((1, -1), repeat=8))
        extreme = sum(
            abs(math.fsum(sign * each for sign, each in zip(choice, differences, strict=True))) >= actual
            for choice in choices
        )
        assert found["p"] == pytest.approx(extreme / len(choices))
        assert found["difference"] == pytest.approx(sum(differences) / 8)


def test_a_clear_difference_over_many_problems_is_significant_and_chance_is_not() -> None:
    chance = random.Random(3)
    base = {f"p{n}": [chance.random() < 0.3 for _ in range(8)] for n in range(60)}
    again = {name: [chance.random() < 0.3 for _ in range(8)] for name in base}
    better = {name: [chance.random() < 0.6 for _ in range(8)] for name in base}
    assert not paired(outcomes(base), outcomes(again), 1)["significant"]
    found = paired(outcomes(base), outcomes(better), 1)
    assert found["significant"] and found["low"] > 0.1
    assert paired(outcomes(base), outcomes(base), 1)["p"] == 1.0


def test_problems_of_one_side_alone_are_left_out() -> None:
    found = paired(outcomes({"a": [True]}), outcomes({"b": [True]}), 1)
    assert found["pairs"] == 0 and found["significant"] is None


def test_two_runs_in_a_bucket_and_a_folder_are_compared(finished: Path, bucket: str) -> None:
    found = compare(Side(Run(LocalStore(finished), "made")), Side(Run(open_store(bucket), "made")))
    assert set(states(found).values()) == {"same"}
