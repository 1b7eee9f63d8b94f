"""What an audit says is to be done about a damaged run, and that it helps.

python -m pytest tests/leti_ctl/audit/test_repair.py -q
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from leti_ctl.audit.repair import Repair
from leti_ctl.audit.report import Report, audit
from leti_ctl.cli import cli
from leti_ctl.inventory.catalog import Catalog
from stages.contract.artifacts import Ref
from stages.contract.run import Run
from stages.contract.store import LocalStore
from tests.leti_ctl.audit.forger import Forger, first
from tests.leti_ctl.audit.made import make_run
from tests.leti_ctl.audit.test_advice import contents, first_object, flip

SAMPLES = "iterations/0000/samples/train"


def audited(folder: Path) -> Report:
    return audit(Run(LocalStore(folder.parents[1]), folder.name))


@pytest.mark.parametrize(
    ("damaged", "delete", "restore"),
    [
        (f"{SAMPLES}/00000-of-00002-*.jsonl", [f"{SAMPLES}/"], []),
        (f"{SAMPLES}/index.json", [f"{SAMPLES}/index.json"], []),
        (f"{SAMPLES}/parts/00000*", [f"{SAMPLES}/index.json", f"{SAMPLES}/parts/00000-of-00002.json"], []),
        ("iterations/0001/checkpoint/*/model.safetensors", ["iterations/0001/checkpoint/"], []),
        ("problems/train/*.jsonl", ["problems/train/"], []),
        ("spec.sha256", ["spec.sha256"], []),
        ("spec.json", [], ["spec.json"]),
    ],
)
def test_an_audit_says_what_is_to_be_deleted(
    damaged: str, delete: list[str], restore: list[str], run_folder: Path
) -> None:
    flip(next(run_folder.glob(damaged)))
    found = audited(run_folder).repair
    assert (found.delete, found.restore, found.unreadable, found.contradictory) == (delete, restore, False, False)


@pytest.mark.slow
def test_what_an_audit_says_repairs_everything_at_once(run_folder: Path, finished: Path) -> None:
    for ref in (Ref("samples", 0, "train"), Ref("checkpoint", 1), Ref("executions", 1, "test")):
        flip(first_object(run_folder, ref))
    flip(run_folder / Ref("examples", 0).index_key)
    flip(next((run_folder / "iterations/0000/steps/parts").iterdir()))
    for key in audited(run_folder).repair.delete:
        path = run_folder / key
        shutil.rmtree(path) if key.endswith("/") else path.unlink()
    make_run(run_folder.parents[2])
    for ref in Catalog(Run(LocalStore(run_folder.parents[1]), "made")).refs:  # who reads first makes an index
        Run(LocalStore(run_folder.parents[1]), "made").find_index(ref)
    assert contents(run_folder) == contents(finished / "runs/made")
    assert audited(run_folder).findings == []


def test_a_forgery_that_fits_its_records_is_no_damage(run_folder: Path) -> None:
    Forger(run_folder).rows(Ref("samples", 0, "train"), first(lambda row: {"seed": row.seed + 1}))
    found = audited(run_folder).repair
    assert found.contradictory and not (found.delete or found.restore)


def test_a_forged_spec_is_one_error_that_comes_first(run_folder: Path) -> None:
    path = run_folder / "spec.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": 7}, indent=2))
    (run_folder / "spec.sha256").unlink()
    found = audited(run_folder)
    assert [finding.key for finding in found.findings if finding.check == "spec"][:1] == ["spec.json"]
    assert found.findings[0].key == "spec.json" and "which all 5" in found.findings[0].expected
    assert found.repair.restore == ["spec.json"]


def test_data_beside_a_damaged_record_is_not_called_garbage(run_folder: Path) -> None:
    flip(next((run_folder / "iterations/0002/checkpoint/parts").iterdir()))
    shutil.rmtree(run_folder / "iterations/0001/checkpoint/parts")
    assert not any(finding.check == "orphans" for finding in audited(run_folder).findings)
    assert not any("/checkpoint/" in key for key in Catalog(Run(LocalStore(run_folder.parents[1]), "made")).orphans())


def test_the_command_says_where_and_how(run_folder: Path, bucket: str) -> None:
    flip(first_object(run_folder, Ref("checkpoint", 1)))
    store = str(run_folder.parents[1])
    done = CliRunner().invoke(cli, ["audit", "made", "--store", store])
    at = done.stdout.splitlines().index(
        "to repair it: delete these; `leti-ctl resume made` makes again what is missing then:"
    )
    assert done.stdout.splitlines()[at + 1] == f"  {run_folder}/iterations/0001/checkpoint/"
    assert "repair" not in CliRunner().invoke(cli, ["audit", "made", "--store", bucket]).stdout
    repair = Repair(["problems/train/"], [], unreadable=False, contradictory=False)
    assert (
        list(repair.lines("s3://b/p/runs/made?endpoint_url=http://h", "made"))[1]
        == "  s3://b/p/runs/made/problems/train/"
    )
