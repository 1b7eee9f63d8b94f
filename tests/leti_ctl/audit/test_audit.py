"""The audit: clean runs are clean, and everything that can be wrong in a store is named."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from leti_ctl.audit.report import Depth, Report, audit
from leti_ctl.cli import cli
from leti_ctl.inventory.finding import CHECKS
from stages.contract.artifacts import Index, PartRecord
from stages.contract.records import Execution, Metrics, Sample, read_rows, write_rows
from stages.contract.run import Run
from stages.contract.store import LocalStore
from tests.conftest import ROOT

Harm = Callable[[Path], None]


def audited(run_folder: Path, depth: Depth | None = None) -> Report:
    return audit(Run(LocalStore(run_folder.parents[1]), run_folder.name), depth or Depth())


def test_a_finished_run_is_clean(finished: Path) -> None:
    report = audited(finished / "runs/made")
    assert [finding.line for finding in report.findings] == []
    assert report.clean
    assert report.objects > 30
    assert report.rows > 100


def test_an_audit_writes_nothing(run_folder: Path) -> None:
    (run_folder / "iterations/0000/samples/train/index.json").unlink()
    before = snapshot(run_folder)
    audited(run_folder)
    assert snapshot(run_folder) == before


def test_a_resume_writes_the_checksum_that_a_killed_submit_did_not_come_to(run_folder: Path) -> None:
    checksum = run_folder / "spec.sha256"
    written = checksum.read_bytes()
    checksum.unlink()
    assert [finding.key for finding in audited(run_folder).findings] == ["spec.sha256"]
    resume = ("resume", run_folder.name, "--store", str(run_folder.parents[1]))
    assert CliRunner().invoke(cli, resume, catch_exceptions=False).exit_code == 0
    assert checksum.read_bytes() == written and not audited(run_folder).findings


@pytest.mark.slow
def test_a_flipped_bit_in_any_object_is_found(run_folder: Path) -> None:
    random.seed(1)
    for path in sorted(path for path in run_folder.rglob("*") if path.is_file()):
        if path.relative_to(run_folder).parts[0] in ("logs", "control"):
            continue
        intact = path.read_bytes()
        flipped = bytearray(intact)
        bit = random.randrange(len(intact) * 8)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        assert not is_clean(run_folder), f"bit {bit} of {path.relative_to(run_folder)}"
        path.write_bytes(intact)
    assert is_clean(run_folder)


def is_clean(run_folder: Path) -> bool:
    """What the exit code of `leti-ctl audit` says: a run whose spec cannot be read is not clean either."""
    from stages.contract.errors import LetiError

    try:
        return audited(run_folder).clean
    except LetiError:
        return False


@pytest.mark.slow
def test_every_deleted_object_is_found_or_is_work_to_do(run_folder: Path) -> None:
    for path in sorted(path for path in run_folder.rglob("*") if path.is_file()):
        if path.name in ("spec.json", "spec.sha256") or path.relative_to(run_folder).parts[0] in ("logs", "control"):
            continue
        intact = path.read_bytes()
        path.unlink()
        report = audited(run_folder)
        assert report.findings, path
        last_of_its_chain = path.name == "index.json"
        assert last_of_its_chain or not report.clean, path
        path.write_bytes(intact)


def reseal(folder: Path) -> None:
    """Make an artifact's records fit its rows again, as somebody would who wants to hide a change."""
    import hashlib

    record_path = sorted((folder / "parts").iterdir())[0]
    record = PartRecord.model_validate_json(record_path.read_text())
    run_folder = next(parent for parent in folder.parents if (parent / "spec.json").exists())
    objects = []
    for item in record.objects:
        data = (run_folder / item.key).read_bytes()
        new = item.model_copy(
            update={"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "rows": data.count(b"\n")}
        )
        objects.append(new)
    rows = sum(item.rows for item in objects)
    record = record.model_copy(update={"objects": tuple(objects), "rows": rows}).sealed()
    record_path.write_text(record.model_dump_json(indent=2))
    index_path = folder / "index.json"
    index = Index.model_validate_json(index_path.read_text())
    later = [PartRecord.model_validate_json(path.read_text()) for path in sorted((folder / "parts").iterdir())]
    merged = tuple(item for each in later for item in each.objects)
    index = index.model_copy(update={"objects": merged, "rows": sum(each.rows for each in later)}).sealed()
    index_path.write_text(index.model_dump_json(indent=2))


def edit(folder: Path, kind: type, change: Callable[[list], list]) -> None:  # type: ignore[type-arg]
    """Change the rows of an artifact's first part and hide it."""
    path = sorted(folder.glob("*.jsonl"))[0]
    rows = list(read_rows(path.read_bytes().splitlines(), kind, source="rows"))
    path.write_bytes(b"".join(write_rows(change(rows))))
    reseal(folder)


def forge_a_pass(run_folder: Path) -> None:
    def change(rows: list[Execution]) -> list[Execution]:
        wrong = next(number for number, row in enumerate(rows) if row.outcome == "failed")
        forged = rows[wrong].model_copy(update={"outcome": "passed", "error_type": None, "feedback": ""})
        return [*rows[:wrong], forged, *rows[wrong + 1 :]]

    edit(run_folder / "iterations/0000/executions/train", Execution, change)


def forge_a_score(run_folder: Path) -> None:
    def change(rows: list[Metrics]) -> list[Metrics]:
        better = rows[0].pass_at_k["1"].model_copy(update={"value": 1.0, "high": 1.0})
        return [rows[0].model_copy(update={"pass_at_k": {**rows[0].pass_at_k, "1": better}})]

    edit(run_folder / "iterations/0002/metrics/test", Metrics, change)


def drop_a_sample(run_folder: Path) -> None:
    edit(run_folder / "iterations/0001/samples/test", Sample, lambda rows: rows[1:])


def double_a_sample(run_folder: Path) -> None:
    edit(run_folder / "iterations/0001/samples/test", Sample, lambda rows: [*rows[:-1], rows[0]])


def change_a_seed(run_folder: Path) -> None:
    edit(
        run_folder / "iterations/0001/samples/test",
        Sample,
        lambda rows: [rows[0].model_copy(update={"seed": 1}), *rows[1:]],
    )


def swap_a_checkpoint(run_folder: Path) -> None:
    """Another model under the old record's name: the record is made to fit, what was made from it is not."""
    folder = run_folder / "iterations/0001/checkpoint"
    next(folder.rglob("model.safetensors")).write_bytes(b"other weights")
    reseal(folder)


@pytest.mark.parametrize(
    ("harm", "checks"),
    [
        (forge_a_pass, {"lineage", "scores", "tokens"}),
        (forge_a_score, {"scores"}),
        (drop_a_sample, {"lineage", "pairs"}),
        (double_a_sample, {"lineage", "pairs"}),
        (change_a_seed, {"lineage", "seed"}),
        (swap_a_checkpoint, {"lineage"}),
    ],
)
def test_a_change_hidden_behind_fitting_records_is_found(harm: Harm, checks: set[str], run_folder: Path) -> None:
    harm(run_folder)
    report = audited(run_folder)
    assert not report.clean
    assert checks <= {finding.check for finding in report.findings}
    assert all(finding.check in CHECKS for finding in report.findings)


def test_garbage_of_killed_writers_leaves_a_run_clean(run_folder: Path) -> None:
    (run_folder / "iterations/0000/samples/train" / f"00000-of-00002-{'a' * 64}.jsonl").write_text("half")
    (run_folder / "iterations/0000/train/step-000100").mkdir(parents=True)
    (run_folder / "iterations/0000/train/step-000100/checkpoint.json").write_text("{}")
    (run_folder / "notes.txt").write_text("mine")
    report = audited(run_folder)
    assert report.clean
    assert {finding.check for finding in report.findings} == {"orphans", "keys"}


@pytest.mark.parametrize("key", ["control/notes.txt", "control/drivers/0000.json.bak", "notes.txt"])
def test_a_stranger_is_told_and_leaves_a_run_clean(key: str, run_folder: Path) -> None:
    (run_folder / key).parent.mkdir(parents=True, exist_ok=True)
    (run_folder / key).write_text("mine")
    report = audited(run_folder)
    assert report.clean and [(each.check, each.key) for each in report.findings] == [("keys", key)]


def test_a_run_half_done_is_clean_and_says_what_is_missing(run_folder: Path) -> None:
    shutil.rmtree(run_folder / "iterations/0002")
    for name in ("checkpoint", "optimizer"):
        assert not (run_folder / "iterations/0002" / name).exists()
    report = audited(run_folder)
    assert report.clean
    assert {finding.check for finding in report.findings} == {"complete"}


@pytest.mark.slow
def test_a_deep_audit_builds_and_scores_again(run_folder: Path) -> None:
    told: dict[str, int] = {}
    run = Run(LocalStore(run_folder.parents[1]), run_folder.name)
    assert audit(run, Depth(rederive=True), lambda _, total, doing, /: told.update({doing: total})).clean
    assert told.keys() > {"reading", "spelling out what iteration 0 sampled", "doing again iteration 1 · build"}
    path = next((run_folder / "iterations/0001/examples").glob("*.parquet"))
    reorder_parquet(path)
    reseal_parquet(run_folder / "iterations/0001/examples", path)
    found = {finding.check for finding in audited(run_folder, Depth(rederive=True)).findings}
    assert "rederived" in found


def reorder_parquet(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    pq.write_table(table.take(pa.array(range(table.num_rows - 1, -1, -1))), path)


def reseal_parquet(folder: Path, path: Path) -> None:
    import hashlib

    data = path.read_bytes()
    for kind, each in ((PartRecord, next((folder / "parts").iterdir())), (Index, folder / "index.json")):
        record = kind.model_validate_json(each.read_text())
        item = record.objects[0].model_copy(update={"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)})
        each.write_text(record.model_copy(update={"objects": (item,)}).sealed().model_dump_json(indent=2))


@pytest.mark.soak
@pytest.mark.slow
def test_programs_judged_again_get_the_same_verdict_and_a_forged_one_is_found(run_folder: Path) -> None:
    assert audited(run_folder, Depth(reexecute_percent=100)).clean
    forge_a_pass(run_folder)
    found = audited(run_folder, Depth(reexecute_percent=100)).findings
    assert any(finding.check == "reexecuted" and finding.level == "error" for finding in found)


def test_the_command_says_clean_or_not_by_its_exit_code(run_folder: Path) -> None:
    command = [sys.executable, "-m", "leti_ctl", "audit", "made", "--store", str(run_folder.parents[1])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split(";")[0]) == (0, "clean")
    forge_a_score(run_folder)
    done = subprocess.run([*command, "--json"], cwd=ROOT, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert (done.returncode, found["clean"]) == (1, False)
    assert {"check", "key", "expected", "found", "level"} == set(found["findings"][0])


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
