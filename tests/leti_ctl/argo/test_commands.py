"""leti-ctl on a cluster: an API server over HTTP, a store behind moto, and a test in the controller's place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from leti_ctl import control, steps
from leti_ctl.backends.argo.cluster import Cluster
from leti_ctl.backends.argo.follow import Watcher
from leti_ctl.backends.argo.templates import workflow_template
from leti_ctl.cli import cli
from leti_ctl.config.profiles import load_profile
from leti_ctl.pipeline import plan
from stages.contract.errors import LetiError, SpecError, UsageError
from stages.contract.run import Run
from stages.contract.store import open_store
from tests.kube.api import ApiServer, Fault
from tests.kube.kinds import JOBSETS, PODS, TEMPLATES, WORKFLOWS
from tests.leti_ctl.argo.test_cluster import pod, set_status
from tests.leti_ctl.parts import finish

pytestmark = pytest.mark.slow
SPEC = """
iterations: 2
generate: {parts: 2}
evaluate: {k: [1]}
"""


@pytest.fixture
def installed(server: ApiServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ApiServer]:
    """The cluster with the WorkflowTemplate of profile kind, and a run spec in the working folder."""
    server.objects.create(TEMPLATES, "leti", workflow_template(load_profile("kind")))
    (tmp_path / "run.yaml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    yield server


def leti_ctl(*arguments: str) -> Result:
    """Run a command in this process; what it raised is raised."""
    return CliRunner().invoke(cli, arguments, catch_exceptions=False)


def submit(store: str, *arguments: str, name: str = "demo") -> Result:
    where = ("--backend", "argo", "--profile", "kind", "--store", store, "--name", name)
    return leti_ctl("submit", "-f", "run.yaml", *where, "--no-follow", *arguments)


def data(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture
def submitted(installed: ApiServer, s3_uri: str) -> Run:
    """A run that was submitted and nobody works on."""
    assert submit(s3_uri).exit_code == 0
    return Run(open_store(s3_uri), "demo")


def test_submit_writes_the_spec_and_creates_one_workflow(installed: ApiServer, s3_uri: str) -> None:
    result = submit(s3_uri, "--json")
    run = Run(open_store(s3_uri), "demo")
    (made,) = installed.objects.list(WORKFLOWS)
    assert data(result)["workflow"]["name"] == made["metadata"]["name"] == "demo-0"
    given = {one["name"]: one["value"] for one in made["spec"]["arguments"]["parameters"]}
    assert given["run-uri"] == run.uri and given["start"] == "0"
    assert made["metadata"]["annotations"]["leti.dev/spec-sha256"] == run.spec.digest()
    assert "(backend argo: --backend)" in result.stderr
    driver = control.find_driver(run)
    assert driver and driver.title == "workflow leti/demo-0"


def test_a_run_on_a_cluster_is_not_driven_from_here_as_well(submitted: Run) -> None:
    with pytest.raises(UsageError, match=r"driven by workflow leti/demo-0.*--take-over"):
        leti_ctl("resume", "demo", "--backend", "local", "--store", submitted.store.uri, "--set", "execute.workers=1")
    with pytest.raises(UsageError, match=r"workflow leti/demo-0 is Pending.*leti-ctl watch"):
        leti_ctl("resume", "demo", "--store", submitted.store.uri, "--no-follow")


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (("--store", "here"), UsageError, ("here", "s3://")),
        (("--name", "a" * 80), UsageError, ("--name", "63")),
        (("--profile", "nope"), UsageError, ("nope",)),
        (("--iterations", "200"), SpecError, ("iterations", "200")),
        (
            ("--profile", "gke-l4"),
            UsageError,
            ("leti-gke-l4 is not in the cluster", "render --profile gke-l4 | kubectl"),
        ),
    ],
)
def test_what_cannot_run_on_the_cluster_is_refused_before_anything_is_written(
    installed: ApiServer, s3_uri: str, arguments: tuple[str, ...], kind: type[LetiError], words: tuple[str, ...]
) -> None:
    with pytest.raises(kind) as caught:
        submit(s3_uri, *arguments)
    assert all(word in str(caught.value) for word in words), caught.value
    assert installed.objects.list(WORKFLOWS) == [] and list(open_store(s3_uri).list("")) == []


def test_a_template_of_another_version_is_refused_with_the_remedy(installed: ApiServer, s3_uri: str) -> None:
    def age(item: dict[str, Any]) -> None:
        item["metadata"]["annotations"]["leti.dev/manifest-sha256"] = "0" * 64

    installed.objects.change(TEMPLATES, "leti", "leti-kind", age)
    with pytest.raises(UsageError, match=r"another version \(000000000000.*kubectl apply"):
        submit(s3_uri)


def test_a_profile_of_ones_own_is_named_by_its_file_and_found_again(
    installed: ApiServer, s3_uri: str, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text("extends: kind\nparallelism: 3\n")
    with pytest.raises(UsageError, match=f"leti-mine is not in the cluster.*render --profile {tmp_path}/mine.yaml"):
        submit(s3_uri, "--profile", "mine.yaml")
    installed.objects.create(TEMPLATES, "leti", workflow_template(load_profile("./mine.yaml")))
    submit(s3_uri, "--profile", "mine.yaml")
    assert control.workflows(Run(open_store(s3_uri), "demo"))[0].profile == f"{tmp_path}/mine.yaml"


def test_a_dry_run_on_the_client_asks_nobody(installed: ApiServer, s3_uri: str) -> None:
    before = len(installed.requests)
    found = data(submit(s3_uri, "--dry-run", "--json"))
    assert found["workflow"]["metadata"]["name"] == "demo-0" and found["plan"]
    assert "workflowTemplateRef" in submit(s3_uri, "--dry-run=client").stdout
    assert len(installed.requests) == before and list(open_store(s3_uri).list("")) == []


def test_a_dry_run_on_the_server_keeps_nothing(installed: ApiServer, s3_uri: str) -> None:
    assert "accepts workflow leti/demo-0" in submit(s3_uri, "--dry-run=server").stdout
    assert installed.objects.list(WORKFLOWS) == [] and list(open_store(s3_uri).list("")) == []


def test_a_refused_create_leaves_a_run_that_can_be_resumed(installed: ApiServer, s3_uri: str) -> None:
    installed.faults.append(Fault("POST", "workflows", 403))
    with pytest.raises(UsageError, match=r"you may not create workflows.*resume demo .*--backend argo"):
        submit(s3_uri)
    run = Run(open_store(s3_uri), "demo")
    assert control.find_driver(run) is None and control.workflows(run) == []
    again = ("--backend", "argo", "--profile", "kind", "--store", s3_uri, "--no-follow")
    assert leti_ctl("resume", "demo", *again).exit_code == 0
    assert len(installed.objects.list(WORKFLOWS)) == 1


def test_status_tells_phase_and_why_pods_wait(installed: ApiServer, submitted: Run) -> None:
    set_status(installed, "demo-0", phase="Running", message="")
    installed.objects.create(PODS, "leti", pod("demo-0-generate-1"))
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off"}}

    def hold(item: dict[str, Any]) -> None:
        item["status"] = {"phase": "Pending", "containerStatuses": [{"name": "main", "state": waiting}]}

    installed.objects.change(PODS, "leti", "demo-0-generate-1", hold, subresource="status")
    found = data(leti_ctl("status", "demo", "--store", submitted.store.uri, "--json"))
    assert found["phase"] == "Running" and found["cluster"]["phase"] == "Running"
    assert found["cluster"]["waiting"] == [
        {"pod": "demo-0-generate-1", "stage": "generate", "iteration": 2, "reason": "ImagePullBackOff: Back-off"}
    ]
    shown = leti_ctl("status", "demo", "--store", submitted.store.uri).stdout
    assert "demo-0-generate-1 waits: ImagePullBackOff" in shown


def test_status_without_the_cluster_answers_from_the_store(
    installed: ApiServer, submitted: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    node = {"displayName": "execute", "message": "Error (exit code 65)", "podName": "p", "phase": "Failed"}
    steps.finalize(submitted, "leti/demo-0", "Failed", json.dumps([node]))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    found = data(leti_ctl("status", "demo", "--store", submitted.store.uri, "--json"))
    assert found["phase"] == "Failed" and found["failures"][0]["exit_code"] == 65
    assert "not reached" in found["cluster"]["message"]


def test_a_workflow_that_is_gone_drives_nothing(installed: ApiServer, submitted: Run) -> None:
    installed.objects.delete(WORKFLOWS, "leti", "demo-0")
    found = data(leti_ctl("status", "demo", "--store", submitted.store.uri, "--json"))
    assert (found["phase"], found["cluster"]["phase"]) == ("Stopped", "gone from the cluster")


def test_stop_asks_argo_and_reaps_jobsets(installed: ApiServer, submitted: Run) -> None:
    set_status(installed, "demo-0", phase="Running")
    jobset = {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": "demo-i0", "labels": {"leti.dev/run": "demo"}},
        "spec": {},
    }
    installed.objects.create(JOBSETS, "leti", jobset)
    found = data(leti_ctl("stop", "demo", "--store", submitted.store.uri, "--json"))
    assert found["applied"] and "removed demo-i0" in found["detail"]
    assert installed.objects.get(WORKFLOWS, "leti", "demo-0")["spec"]["shutdown"] == "Stop"
    assert installed.objects.list(JOBSETS) == []
    steps.finalize(submitted, "leti/demo-0", "Failed", "[]")
    assert data(leti_ctl("status", "demo", "--store", submitted.store.uri, "--json"))["phase"] == "Stopped"


def test_stop_now_terminates_and_records_the_end_itself(installed: ApiServer, submitted: Run) -> None:
    set_status(installed, "demo-0", phase="Failed", message="Stopped with strategy 'Terminate'")
    leti_ctl("stop", "demo", "--now", "--store", submitted.store.uri)
    assert installed.objects.get(WORKFLOWS, "leti", "demo-0")["spec"]["shutdown"] == "Terminate"
    assert control.find_driver(submitted) is None
    assert control.find_outcome(submitted).phase == "Failed"  # type: ignore[union-attr]


def test_stop_of_a_workflow_that_is_gone_releases_the_run(installed: ApiServer, submitted: Run) -> None:
    installed.objects.delete(WORKFLOWS, "leti", "demo-0")
    assert "is gone from the cluster" in leti_ctl("stop", "demo", "--store", submitted.store.uri).stdout
    assert control.find_driver(submitted) is None


def test_resume_is_a_new_workflow_from_the_first_incomplete_iteration(
    installed: ApiServer, submitted: Run, tmp_path: Path
) -> None:
    for unit in plan(submitted.spec).units:
        if unit.iteration == 0:
            finish(submitted, unit, tmp_path)
    set_status(installed, "demo-0", phase="Failed")
    steps.finalize(submitted, "leti/demo-0", "Failed", "[]")
    result = leti_ctl("resume", "demo", "--store", submitted.store.uri, "--no-follow", "--iterations", "3")
    assert "(backend argo: where the run was last)" in result.stderr
    made = installed.objects.get(WORKFLOWS, "leti", "demo-1")
    given = {one["name"]: one["value"] for one in made["spec"]["arguments"]["parameters"]}
    assert given["start"] == "1" and control.current_spec(submitted).iterations == 3
    assert control.find_outcome(submitted) is None
    assert [record.attempt for record in control.workflows(submitted)] == [0, 1]


def test_a_complete_run_needs_no_workflow(installed: ApiServer, submitted: Run, tmp_path: Path) -> None:
    for unit in plan(submitted.spec).units:
        finish(submitted, unit, tmp_path)
    set_status(installed, "demo-0", phase="Succeeded")
    found = data(leti_ctl("resume", "demo", "--store", submitted.store.uri, "--json"))
    assert found["phase"] == "Succeeded" and len(installed.objects.list(WORKFLOWS)) == 1


def test_watch_shows_changes_and_ends_with_the_workflow(installed: ApiServer, submitted: Run, tmp_path: Path) -> None:
    first = next(unit for unit in plan(submitted.spec).units if unit.stage == "prepare")
    finish(submitted, first, tmp_path)
    set_status(installed, "demo-0", phase="Failed", message="child 'x' failed")
    with pytest.raises(LetiError, match=r"workflow leti/demo-0 is Failed.*leti-ctl resume demo"):
        leti_ctl("watch", "demo", "--store", submitted.store.uri)


def test_following_ends_with_the_summary_of_a_run_that_succeeded(
    installed: ApiServer, submitted: Run, tmp_path: Path
) -> None:
    for unit in plan(submitted.spec).units:
        finish(submitted, unit, tmp_path)
    set_status(installed, "demo-0", phase="Succeeded")
    result = leti_ctl("watch", "demo", "--store", submitted.store.uri)
    assert "demo · workflow leti/demo-0 · Succeeded" in result.stderr


def test_a_workflow_that_argo_lost_is_pointed_out(installed: ApiServer, submitted: Run, cluster: Cluster) -> None:
    set_status(installed, "demo-0", phase="Running")
    (record,) = control.workflows(submitted)
    pictures = Watcher(submitted, record, cluster, every=0.1, stuck_after=0.0).pictures()
    assert "all pods have ended" in next(pictures).warnings[0]
    installed.objects.create(PODS, "leti", pod("demo-0-generate-1"))
    assert next(pictures).warnings == ()
    set_status(installed, "demo-0", phase="Succeeded")
    assert [picture.warnings for picture in pictures][-1] == ()


def test_runs_say_where_they_are(installed: ApiServer, submitted: Run) -> None:
    (row,) = data(leti_ctl("runs", "--store", submitted.store.uri, "--json"))["runs"]
    assert (row["run"], row["backend"], row["phase"]) == ("demo", "argo", "Running")


def test_logs_come_from_pods_while_they_exist_and_then_from_the_store(
    installed: ApiServer, submitted: Run, tmp_path: Path
) -> None:
    line = {
        "time": "2026-01-01T00:00:00.123+00:00",
        "level": "info",
        "stage": "generate",
        "iteration": 2,
        "split": "train",
        "part": "0/4",
        "event": "log",
    }
    path = tmp_path / "log"
    path.write_text(f"2026-01-01T00:00:00.0Z stdout F {json.dumps({**line, 'message': 'from the pod'})}\n")
    installed.logs = lambda *_: path
    installed.objects.create(PODS, "leti", pod("demo-0-generate-1"))

    def run(item: dict[str, Any]) -> None:
        item["status"] = {"phase": "Running", "containerStatuses": [{"name": "main", "state": {"running": {}}}]}

    installed.objects.change(PODS, "leti", "demo-0-generate-1", run, subresource="status")
    stored = json.dumps({**line, "message": "from the store"}) + "\n"
    submitted.store.put_if_absent(submitted.key("logs/0002-generate-x.20260101T000000-old-pod.log"), stored.encode())
    # A pod that has ended stays for a while, and its own copy is in the store already.
    ended = json.dumps({**line, "message": "from the pod"}) + "\n"
    submitted.store.put_if_absent(submitted.key("logs/0002-generate-x.20260101T000001-host.log"), ended.encode())
    store = ("--store", submitted.store.uri)
    shown = leti_ctl("logs", "demo", "--stage", "generate", "--part", "0", *store).stdout
    assert [text.split("  ")[-1] for text in shown.splitlines()] == ["from the store", "from the pod"]
    assert leti_ctl("logs", "demo", "--part", "1", *store).stdout == ""
    installed.objects.delete(PODS, "leti", "demo-0-generate-1", grace=0)
    shown = leti_ctl("logs", "demo", *store).stdout
    assert [text.split("  ")[-1] for text in shown.splitlines()] == ["from the store", "from the pod"]


def test_following_logs_ends_when_the_workflow_has(installed: ApiServer, submitted: Run, tmp_path: Path) -> None:
    set_status(installed, "demo-0", phase="Succeeded")
    assert leti_ctl("logs", "demo", "-f", "--store", submitted.store.uri).stdout == ""


def test_local_paths_are_pointed_out(installed: ApiServer, s3_uri: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    result = submit(s3_uri, "--set", "model.source=model")
    assert f"warning: model.source: {tmp_path}/model is a path of this machine" in result.stderr
