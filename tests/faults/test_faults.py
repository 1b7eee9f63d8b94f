"""A whole run through a faulty network ends in the artifacts of an undisturbed one, and what stays broken is said."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from leti_ctl.audit.report import audit
from leti_ctl.pipeline import plan
from stages.contract.artifacts import PartRecord
from stages.contract.errors import UsageError
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import Store
from stages.contract.store.s3 import S3Store
from tests.faults.proxy import KINDS, FaultyS3
from tests.leti_ctl.audit.made import make_run, make_spec
from tests.s3 import S3Server

pytestmark = pytest.mark.slow
SEEDS = int(os.environ.get("LETI_FAULT_SEEDS", "2"))
"""Runs to disturb; each meets some 125 faults."""
STAYING = ["ExpiredToken"] if SEEDS < 8 else ["ExpiredToken", "RequestTimeTooSkewed", "AccessDenied"]


class Undisturbed:
    """The run that nothing happened to, and the spec it was made with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec = make_spec(folder)
        self.run = make_run(folder, spec=self.spec)
        self.artifacts = artifacts(self.run)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return Undisturbed(tmp_path_factory.mktemp("undisturbed"))


def artifacts(run: Run) -> dict[str, bytes]:
    """Everything a run has in its store, by key; of part records what is the same whenever they are made."""
    found = {}
    for key in run.store.list(run.key("")):
        data = run.store.get(key)
        if "/parts/" in key:
            record = PartRecord.model_validate_json(data)
            data = record.model_dump_json(exclude={"made", "checksum"}).encode()
        found[key] = data
    return found


def disturbed(store: Store, spec: RunSpec, folder: Path) -> Run:
    folder.mkdir()
    return make_run(folder, store, spec, tries=5)


@pytest.mark.timeout(900)
@pytest.mark.soak
def test_any_faults_that_pass_change_nothing(s3_server: S3Server, undisturbed: Undisturbed, tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    for seed in range(SEEDS):
        bucket = s3_server.make_bucket()
        with FaultyS3(s3_server.url, seed) as proxy:
            store = S3Store(f"s3://{bucket}/leti?endpoint_url={proxy.url}")
            run = disturbed(store, undisturbed.spec, tmp_path / str(seed))
            for ref in {ref for unit in plan(run.spec).units for ref in unit.outputs(run.spec)}:
                run.get_index(
                    ref
                )  # as whoever reads it does: where the listing lagged for all committers, it is missing
            assert [finding.line for finding in audit(run).findings] == []
            store.client.close()
        calm = S3Store(f"s3://{bucket}/leti?endpoint_url={s3_server.url}")
        assert artifacts(Run(calm, "made")) == undisturbed.artifacts
        assert "Uploads" not in calm.client.list_multipart_uploads(Bucket=bucket)
        calm.client.close()
        counts += proxy.plan.counts
    print(f"{sum(counts.values())} faults in {SEEDS} runs: {dict(sorted(counts.items()))}")
    assert len(counts) > len(KINDS) // 2
    assert sum(counts.values()) > 50 * SEEDS


@pytest.mark.parametrize("code", STAYING)
def test_a_fault_that_stays_is_said_and_cured_the_run_goes_on(
    s3_server: S3Server, undisturbed: Undisturbed, tmp_path: Path, code: str
) -> None:
    bucket = s3_server.make_bucket()
    with FaultyS3(s3_server.url, rate=0) as proxy:
        store = S3Store(f"s3://{bucket}/leti?endpoint_url={proxy.url}")
        proxy.refuse, proxy.refuse_after = code, 20
        with pytest.raises(UsageError, match=code) as caught:
            disturbed(store, undisturbed.spec, tmp_path / "first")
        assert "\n" not in str(caught.value)
        proxy.refuse = None
        run = disturbed(store, undisturbed.spec, tmp_path / "second")
        assert [finding.line for finding in audit(run).findings if finding.level == "error"] == []
        assert artifacts(run).items() >= undisturbed.artifacts.items()
        store.client.close()
