"""A suite on a cluster: an API server over HTTP, a store behind moto, and the test in the controller's place.

The fleet's pauses are where the controller works, so that nothing here waits or depends on speed.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner

from leti_ctl import control
from leti_ctl.backends.argo.submission import open_target
from leti_ctl.backends.argo.templates import workflow_template
from leti_ctl.cli import cli
from leti_ctl.config import contexts
from leti_ctl.config.profiles import load_profile
from leti_ctl.pipeline import plan
from leti_ctl.suite import book
from leti_ctl.suite.fleet import Fleet, Place
from leti_ctl.suite.resolve import Resolver, Wanted, known_runs
from leti_ctl.suite.trial import Trial
from stages.contract.errors import LetiError, Stopped, UsageError
from stages.contract.run import Run
from stages.contract.store import Store, open_store
from tests.kube.api import ApiServer, Fault
from tests.kube.kinds import TEMPLATES, WORKFLOWS
from tests.leti_ctl.argo.conftest import server
from tests.leti_ctl.argo.test_cluster import set_status
from tests.leti_ctl.parts import finish
from tests.leti_ctl.suite.test_suite import TEXT

__all__ = ["server"]
pytestmark = pytest.mark.soak
SMALLER = ("generate.parts=1", "evaluate.parts=1")
TRAINED, FAILING, BASE, GOOD, BAD = range(5)


@pytest.fixture
def place(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The cluster with the WorkflowTemplate of profile kind, and nobody's own settings."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("LETI_BACKEND", "LETI_CONFIG", "LETI_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    server.objects.create(TEMPLATES, "leti", workflow_template(load_profile("kind")))
    return Place(open_target(contexts.Context(), "kind"), contexts.Context(), "--backend")


def wanted(store: Store) -> list[Wanted]:
    """Two trainings, a score of the base model and two of the first training's checkpoint, in this order."""
    suite = book.parse(TEXT, "test")
    resolver = Resolver(Trial(suite, 0.01, SMALLER), known_runs(store))
    for name, table in suite.tables.items():
        resolver.add(name, table)
    return list(resolver.runs.values())


@dataclass
class Controller:
    """Works on every workflow in three turns: all but the run's last unit, nothing, and the rest with the end."""

    server: ApiServer
    store: Store
    scratch: Path
    failing: str = ""
    """The run whose workflows fail in their first turn."""
    interrupt_at: int = -1
    """The pause that Ctrl-C ends."""
    seen: list[frozenset[str]] = field(default_factory=list)
    """Which runs were at work, by pause."""
    turns: Counter[str] = field(default_factory=Counter)

    def __call__(self, seconds: float) -> None:
        going = {one["metadata"]["name"]: one for one in self.server.objects.list(WORKFLOWS) if not self._ended(one)}
        runs = {name: one["metadata"]["labels"]["leti.dev/run"] for name, one in going.items()}
        self.seen.append(frozenset(runs.values()))
        assert len(self.seen) < 100, "the suite does not come to an end"
        if len(self.seen) - 1 == self.interrupt_at:
            raise KeyboardInterrupt
        for workflow, name in runs.items():
            self._work(workflow, Run(self.store, name))

    def _ended(self, workflow: dict[str, object]) -> bool:
        return dict(workflow.get("status") or {}).get("phase") in ("Succeeded", "Failed")  # type: ignore[call-overload]

    def _work(self, workflow: str, run: Run) -> None:
        self.turns[workflow] += 1
        units = plan(control.current_spec(run)).units
        if run.name == self.failing:
            set_status(self.server, workflow, phase="Failed", message="out of luck")
        elif self.turns[workflow] == 1:
            for unit in units[:-1]:
                finish(run, unit, self.scratch)
            set_status(self.server, workflow, phase="Running")
        elif self.turns[workflow] == 3:
            finish(run, units[-1], self.scratch)
            set_status(self.server, workflow, phase="Succeeded")


def attempts(server: ApiServer) -> Counter[str]:
    """How many workflows each run has had."""
    return Counter(one["metadata"]["labels"]["leti.dev/run"] for one in server.objects.list(WORKFLOWS))


def test_runs_start_when_their_checkpoint_is_there_and_a_failed_one_ends_no_other(
    server: ApiServer, place: Place, s3_uri: str, tmp_path: Path
) -> None:
    store = open_store(s3_uri)
    runs = wanted(store)
    names = [one.name for one in runs]
    assert [one.parent for one in runs] == [None, None, None, names[TRAINED], names[TRAINED]]
    work = Controller(server, store, tmp_path, failing=names[FAILING])
    failed = Fleet(store, runs, place, at_once=3, pause=work).drive()
    assert list(failed) == [names[FAILING]] and "is Failed: out of luck" in failed[names[FAILING]]
    assert work.seen[0] == set(names[:GOOD]), "scores wait for the checkpoint"
    assert work.seen[1] == {names[TRAINED], names[BASE], names[GOOD]}, "and not for the training's end"
    assert max(map(len, work.seen)) == 3 and attempts(server) == dict.fromkeys(names, 1)
    again = Controller(server, store, tmp_path)
    assert Fleet(store, wanted(store), place, at_once=3, pause=again).drive() == {}
    assert again.seen[0] == {names[FAILING]} and attempts(server) == {**dict.fromkeys(names, 1), names[FAILING]: 2}


def test_what_an_interrupt_leaves_at_work_is_followed_by_the_same_command(
    server: ApiServer, place: Place, s3_uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(s3_uri)
    runs = wanted(store)
    with pytest.raises(Stopped, match=f"cluster goes on with {runs[TRAINED].name}, {runs[FAILING].name}; the same"):
        Fleet(store, runs, place, at_once=2, pause=Controller(server, store, tmp_path, interrupt_at=0)).drive()
    assert sum(attempts(server).values()) == 2
    # The training is wanted for longer than it was submitted for: a second workflow takes it there.
    longer = wanted(store)[TRAINED]
    longer.spec = longer.spec.model_copy(update={"iterations": 2})
    work = Controller(server, store, tmp_path)
    assert Fleet(store, [longer], place, at_once=2, pause=work).drive() == {}
    assert work.seen[0] == set(attempts(server))
    assert attempts(server) == {longer.name: 2, runs[FAILING].name: 1}
    assert "0 done, 1 at work, 0 to do" in capsys.readouterr().err


def test_scores_of_what_failed_fail_with_it_and_an_overloaded_server_fails_nothing(
    server: ApiServer, place: Place, s3_uri: str, tmp_path: Path
) -> None:
    store = open_store(s3_uri)
    runs = wanted(store)
    place.target.cluster.api.pause = 0.001
    server.faults.append(Fault("POST", "workflows", 503, times=7))
    work = Controller(server, store, tmp_path, failing=runs[TRAINED].name)
    failed = Fleet(store, runs, place, at_once=9, pause=work).drive()
    assert [runs[number].name for number in (TRAINED, GOOD, BAD)] == list(failed)
    assert failed[runs[BAD].name] == f"{runs[TRAINED].name} failed"
    assert set(attempts(server).values()) == {1}


def test_the_command_prints_its_tables_with_gaps_and_fails(server: ApiServer, place: Place, s3_uri: str) -> None:
    server.faults.append(Fault("POST", "workflows", 403, times=9))
    where = ("--only", "a6", "--scale", "0.01", "--store", s3_uri, "--backend", "argo", "--profile", "kind")
    result = CliRunner().invoke(cli, ("suite", "paper", *where, "--json"))
    assert isinstance(result.exception, LetiError) and result.exception.exit_code == 1
    document = json.loads(result.stdout)
    assert len(document["failed"]) == 2 and all(
        "may not create workflows" in why for why in document["failed"].values()
    )
    assert {cell["note"] for cell in document["tables"]["a6"]["cells"]} == {"not run"}
    assert CliRunner().invoke(cli, ("suite", "paper", *where, "--list")).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--backend", "argo", "--profile", "kind", "--store", "here"), "reach no folder"),
        (("--backend", "argo", "--profile", "gke-l4"), "leti-gke-l4 is not in the cluster"),
        (("--backend", "argo"), "which node pools"),
        (("--parallel", "2"), "backend local"),
    ],
)
def test_what_no_run_could_do_is_refused_before_anything_is_written(
    server: ApiServer, place: Place, s3_uri: str, arguments: tuple[str, ...], said: str
) -> None:
    result = CliRunner().invoke(cli, ("suite", "paper", "--only", "a6", "--store", s3_uri, *arguments))
    assert isinstance(result.exception, UsageError) and said in str(result.exception)
    assert server.objects.list(WORKFLOWS) == [] and list(open_store(s3_uri).list("")) == []
