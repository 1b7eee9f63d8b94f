"""What trackers hold after exports, read back with their own readers: all points once, however often told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from leti_ctl import control
from leti_ctl.cli import cli
from leti_ctl.tracking.card import describe
from leti_ctl.tracking.points import points
from leti_ctl.tracking.sink import Sink, export, exports, open_sink
from stages.contract.errors import UsageError
from stages.contract.run import Run
from tests.conftest import ROOT
from tests.leti_ctl.tracking.runs import grow, make_run

# MLflow's own, at its import, with a newer SQLAlchemy than it was written for.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]
Told = dict[tuple[str, int], list[float]]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all tests: making its tables takes a second."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture(params=["sqlite", "folder", "tensorboard"])
def target(
    request: pytest.FixtureRequest, tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Sink]:
    """Open the tracker anew, as another process would; each test has an experiment of its own."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    addresses = {
        "sqlite": f"mlflow:{database}", "folder": f"mlflow:{tmp_path / 'mlruns'}",
        "tensorboard": f"tensorboard:{tmp_path / 'events'}",
    }  # fmt: skip
    return lambda: open_sink(addresses[request.param], request.node.name)


def read_back(sink: Any, name: str) -> Told:
    """Return the values of every point, in a list: a point told twice has two."""
    told: Told = {}
    if hasattr(sink, "client"):
        (run,) = sink.client.search_runs([sink.experiment])
        for key in run.data.metrics:
            for each in sink.client.get_metric_history(run.info.run_id, key):
                told.setdefault((key, each.step), []).append(each.value)
        return told
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(sink.root / name), size_guidance={"scalars": 0}).Reload()
    for key in events.Tags()["scalars"]:
        for event in events.Scalars(key):
            told.setdefault((key, event.step), []).append(event.value)
    return told


def expected(run: Run) -> Told:
    return {(each.name, each.step): [pytest.approx(each.value, rel=1e-6)] for each in points(run)}


def test_a_tracker_holds_every_point_once_however_the_run_was_told(target: Callable[[], Sink], tmp_path: Path) -> None:
    run = make_run(tmp_path / "store")
    for iterations in (1, 3):
        grow(run, tmp_path / "scratch", iterations)
        first = export(run, target())
        assert first.new > 0 and first.points == len(list(points(run)))
        assert export(run, target()).new == 0
        assert read_back(target(), run.name) == expected(run)


@pytest.mark.parametrize("target", ["sqlite", "tensorboard"], indirect=True)
def test_an_export_that_was_cut_off_is_completed_by_the_next(target: Callable[[], Sink], tmp_path: Path) -> None:
    run = make_run(tmp_path / "store")
    grow(run, tmp_path / "scratch", 1)
    sink, found = target(), list(points(run))
    sink.open_run(describe(run))
    sink.known([])
    sink.write(found[: len(found) // 2])
    assert export(run, target()).new == len(found) - len(found) // 2
    assert read_back(target(), run.name) == expected(run)


def test_mlflow_shows_spec_tags_documents_and_state(database: str, tmp_path: Path) -> None:
    script = tmp_path / ("x" * 200) / ("y" * 200)
    long = {"engine": "scripted", "script": str(script) * 20, "parts": 1}
    run = make_run(tmp_path / "store", generate=long)
    grow(run, tmp_path / "scratch", 1)
    sink: Any = open_sink(f"mlflow:{database}", "shown")
    export(run, sink)
    (told,) = sink.client.search_runs([sink.experiment])
    assert (told.info.status, told.info.run_name) == ("KILLED", run.name)
    grow(run, tmp_path / "scratch", 3)
    export(run, sink)
    (told,) = sink.client.search_runs([sink.experiment])
    assert told.info.status == "FINISHED" and told.info.start_time == 1767225600000
    assert told.data.params["train.batch_size"] == "128" and told.data.params["execute.carets"] == "false"
    assert len(told.data.params["generate.script"]) == 6000
    assert told.data.tags["leti.spec_sha256"] == run.spec_sha256
    assert told.data.tags["leti.best_checkpoint"] == "iterations/0002/checkpoint"
    folder = Path(told.info.artifact_uri)
    assert json.loads((folder / "leti/spec.json").read_text()) == json.loads(run.spec.to_json())
    assert len(json.loads((folder / "leti/artifacts.json").read_text())["artifacts"]) > 15


@pytest.mark.parametrize("target", ["sqlite", "tensorboard"], indirect=True)
def test_runs_of_one_name_in_two_stores_stay_apart(target: Callable[[], Sink], tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name) for name in ("one", "two")]
    for run in runs:
        grow(run, tmp_path / "scratch", 1)
    sink = target()
    counts = [export(run, sink) for run in runs]
    assert counts[0].new == counts[1].new == len(list(points(runs[0])))
    assert [export(run, target()).new for run in runs] == [0, 0]


def test_an_event_file_that_ends_within_an_event_is_completed_in_the_next(tmp_path: Path) -> None:
    run = make_run(tmp_path / "store")
    grow(run, tmp_path / "scratch", 1)
    sink: Any = open_sink(f"tensorboard:{tmp_path / 'events'}", "")
    export(run, sink)
    first = min((tmp_path / "events" / run.name).glob("events*"), key=lambda path: path.name)
    first.write_bytes(first.read_bytes()[:-70])
    assert export(run, sink).new >= 1
    assert read_back(sink, run.name) == expected(run)


def test_tensorboard_shows_the_spec_as_hyperparameters_and_text(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = make_run(tmp_path / "store")
    grow(run, tmp_path / "scratch", 1)
    sink = open_sink(f"tensorboard:{tmp_path}", "")
    for _ in range(2):
        export(run, sink)
    grow(run, tmp_path / "scratch", 3)
    export(run, sink)
    events = EventAccumulator(str(tmp_path / run.name)).Reload()
    assert len(events.Tensors("_hparams_/session_start_info")) == len(events.Tensors("spec")) == 1
    texts = [event.tensor_proto.string_val[0].decode() for event in events.Tensors("about")]
    assert len(texts) == 2 and "Stopped" in texts[0] and "Succeeded" in texts[1]
    assert '"samples_per_problem": 128' in events.Tensors("spec")[0].tensor_proto.string_val[0].decode()


def test_following_ends_when_nobody_drives_the_run_any_more(tmp_path: Path) -> None:
    run = make_run(tmp_path / "store")
    following = exports([run], {"t": open_sink(f"tensorboard:{tmp_path / 'events'}", "")}, every=0.01)
    with control.driving(run, "local", run.spec):
        grow(run, tmp_path / "scratch", 1)
        ((_, first),) = next(following)
        grow(run, tmp_path / "scratch", 3)
    ((_, last),) = next(following)
    assert (first.phase, last.phase) == ("Running", "Succeeded") and last.new == last.points - first.points
    assert list(following) == []


def test_the_command_tells_several_runs_to_several_trackers(tmp_path: Path, database: str) -> None:
    run = make_run(tmp_path / "store")
    grow(run, tmp_path / "scratch", 1)
    line = ["track", run.name, "--store", str(tmp_path / "store"), "--json", "--experiment", "command"]
    done = CliRunner().invoke(cli, [*line, "--to", f"mlflow:{database}", "--to", f"tensorboard:{tmp_path / 'tb'}"])
    rows = json.loads(done.output)["exports"]
    assert [row["new"] for row in rows] == [rows[0]["points"]] * 2 and rows[0]["points"] > 50


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("wandb:x", ("'wandb:x'", "mlflow:", "tensorboard:")),
        ("tensorboard:", ("names no folder", "tensorboard:DIR")),
        ("mlflow:", ("MLFLOW_TRACKING_URI",)),
        ("mlflow:gopher://x", ("mlflow:gopher://x",)),
    ],
)
def test_an_address_that_will_not_do_is_a_line(to: str, words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        open_sink(to, "e")
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


@pytest.mark.parametrize("library", ["mlflow", "tensorboard"])
def test_a_library_that_is_not_installed_is_a_line(library: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "store")
    script = f"import sys; sys.modules[{library!r}] = None; from leti_ctl.cli import main; main()"
    line = [sys.executable, "-c", script, "track", run.name, "--store", str(tmp_path / "store"), "--to", f"{library}:x"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert library in done.stderr and "leti[tracking]" in done.stderr
