"""What cannot be read is a finding with its key, and the audit goes on; so is what a killed training would go on from.

python -m pytest tests/leti_ctl/audit/test_unreadable.py -q
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from leti_ctl import control
from leti_ctl.audit import sampled, training
from leti_ctl.audit.objects import Reader
from leti_ctl.audit.repair import Repair
from leti_ctl.audit.report import Report, audit
from leti_ctl.cli import cli
from leti_ctl.inventory.catalog import Catalog
from leti_ctl.inventory.finding import Finding
from stages.contract.artifacts import Part, Ref
from stages.contract.errors import UsageError
from stages.contract.records import StepLog
from stages.contract.run import Commit, Run
from stages.contract.spec import RunSpec
from stages.contract.store import LocalStore
from stages.train.checkpoint import Checkpoints
from tests.leti_ctl.audit.forger import Forger, first
from tests.stages.contract.parts import MADE


def opened(folder: Path) -> Run:
    return Run(LocalStore(folder.parents[1]), folder.name)


def errors(report: Report) -> list[Finding]:
    return [each for each in report.findings if each.level == "error"]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.fixture
def killed(run_folder: Path, tmp_path: Path) -> Path:
    """The run, killed in its last training after a mid-stage checkpoint."""
    for name in ("0001/steps", "0002"):
        shutil.rmtree(run_folder / "iterations" / name)
    state = tmp_path / "state"
    state.mkdir()
    (state / "weights.safetensors").write_bytes(b"half" * 100)
    steps = [StepLog(step=step, stream="fcft", loss=1.0, num_targets=1, learning_rate=1e-5) for step in range(3)]
    Checkpoints(opened(run_folder), 1).save(state, steps)
    return run_folder / "iterations/0001/train/step-000003"


@pytest.mark.parametrize("what", ["checkpoint.json", "*-weights.safetensors", "*-steps.jsonl"])
def test_a_flipped_bit_or_a_loss_in_a_mid_stage_checkpoint_is_found(what: str, killed: Path, run_folder: Path) -> None:
    assert audit(opened(run_folder)).clean
    (path,) = killed.glob(what)
    flip(path)
    key = path.relative_to(run_folder).as_posix()
    assert key in {each.key for each in errors(audit(opened(run_folder)))}
    path.unlink()
    lost = {each.key for each in errors(audit(opened(run_folder)))}
    assert lost == (set() if what == "checkpoint.json" else {key})


def test_a_mid_stage_checkpoint_under_another_ones_name_is_found(killed: Path, run_folder: Path) -> None:
    killed.rename(killed.with_name("step-000009"))
    found = errors(audit(opened(run_folder)))
    assert found[0].check == "record" and found[0].key.endswith("train/step-000009/checkpoint.json")


class Refusing(LocalStore):
    """A store with a policy that refuses one key."""

    refused = ""

    def get(self, key: str) -> bytes:
        self._ask(key)
        return super().get(key)

    def stream(self, key: str) -> Iterator[bytes]:
        self._ask(key)
        return super().stream(key)

    def _ask(self, key: str) -> None:
        if self.refused and key.endswith(self.refused):
            raise UsageError(f"store s3://b: AccessDenied on {key!r}; check the credentials and the policy")


@pytest.mark.parametrize("refused", ["0001/samples/test/index.json", "model.safetensors", ".parquet"])
def test_an_object_that_the_store_refuses_is_a_finding(refused: str, run_folder: Path) -> None:
    store = Refusing(run_folder.parents[1])
    store.refused = refused
    report = audit(Run(store, run_folder.name))
    found = errors(report)
    assert found[0].check == "readable" and found[0].key.endswith(refused) and "AccessDenied" in found[0].found
    assert report.repair == Repair([], [], unreadable=True, contradictory=False)  # it may be whole: nothing to delete
    assert {each.key for each in found if "AccessDenied" in each.found} == {
        path.relative_to(run_folder).as_posix() for path in run_folder.rglob("*") if path.as_posix().endswith(refused)
    }


@pytest.mark.parametrize(
    "key", ["gc/0000-" + "0" * 64 + ".json", "amendments/0000-" + "0" * 64 + ".json", "control/drivers/0000.json"]
)
@pytest.mark.parametrize("is_loop", [True, False], ids=["a link to itself", "junk"])
def test_junk_beside_the_artifacts_is_a_finding_with_its_key(key: str, is_loop: bool, run_folder: Path) -> None:
    path = run_folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(path.name) if is_loop else path.write_bytes(b"{junk")
    done = CliRunner().invoke(cli, ["audit", run_folder.name, "--store", str(run_folder.parents[1])])
    assert done.exit_code == 1
    assert done.stdout.splitlines()[0].split(": ")[1] == key


def test_a_spec_that_cannot_be_read_is_the_one_finding(run_folder: Path) -> None:
    (run_folder / "spec.json").write_text("{")
    done = CliRunner().invoke(cli, ["audit", run_folder.name, "--store", str(run_folder.parents[1]), "--json"])
    (finding,) = json.loads(done.stdout)["findings"]
    assert (done.exit_code, finding["check"], finding["key"]) == (1, "record", "spec.json")


def test_a_driver_to_another_spec_than_a_resume_allows_is_found(run_folder: Path) -> None:
    run = opened(run_folder)
    control.amend(run, run.spec.model_copy(update={"iterations": 3}))
    path = run_folder / "control/drivers/0000.json"
    driver = control.Driver.model_validate({k: v for k, v in json.loads(path.read_text()).items() if k != "checksum"})
    forged = json.loads(driver.spec) | {"seed": 7}
    path.write_bytes(control.sealed(driver.model_copy(update={"spec": json.dumps(forged)})))
    assert any(each.check == "spec" and "seed" in each.found for each in errors(audit(run)))


def test_the_record_of_a_part_that_was_deleted_is_named_first(run_folder: Path) -> None:
    key = "iterations/0001/samples/train/parts/00001-of-00002.json"
    (run_folder / key).unlink()
    assert errors(audit(opened(run_folder)))[0][:2] == ("record", key)


def test_token_ids_of_another_text_are_found(run_folder: Path) -> None:
    run = opened(run_folder)
    assert not list(chain.from_iterable(sampled.check(Catalog(run), run.spec)))
    ref = Ref("samples", 1, "test")
    Forger(run_folder).rows(ref, first(lambda row: {"token_ids": row.token_ids[::-1]}))
    Forger(run_folder).rows(ref, first(lambda row: {"num_prompt_tokens": 1}, lambda row: row.sample == 1))
    assert audit(run).clean
    found = list(chain.from_iterable(sampled.check(Catalog(run), run.spec)))
    assert [each.check for each in found] == ["tokens", "tokens"]
    assert all(each.key.startswith("iterations/0001/samples/test test/") for each in found)


@pytest.mark.parametrize("numbers", [[0, 1, 2], [0, 2, 1]])
def test_blocks_of_the_pre_training_stream_are_counted(numbers: list[int], tmp_path: Path) -> None:
    run = Run(LocalStore(tmp_path / "store"), "made")
    run.create(RunSpec.model_validate({"pretraining": {"block_length": 2}}))
    path = tmp_path / "rows.parquet"
    ids = pa.array([[1, 2]] * 3, pa.list_(pa.int32()))
    pq.write_table(pa.table({"block": pa.array(numbers, pa.int64()), "input_ids": ids}), path)
    run.commit(Commit(Ref("pretraining"), Part(), {path: 3}, (), 0, MADE))
    reader = Reader(Catalog(run))
    training.check_blocks(reader, run.spec)
    wanted = [f"pretraining row {place}" for place, number in enumerate(numbers) if place != number]
    assert [each.key for each in reader.findings] == wanted


def test_what_a_model_wrote_cannot_steer_the_terminal(run_folder: Path) -> None:
    text = "\x1b[31m\u202ereturn\x9b"
    Forger(run_folder).rows(Ref("samples", 0, "train"), first(lambda row: {"solution": text}))
    Forger(run_folder).rows(Ref("executions", 0, "train"), first(lambda row: {"feedback": text}))
    (run_folder / "logs").mkdir()
    line = json.dumps({"time": "2026-01-01T00:00:00", "message": f"wrote {text}"})
    (run_folder / "logs/0000-build-00000-of-00001.20260101T000000-1.log").write_text(line + "\n")
    for command in ("samples", "logs"):
        done = CliRunner().invoke(cli, [command, run_folder.name, "--store", str(run_folder.parents[1])])
        assert done.exit_code == 0 and r"\x1b[31m\u202ereturn\x9b" in done.output
        assert all(each.isprintable() or each == "\n" for each in done.output)
