"""Following a run: what is shown of it, and that watching ends when nobody drives it any more."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from leti_ctl import control
from leti_ctl.follow import journal, watching
from leti_ctl.follow.board import Picture, PlainBoard, table
from leti_ctl.follow.journal import Filter
from leti_ctl.follow.sight import Place, Row, Sighting, look
from leti_ctl.pipeline import Unit, plan
from stages.contract.run import Run
from tests.leti_ctl.parts import finish, make_run


@pytest.fixture
def fresh(tmp_path: Path) -> Run:
    return make_run(tmp_path / "store")


def unit(run: Run, name: str) -> Unit:
    return next(unit for unit in plan(run.spec).units if unit.id == name)


def shown(rows: list[Row]) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(table(rows))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def seen(name: str, phase: str, reason: str = "", part: str = "0/2") -> Sighting:
    return Sighting(Place("generate", 0, "train", part), name, phase, reason, phase in ("Pending", "Running"))


def test_the_store_says_what_is_done_whatever_pods_say(fresh: Run, tmp_path: Path) -> None:
    finish(fresh, unit(fresh, "0000-generate-train-00000-of-00002"), tmp_path)
    rows = {row.title: row for row in look(fresh, [seen("p", "Failed", "x")]) if row.iteration == 0}
    assert [one.state for one in rows["generate train"].units] == ["done", "open"]


def test_a_running_attempt_counts_before_those_that_failed(fresh: Run) -> None:
    sightings = [seen("p-0", "Failed", "Evicted"), seen("p-1", "Running")]
    (row,) = [row for row in look(fresh, sightings) if row.title == "generate train" and row.iteration == 0]
    assert [one.state for one in row.units] == ["running", "open"]
    (row,) = [row for row in look(fresh, sightings[:1]) if row.title == "generate train" and row.iteration == 0]
    assert row.notes == ["p-0: Evicted"]


def test_the_table_has_a_sign_for_every_part_and_a_line_for_idle_iterations(fresh: Run, tmp_path: Path) -> None:
    for each in plan(fresh.spec).units:
        if each.iteration == 0 or each.id == "0001-generate-train-00000-of-00002":
            finish(fresh, each, tmp_path)
    waiting = Sighting(Place("generate", 1, "train", "1/2"), "p", "Pending", "Unschedulable: no nodes", True)
    text = shown(look(fresh, [waiting]))
    assert "✓…" in text and "p: Unschedulable: no nodes" in text
    assert text.count("all stages") == 1 and text.count("to come") == 1 and "2-3" in text


def test_plain_lines_tell_changes_once(fresh: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    board = PlainBoard()
    board.show(Picture("r · Running", look(fresh)))
    board.show(Picture("r · Running", look(fresh, [seen("p", "Running", "3/8 samples")])))
    board.show(Picture("r · Running", look(fresh, [seen("p", "Running", "4/8 samples")]), ("stuck",)))
    finish(fresh, unit(fresh, "0000-generate-train-00000-of-00002"), tmp_path)
    board.show(Picture("r · Running", look(fresh), ("stuck",)))
    assert capsys.readouterr().err.splitlines() == [
        "r · Running",
        "[0/34] iteration 0 · generate train · part 1 of 2: running (3/8 samples)",
        "warning: stuck",
        "[1/34] iteration 0 · generate train · part 1 of 2: done",
    ]


def log(run: Run, name: str, *entries: dict[str, object]) -> None:
    folder = control.log_folder(run)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(entry) + "\n" for entry in entries))


PLACE = {"stage": "generate", "iteration": 0, "split": "train", "part": "0/2"}
PROGRESS = {**PLACE, "event": "progress", "done": 3, "total": 8, "unit": "samples"}


def test_a_local_run_is_followed_by_its_logs_while_a_process_drives_it(fresh: Run) -> None:
    log(fresh, "0000-generate-train-00000-of-00002.20260101T000000-1.log", PROGRESS)
    (picture,) = watching.pictures(fresh)
    assert "driven by nobody · Stopped" in picture.title
    with control.driving(fresh, "local", fresh.spec):
        found = next(watching.pictures(fresh, every=0.01))
        assert "Running" in found.title
        (row,) = [row for row in found.rows if row.title == "generate train" and row.iteration == 0]
        assert (row.units[0].state, row.units[0].note) == ("running", "3/8 samples")
    log(fresh, "0000-generate-train-00000-of-00002.20260101T000000-1.log", PROGRESS, {**PLACE, "event": "done"})
    with control.driving(fresh, "local", fresh.spec):
        assert watching.sightings(fresh) == []


def test_following_logs_shows_each_line_once_and_ends_with_the_driver(fresh: Run) -> None:
    name = "0000-generate-train-00000-of-00002.20260101T000000-1.log"
    log(fresh, name, {**PLACE, "message": "one"})
    with control.driving(fresh, "local", fresh.spec):
        lines = journal.follow(fresh, Filter(stage="generate"))
        assert next(lines)["message"] == "one"
        with open(control.log_folder(fresh) / name, "a") as file:
            file.write("no JSON\n" + json.dumps({**PLACE, "message": "half"})[:-1])
        assert next(lines) == {**PLACE, "event": "log", "message": "no JSON"}
    with open(control.log_folder(fresh) / name, "a") as file:
        file.write("}")
    assert [entry["message"] for entry in lines] == ["half"]


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [(Filter(), True), (Filter(part="0"), True), (Filter(part="0/2"), True), (Filter(part="1"), False),
     (Filter(split="test"), False), (Filter("generate", 0, "train", "0"), True)],
)  # fmt: skip
def test_a_filter_accepts_what_fits_in_every_coordinate(wanted: Filter, fits: bool) -> None:
    assert wanted.accepts(dict(PLACE)) is fits
