"""A run that starts from another run's checkpoint: what submit looks up, what an audit and a collection know of it.

python -m pytest tests/leti_ctl/artifacts/test_ancestry.py -q
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from leti_ctl import control, launch
from leti_ctl.artifacts import ancestry
from leti_ctl.artifacts.export import export
from leti_ctl.audit.report import Depth, Report, audit
from leti_ctl.cli import cli
from leti_ctl.inventory.catalog import Catalog
from leti_ctl.inventory.ledger import Ledger
from leti_ctl.results import summary
from leti_ctl.trace.lineage import lineage
from stages.contract.artifacts import PartRecord, Ref
from stages.contract.errors import ArtifactError, SpecError, UsageError
from stages.contract.flow import find_origin, parse_origin
from stages.contract.run import Run
from stages.contract.spec import ModelSpec, RunSpec, Tokens
from stages.contract.store import LocalStore
from tests.leti_ctl.audit.made import make_run, make_spec


def evaluation(folder: Path, **model: object) -> RunSpec:
    """A spec that only evaluates, on the problems and the script of the run `made`."""
    spec = make_spec(folder)
    chosen = ModelSpec.model_validate({"from_run": "made", "from_iteration": 2, **model})
    return spec.model_copy(update={"iterations": 0, "model": chosen})


@pytest.fixture
def store(run_folder: Path) -> LocalStore:
    return LocalStore(run_folder.parents[1])


@pytest.fixture
def scored(store: LocalStore, tmp_path: Path) -> Run:
    """Checkpoint 2 of the run `made`, evaluated by a run of its own."""
    return make_run(tmp_path, store, ancestry.resolve(evaluation(tmp_path), store), name="scored")


def problems(report: Report) -> list[str]:
    return [finding.line for finding in report.findings]


def test_it_holds_a_copy_of_the_checkpoint_its_scores_and_nothing_of_training(scored: Run, store: LocalStore) -> None:
    found = summary.summarize(scored)
    assert (found["phase"], found["iterations"], len(found["per_iteration"])) == ("Succeeded", 0, 1)
    assert found["per_iteration"][0]["scores"]["test"]["reward_token"] == "good"
    artifacts = {ref.artifact for ref in Catalog(scored).refs}
    assert artifacts == {"problems", "checkpoint", "samples", "executions", "metrics"}
    assert {ref.split for ref in Catalog(scored).refs} == {None, "test"}
    mine, theirs = (_weights(Run(store, name), number) for name, number in (("scored", 0), ("made", 2)))
    assert mine == theirs


def _weights(run: Run, iteration: int) -> bytes:
    return (run.fetch(Ref("checkpoint", iteration), Path()) / "model.safetensors").read_bytes()


def test_an_audit_follows_the_checkpoint_into_the_other_run(scored: Run) -> None:
    assert problems(audit(scored, Depth(rederive=True))) == []


def test_an_audit_says_when_the_other_run_is_gone_and_stays_clean(scored: Run, run_folder: Path) -> None:
    shutil.rmtree(run_folder)
    report = audit(scored)
    assert report.clean
    (line,) = problems(report)
    assert "warning lineage" in line and "runs/made/iterations/0002/checkpoint" in line and "gone" in line


def test_an_audit_finds_a_checkpoint_that_is_not_the_one_it_names(scored: Run, run_folder: Path) -> None:
    record = run_folder / "iterations/0002/checkpoint/parts/00000-of-00001.json"
    shutil.copy(run_folder / "iterations/0001/checkpoint/parts/00000-of-00001.json", record)
    report = audit(scored)
    assert not report.clean
    assert all("lineage" in line and "runs/made/iterations/0002/checkpoint" in line for line in problems(report))


def test_lineage_and_export_go_on_in_the_other_run(scored: Run, tmp_path: Path) -> None:
    tree = lineage(Ledger(scored), Ref("metrics", 0, "test"))
    text = json.dumps(tree)
    assert "runs/made/iterations/0002/checkpoint" in text and "iterations/0001/examples" in text
    assert "missing" not in text and "recorded_sha256" not in text
    out = export(scored, 0, tmp_path / "out")
    assert "runs/made/iterations/0002/checkpoint" in (out / "leti-lineage.json").read_text()
    assert "after the 2 of run `made`" in (out / "README.md").read_text()


def test_lineage_comes_to_an_end_where_records_name_each_other(scored: Run, run_folder: Path) -> None:
    path = run_folder / "iterations/0002/checkpoint/parts/00000-of-00001.json"
    record = json.loads(path.read_text())
    record["inputs"] = [{"ref": "runs/scored/iterations/0000/checkpoint", "sha256": "0" * 64}]
    path.write_text(PartRecord.model_validate_json(json.dumps(record)).sealed().model_dump_json())
    ledger = Ledger(scored)
    tree = json.dumps(lineage(ledger, Ref("metrics", 0, "test")))
    assert "runs/made/iterations/0002/checkpoint" in tree
    assert "runs/scored/iterations/0000/checkpoint" in tree and '"told_above": true' in tree
    assert [finding.check for finding in ledger.findings] == ["lineage"]
    assert not audit(Run(scored.store, "made")).clean


def test_a_collection_leaves_what_another_run_started_from(store: LocalStore, tmp_path: Path, run_folder: Path) -> None:
    make_run(tmp_path, store, ancestry.resolve(evaluation(tmp_path, from_iteration=0), store), name="scored")
    done = CliRunner().invoke(cli, ["gc", "made", "--store", str(store.root), "--no-best", "--delete", "--json"])
    assert json.loads(done.stdout)["claimed"] == {"0": ["scored"]}
    kept = {int(path.parents[2].name) for path in run_folder.glob("iterations/*/checkpoint/*/model.safetensors")}
    assert kept == {0, 2}
    told = CliRunner().invoke(cli, ["gc", "made", "--store", str(store.root)]).stdout
    assert "kept        checkpoint 0, which scored started from" in told


def test_a_run_that_is_made_while_the_other_is_collected_is_told_and_seen(
    store: LocalStore, tmp_path: Path, run_folder: Path
) -> None:
    made, spec = Run(store, "made"), ancestry.resolve(evaluation(tmp_path, from_iteration=0), store)
    with (
        control.driving(made, "gc", made.spec),
        pytest.raises(UsageError, match=r"made is being collected by gc, process \d+ .*resume scored"),
    ):
        launch.create(spec, store.uri, "scored", here=False)
    assert ancestry.claimed(made) == {0: ["scored"]}
    next(run_folder.glob("iterations/0000/checkpoint/*/model.safetensors")).unlink()
    with pytest.raises(ArtifactError, match="no longer whole"):
        ancestry.confirm(Run(store, "scored"))


def test_a_checkpoint_whose_weights_are_gone_is_refused(store: LocalStore, tmp_path: Path) -> None:
    CliRunner().invoke(cli, ["gc", "made", "--store", str(store.root), "--no-best", "--delete"])
    with pytest.raises(ArtifactError, match="checkpoint 1 of run made is no longer whole"):
        ancestry.resolve(evaluation(tmp_path, from_iteration=1), store)


def test_what_the_spec_leaves_open_becomes_the_other_runs(store: LocalStore, tmp_path: Path) -> None:
    made = Run(store, "made")
    spec = ancestry.resolve(evaluation(tmp_path, from_iteration=None), store)
    assert spec.model.from_iteration == summary.summarize(made)["best"]["iteration"]
    assert spec.model.source == made.spec.model.source
    assert ancestry.resolve(made.spec, store) is made.spec


def test_an_open_iteration_of_an_unfinished_run_is_refused(store: LocalStore, tmp_path: Path, run_folder: Path) -> None:
    shutil.rmtree(run_folder / "iterations/0002/metrics")
    with pytest.raises(UsageError, match=r"model\.from_iteration: null takes the best.*Stopped"):
        ancestry.resolve(evaluation(tmp_path, from_iteration=None), store)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ({"from_run": "nobody"}, UsageError, "no run 'nobody'"),
        ({"from_iteration": 7}, ArtifactError, "has no checkpoint 7, only 0, 1, 2; runs do not wait for each other"),
        ({"tokens": Tokens(good="<|yes|>")}, SpecError, r"model\.tokens: .*<\|yes\|>.* made with .*<\|good\|>"),
        ({"source": "other"}, SpecError, r"model\.source: 'other', but the checkpoint of run made"),
    ],
)
def test_what_cannot_be_started_from_is_refused_at_submit(
    store: LocalStore, tmp_path: Path, model: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ancestry.resolve(evaluation(tmp_path, **model), store)


def test_a_run_that_only_evaluates_cannot_be_made_to_train(scored: Run) -> None:
    with pytest.raises(UsageError, match="iterations: 0 -> 3: a run that only evaluates"):
        control.amend(scored, scored.spec.model_copy(update={"iterations": 3}))


@pytest.mark.parametrize(
    "text",
    [
        "runs/a", "runs//iterations/0001/checkpoint", "iterations/0001/checkpoint", "runs/a/x",
        "runs/../iterations/0001/checkpoint", "runs/./iterations/0001/checkpoint",
    ],
)  # fmt: skip
def test_only_an_origins_spelling_is_one(text: str, tmp_path: Path) -> None:
    assert parse_origin(text) is None
    origin = find_origin(evaluation(tmp_path))
    assert parse_origin(str(origin)) == origin


class Guarded(LocalStore):
    """A store whose policy keeps another team's runs from who asks."""

    def get(self, key: str) -> bytes:
        if key == "runs/scored/spec.json":
            raise UsageError(f"store {self.uri}: AccessDenied on {key!r}")
        return super().get(key)


def test_a_collection_does_not_take_a_run_that_it_may_not_read_for_none(scored: Run, run_folder: Path) -> None:
    made = Run(Guarded(run_folder.parents[1]), "made")
    with pytest.raises(UsageError, match="AccessDenied"):
        ancestry.claimed(made)
    (run_folder.parent / "notes").mkdir()
    assert ancestry.claimed(Run(scored.store, "made")) == {2: ["scored"]}
