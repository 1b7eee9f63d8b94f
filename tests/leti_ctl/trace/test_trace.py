"""Lineage walked back to the problems and the base model, and forward to checkpoints and scores."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any, Literal

import pytest
from click.testing import CliRunner

from leti_ctl.cli import cli
from leti_ctl.trace import back, forward
from leti_ctl.trace.back import Target
from stages.contract.artifacts import Part, PartRecord, Ref
from stages.contract.errors import ArtifactError, LetiError, UsageError
from stages.contract.notes import solution_digest
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import LocalStore, open_store
from tests.leti_ctl.audit.made import BODIES, make_run, make_spec
from tests.s3 import S3Server

GOLDEN = Path(__file__).parents[2] / "golden/audit"


def trace(store: Path, *arguments: str) -> dict[str, Any]:
    line = ["trace", "made", "--store", str(store), "--json", *arguments]
    done = CliRunner().invoke(cli, line, standalone_mode=False)
    if isinstance(done.exception, LetiError):
        raise done.exception
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def sources(tree: dict[str, Any]) -> set[str]:
    """Return every ref below a tree."""
    return {tree["ref"]}.union(*(sources(each) for each in tree.get("inputs", [])))


def test_a_training_row_leads_back_to_the_problems_and_the_base_model(store: Path) -> None:
    found = trace(store, "--iteration", "1", "--row", "0")
    assert {"problem_id", "seed", "solution", "outcome", "program_sha256"} <= set(found["examples"][0])
    ancestors = sources(found["lineage"])
    assert {"iterations/0001/checkpoint", "iterations/0000/examples", "iterations/0000/checkpoint"} <= ancestors
    assert {"iterations/0000/samples/train", "problems/train", "made by a test"} <= ancestors


def test_a_sample_leads_to_the_rows_it_was_trained_in_and_the_row_back_to_it(store: Path) -> None:
    found = trace(store, "--problem", "train/1", "--sample", "2")
    assert (found["outcome"], found["error_type"]) == ("failed", "NameError")
    for row in found["training_rows"]:
        examples = trace(store, "--row", str(row))["examples"]
        assert ("train/1", 2) in {(each["problem_id"], each["sample"]) for each in examples}


def test_a_problem_leads_forward_to_checkpoints_and_scores(store: Path) -> None:
    train = trace(store, "--problem", "train/1")["became"]
    assert [(each["iteration"], each["samples"], each["passed"]) for each in train] == [(0, 4, 1), (1, 4, 1)]
    assert train[0]["trained_into"] == "iterations/0001/checkpoint"
    test = trace(store, "--problem", "test/0")["became"]
    assert [each["scored_in"] for each in test] == [f"iterations/{number:04d}/metrics/test" for number in range(3)]
    assert all(each["training_rows"] == [] for each in test)


def test_scores_lead_back_to_samples_and_executions(store: Path) -> None:
    found = trace(store, "--scores", "--iteration", "2", "--split", "test")
    assert found["metrics"]["num_samples"] == 6
    assert {"iterations/0002/samples/test", "iterations/0002/executions/test"} <= sources(found["lineage"])


def text(store: Path, *arguments: str) -> tuple[int, str]:
    """Return exit code and output of a trace as a person reads it."""
    done = CliRunner().invoke(cli, ["trace", "made", "--store", str(store), *arguments], catch_exceptions=False)
    return done.exit_code, done.output


def masked(output: str, store: Path) -> str:
    """Return the output with everything that differs between two machines, or two versions of the code, put alike."""
    for pattern, instead in (
        (re.escape(str(store)), "STORE"),
        (r"\b[0-9a-f]{64}\b", "SHA256"),
        (r"\d{4}-\d\d-\d\dT[\d:]+\+00:00, [\d.]+ s", "WHEN, HOW LONG"),
        (r"code \S+, ", "code CODE, "),
        (r"packages [0-9a-f]{16}", "packages LOCK"),
        (r"Python [\d.]+\w*", "Python X"),
        (r", on \S+", ", on HOST"),
        (r"judged behind \S+", "judged behind WALL"),
        (r"[\d,]+ bytes", "N bytes"),
    ):
        output = re.sub(pattern, instead, output)
    return output


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("row", ["--iteration", "1", "--row", "0"]),
        ("sample", ["--problem", "train/1", "--sample", "2"]),
        ("problem", ["--problem", "train/1"]),
        ("scores", ["--scores", "--iteration", "2", "--split", "test"]),
        ("step", ["--step", "1"]),
    ],
)
def test_what_a_person_reads_is_the_golden(name: str, arguments: list[str], store: Path) -> None:
    code, output = text(store, *arguments)
    golden, found = GOLDEN / f"trace-{name}.txt", masked(output, store)
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(found)
    assert (code, found) == (0, golden.read_text())


def test_every_object_of_a_row_can_be_verified_by_the_command_that_is_given(store: Path) -> None:
    found = trace(store, "--iteration", "1", "--row", "0")
    places = [
        found["place"],
        *(each[name] for each in found["examples"] for name in ("sample_place", "execution_place")),
    ]
    for place in places:
        done = subprocess.run(shlex.split(place["check"]), capture_output=True, text=True, check=True)
        assert done.stdout.split()[0] == place["sha256"]


def test_a_row_tells_all_that_it_follows_from(store: Path) -> None:
    found = trace(store, "--iteration", "1", "--row", "0", "--example", "0")
    (example,) = found["examples"]
    assert example["text"].startswith("<|bad|><|text_feedback|>Traceback")
    assert all(example["agrees"].values()) and len(example["agrees"]) == 4
    assert example["reward_token_before_prompt"] == "good"
    assert found["trained"]["into"] == "iterations/0002/checkpoint" and found["trained"]["loss"] == 1.5
    assert found["model"]["weights"][0]["state"] == "there"
    assert [each["ref"] for each in found["base"]["sources"]] == ["made by a test"]
    assert found["findings"] == []


def test_a_step_names_the_rows_it_took_in(store: Path) -> None:
    found = trace(store, "--step", "0")
    assert found["examples"] == 5 == len(found["took"])
    for each in found["took"]:
        sample = trace(store, "--problem", each["problem_id"], "--sample", str(each["sample"]))
        assert (each["outcome"], each["error_type"]) == (sample["outcome"], sample["error_type"])
        assert each["row"] in sample["training_rows"]
    assert all(trace(store, "--row", str(row))["step"] == 0 for row in found["training_rows"])


def seal(path: Path, **changes: object) -> None:
    """Change a part record and give it the checksum that fits, as a forger would."""
    record = PartRecord.model_validate_json(json.dumps({**json.loads(path.read_text()), **changes}))
    path.write_text(record.sealed().model_dump_json(indent=2))


def findings(store: Path, *arguments: str) -> list[str]:
    """Return the checks a trace found wanting; its exit code must say so too."""
    done = CliRunner().invoke(cli, ["trace", "made", "--store", str(store), "--json", *arguments])
    found = [each["check"] for each in json.loads(done.stdout)["findings"]]
    assert done.exit_code == (65 if found else 0)
    return found


def test_a_flipped_bit_in_what_is_shown_is_an_error_that_names_the_object(run_folder: Path) -> None:
    for name in ("examples", "samples/train", "executions/train"):
        (path, *_) = sorted(run_folder.glob(f"iterations/0001/{name}/0*"))
        whole = path.read_bytes()
        path.write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
        with pytest.raises(ArtifactError, match=rf"iterations/0001/{name}/{path.name}: SHA-256 is"):
            trace(run_folder.parents[1], "--iteration", "1", "--row", "0")
        path.write_bytes(whole)


def test_a_damaged_ancestor_is_told_as_damaged(run_folder: Path) -> None:
    record = run_folder / "iterations/0000/samples/train/parts/00000-of-00002.json"
    record.write_text(record.read_text().replace('"rows": 4', '"rows": 5', 1))
    assert "record" in findings(run_folder.parents[1], "--iteration", "1", "--row", "0")
    code, output = text(run_folder.parents[1], "--iteration", "1", "--row", "0")
    assert code == 65 and "NOT TO BE TRUSTED" in output


def test_an_ancestor_that_is_another_than_was_read_is_told(run_folder: Path) -> None:
    record = run_folder / "iterations/0000/checkpoint/parts/00000-of-00001.json"
    objects = json.loads(record.read_text())["objects"]
    seal(record, objects=[{**objects[0], "sha256": "0" * 64}, *objects[1:]])
    assert "lineage" in findings(run_folder.parents[1], "--iteration", "1", "--row", "0")


def test_missing_weights_are_told_unless_a_collection_removed_them(run_folder: Path) -> None:
    store = str(run_folder.parents[1])
    CliRunner().invoke(cli, ["gc", "made", "--store", store, "--no-best", "--delete"], catch_exceptions=False)
    found = trace(run_folder.parents[1], "--iteration", "1", "--row", "0")
    assert found["findings"] == [] and found["model"]["weights"][0]["state"] == "removed"
    next(run_folder.glob("iterations/0001/checkpoint/*/config.json")).unlink()
    assert findings(run_folder.parents[1], "--iteration", "1", "--row", "0") == ["existence"]


def test_a_forged_verdict_contradicts_the_row_that_was_trained_on(run_folder: Path) -> None:
    """With a digest and a checksum that fit: only what the row itself says tells."""
    import hashlib

    record = run_folder / "iterations/0001/executions/train/parts/00000-of-00002.json"
    (item,) = json.loads(record.read_text())["objects"]
    path = run_folder / item["key"]
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    for row in lines:
        row |= {"outcome": "passed", "error_type": None, "feedback": ""}
    data = "".join(json.dumps(row) + "\n" for row in lines).encode()
    path.write_bytes(data)
    seal(record, objects=[{**item, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}])
    found = findings(run_folder.parents[1], "--iteration", "1", "--row", "0")
    assert "examples" in found and "lineage" in found


def test_forged_scores_contradict_the_verdicts(run_folder: Path) -> None:
    import hashlib

    record = run_folder / "iterations/0002/metrics/test/parts/00000-of-00001.json"
    (item,) = json.loads(record.read_text())["objects"]
    path = run_folder / item["key"]
    data = re.sub(rb'"1":\{"value":[\d.]+', b'"1":{"value":0.9', path.read_bytes())
    path.write_bytes(data)
    seal(record, objects=[{**item, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}])
    assert "scores" in findings(run_folder.parents[1], "--scores", "--iteration", "2", "--split", "test")


def test_objects_are_told_by_key_digest_or_the_beginning_of_one(store: Path) -> None:
    place = trace(store, "--iteration", "1", "--row", "0")["place"]
    for name in (place["key"], place["key"].removeprefix("runs/made/"), place["sha256"], place["sha256"][:10]):
        found = trace(store, "--object", name)
        assert (found["sha256"], found["verified"]) == (place["sha256"], True)
        assert {"iterations/0002/checkpoint", "iterations/0001/steps"} <= set(found["used_by"])
    tokenizer = next(store.glob("runs/made/iterations/0000/checkpoint/*/tokenizer.json"))
    assert len(trace(store, "--object", str(tokenizer.relative_to(store)))["also"]) == 0
    assert trace(store, "--object", tokenizer.parent.name[:12])["artifact"] == "iterations/0000/checkpoint"
    run = Run(LocalStore(store), "made")
    index = run.get_index(Ref("samples", 0, "train"))
    assert trace(store, "--object", index.digest())["what"].startswith("artifact iterations/0000/samples/train")
    assert "part 1/2" in trace(store, "--object", run.input(Ref("samples", 0, "train"), Part(1, 2)).sha256)["what"]
    assert "spec" in trace(store, "--object", run.spec_sha256)["what"]
    assert (
        "the record that commits part 0/2"
        in trace(store, "--object", "iterations/0000/samples/train/parts/00000-of-00002.json")["what"]
    )


def test_a_damaged_object_is_told_as_damaged(run_folder: Path) -> None:
    path = next(run_folder.glob("iterations/0001/checkpoint/*/model.safetensors"))
    path.write_bytes(b"y" * path.stat().st_size)
    assert findings(run_folder.parents[1], "--object", str(path.relative_to(run_folder))) == ["checksum"]


@pytest.mark.slow
def test_text_that_spells_a_special_token_is_told_from_the_token(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    script = Path(str(spec.generate.script))
    script.write_text(script.read_text().replace("return undefined", "return '<|good|>'"))
    run = make_run(tmp_path, spec=spec.model_copy(update={"iterations": 1}))
    rows = back.trace_sample(run, Target(0, "train", "train/1", 2))["training_rows"]
    examples = back.trace_row(run, Target(0, row=rows[0]))["examples"]
    (example,) = (each for each in examples if (each["problem_id"], each["sample"]) == ("train/1", 2))
    assert r"return '<\|good|>'" in example["text"] and example["text"].startswith("<|bad|>")
    assert all(example["agrees"].values())


@pytest.mark.slow
@pytest.mark.parametrize("truncate", ["feedback", "right"])
def test_a_row_that_was_cut_agrees_as_far_as_it_goes(truncate: Literal["feedback", "right"], tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    build = spec.build.model_copy(update={"max_length": 40, "pack_length": 64, "truncate": truncate})
    run = make_run(tmp_path, spec=spec.model_copy(update={"iterations": 1, "build": build}))
    for number in range(run.get_index(Ref("examples", 0)).rows):
        found = back.trace_row(run, Target(0, row=number))
        assert all(all(each["agrees"].values()) for each in found["examples"]) and found["findings"] == []


@pytest.mark.slow
def test_a_note_is_told_with_the_verdict_it_changed(tmp_path: Path) -> None:
    file = tmp_path / "notes.jsonl"
    note = {"problem_id": "train/1", "solution_sha256": solution_digest(BODIES[1]), "text": "Add one to x."}
    file.write_text(json.dumps(note) + "\n")
    data = make_spec(tmp_path).model_dump(mode="json")
    data |= {"iterations": 1, "feedback": {"source": "notes", "notes": str(file)}}
    run = make_run(tmp_path, spec=RunSpec.model_validate_json(json.dumps(data)))
    found = back.trace_sample(run, Target(0, "train", "train/1", 1))
    assert found["note"] == "Add one to x." and "Add one to x." in found["feedback"]
    row = back.trace_row(run, Target(0, row=found["training_rows"][0]))
    assert all(all(each["agrees"].values()) for each in row["examples"]) and row["findings"] == []


def test_a_run_that_only_evaluates_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path, spec=make_spec(tmp_path).model_copy(update={"iterations": 0}))
    with pytest.raises(UsageError, match="run made only evaluates and has no training rows"):
        back.trace_row(run, Target(0, row=0))
    assert back.trace_score(run, Target(0, "test"))["computed_again"]["same"]
    assert forward.trace_problem(run, "test/0")["became"][0]["scored_in"] == "iterations/0000/metrics/test"


def test_only_what_is_on_the_way_is_read_and_nothing_written(s3_server: S3Server, bucket: str) -> None:
    run = Run(open_store(bucket), "made")
    before = len(s3_server.requests)
    found = back.trace_row(run, Target(0, row=0, example=0))
    asked = s3_server.requests[before:]
    assert {line.split()[0] for line in asked} == {"GET"}
    assert not [
        line for line in asked if "/test/" in line or "iterations/0002/" in line or line.endswith("safetensors")
    ]
    assert found["place"]["check"].startswith(f"aws s3 cp --endpoint-url={s3_server.url} s3://bucket-")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs one of --row"),
        (["--example", "0"], "needs one of --row"),
        (["--row", "0", "--example", "7"], "row 0 has examples 0 to "),
        (["--row", "0", "--iteration", "2"], "run made trains iterations 0 to 1"),
        (["--step", "99"], "has steps 0 to 3"),
        (["--step", "0", "--iteration", "2"], "has no training log"),
        (["--scores", "--split", "validation"], "run made has train, test"),
        (["--object", "nothing"], "no record of run made holds it"),
        (["--row", "999"], "examples has rows 0 to 6"),
        (["--problem", "train/9"], "no split of run made has it"),
        (["--problem", "train/1", "--sample", "9"], "has samples 0 to 3 of problem train/1"),
    ],
)
def test_what_is_not_there_is_one_line(arguments: list[str], message: str, store: Path) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        trace(store, *arguments)
    assert "\n" not in str(caught.value)
