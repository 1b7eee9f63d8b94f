"""What goes wrong once where it hurts most: refused for no reason, altered on its way."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from leti_ctl import control
from stages.contract.artifacts import Part, Ref
from stages.contract.errors import ArtifactError, ResourceError, StoreError
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import LocalStore
from stages.contract.store.multipart import PIECE_BYTES
from stages.contract.store.s3 import S3Store
from stages.train.checkpoint import Checkpoints
from tests.s3 import Fault, S3Server
from tests.stages.contract.parts import PROBLEMS, commit_numbers, commit_rows, problem

FORBIDDEN = "403 Forbidden"


@pytest.mark.parametrize(
    ("status", "code"),
    [("412 Precondition Failed", "PreconditionFailed"), ("409 Conflict", "ConditionalRequestConflict"),
     ("404 Not Found", "NoSuchKey")],
)  # fmt: skip
def test_an_upload_refused_by_an_error_of_another_request_is_worth_another_try(
    s3: S3Store, faults: list[Fault], tmp_path: Path, status: str, code: str
) -> None:
    (tmp_path / "file").write_bytes(b"data")
    faults.append(Fault("PUT", "/key", status, code))
    with pytest.raises(StoreError, match=code):
        s3.upload("key", tmp_path / "file")


@pytest.mark.parametrize("code", ["RequestTimeTooSkewed", "SignatureDoesNotMatch", "InvalidAccessKeyId"])
def test_a_request_signed_before_a_long_pause_or_altered_on_its_way_is_signed_anew(
    s3: S3Store, faults: list[Fault], code: str
) -> None:
    faults.append(Fault("PUT", "/key", FORBIDDEN, code))
    assert s3.put_if_absent("key", b"data")


def test_deleting_what_is_not_there_does_nothing_on_google_either(s3: S3Store, faults: list[Fault]) -> None:
    faults.append(Fault("DELETE", "/key", "404 Not Found", "NoSuchKey"))
    s3.delete("key")
    assert faults[0].times == 0


def test_an_upload_that_is_completed_while_it_is_discarded_is_left_alone(s3: S3Store) -> None:
    s3.client.create_multipart_upload(Bucket=s3.bucket, Key=f"{s3.root}key")
    (left,) = s3.leftovers("")
    s3.discard(left)
    s3.discard(left)
    assert list(s3.leftovers("")) == []


def test_a_full_bucket_is_said_and_can_be_read(s3: S3Store, faults: list[Fault], tmp_path: Path) -> None:
    run = Run(s3, "r")
    run.create(RunSpec())
    faults.append(Fault("PUT", "/index.json", FORBIDDEN, "QuotaExceeded", times=2))
    with pytest.raises(ResourceError, match=r"QuotaExceeded.*raise the bucket's quota"):
        commit_numbers(run, Part(), tmp_path)
    assert run.get_index(PROBLEMS).rows


@pytest.mark.slow
def test_a_damaged_large_object_is_replaced_though_the_upload_is_lost_before_its_end(
    s3: S3Store, s3_server: S3Server, faults: list[Fault], tmp_path: Path
) -> None:
    whole = os.urandom(PIECE_BYTES + 17)
    (tmp_path / "large").write_bytes(whole)
    s3_server.put(s3.bucket, f"{s3.root}large", bytes([whole[0] ^ 1]) + whole[1:])
    faults.append(Fault("POST", "uploadId=", "404 Not Found", "NoSuchUpload"))
    s3.upload("large", tmp_path / "large")
    assert s3.get("large") == whole and faults[0].times == 0


class Altering(LocalStore):
    """Hands one object out altered, once: the way is at fault."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.victim: str | None = None
        self.instead: bytes | None = None
        """What comes in its place; left out, its own bytes with a bit flipped."""

    def get(self, key: str) -> bytes:
        data = super().get(key)
        if self.victim is None or not key.endswith(self.victim):
            return data
        self.victim = None
        return self.instead or bytes([data[0] ^ 1]) + data[1:]


@pytest.fixture
def altering(tmp_path: Path) -> Altering:
    return Altering(tmp_path / "store")


@pytest.fixture
def made(altering: Altering, tmp_path: Path) -> Run:
    run = Run(altering, "r")
    run.create(RunSpec())
    commit_numbers(run, Part(), tmp_path)
    return run


def test_a_spec_that_comes_altered_is_read_again(made: Run, altering: Altering) -> None:
    altering.victim = "spec.json"
    assert Run(altering, "r").spec == made.spec and altering.victim is None


def test_a_claim_that_comes_altered_is_read_again(made: Run, altering: Altering) -> None:
    with control.driving(made, "local", made.spec):
        altering.victim = "drivers/0000.json"
        driver = control.find_driver(made)
    assert driver and driver.pid == os.getpid() and altering.victim is None


def test_a_record_that_comes_in_place_of_another_is_asked_for_again(
    made: Run, altering: Altering, tmp_path: Path
) -> None:
    """On a connection where answers and requests are out of step."""
    other = Ref("problems", split="test")
    commit_rows(made, Part(), [problem(9)], tmp_path, ref=other)
    altering.victim, altering.instead = PROBLEMS.index_key, altering.get(made.key(other.index_key))
    assert made.get_index(PROBLEMS).split == "train" and altering.victim is None
    altering.victim, altering.instead = PROBLEMS.part_key(Part()), altering.get(made.key(other.part_key(Part())))
    found = made.find_part(PROBLEMS, Part())
    assert found and found.split == "train" and altering.victim is None


def test_a_mid_stage_record_that_comes_altered_is_read_again(made: Run, altering: Altering, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    checkpoints = Checkpoints(made, 0)
    checkpoints.save(tmp_path / "state", [])
    altering.victim = "checkpoint.json"
    assert checkpoints.newest() and altering.victim is None


def test_what_a_file_system_leaves_among_checkpoints_is_no_checkpoint(
    made: Run, altering: Altering, tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    checkpoints = Checkpoints(made, 0)
    checkpoints.save(tmp_path / "state", [])
    home = tmp_path / "store" / "runs/r/iterations/0000/train"
    (home / ".DS_Store").write_bytes(b"x")
    shutil.copytree(home / "step-000000", home / "step-000000 (copy)")
    found = checkpoints.newest()
    assert found and found.steps == 0
    checkpoints.remove()
    assert checkpoints.newest() is None


def test_advice_about_a_damaged_claim_leaves_no_word_on_the_next_of_its_number(made: Run, tmp_path: Path) -> None:
    with control.driving(made, "local", made.spec) as held:
        held.request_stop()
    home = tmp_path / "store" / "runs/r/control/drivers"
    (home / "0000.json").write_bytes(b"{}")
    with pytest.raises(ArtifactError, match="delete it and all below runs/r/control/drivers/0000/, and try again"):
        control.newest(made)
    (home / "0000.json").unlink()
    shutil.rmtree(home / "0000")
    with control.driving(made, "local", made.spec) as held:
        assert held.number == 0 and held.is_driven() and not held.is_stop_requested()
