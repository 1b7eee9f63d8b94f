"""How far a unit is, as people see it."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from leti_ctl.follow.progress import LiveView, PlainView, describe
from leti_ctl.pipeline import plan
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import open_store
from stages.entrypoint import Job

UPLOADING = {
    "event": "transfer",
    "doing": "uploading iterations/0001/checkpoint",
    "done": 1_240_000_000,
    "total": 4_900_000_000,
}
SAID = "uploading iterations/0001/checkpoint 1.2/4.9 GB"
UNIT = plan(RunSpec()).units[0]


def test_a_transfer_is_said_on_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    view = PlainView(total=7, done=2)
    for _ in range(3):
        view.progressed(UNIT, UPLOADING)
    assert capsys.readouterr().err == f"[2/7] {UNIT.label}: {SAID}\n"


def test_a_transfer_stands_beside_the_bar_of_the_work() -> None:
    view = LiveView(total=7, done=2)
    view.started(UNIT, 1)
    view.progressed(UNIT, {"event": "progress", "done": 3, "total": 4, "unit": "steps"})
    view.progressed(UNIT, UPLOADING)
    shown = Console(file=io.StringIO(), width=200)
    shown.print(view.progress)
    assert SAID in shown.file.getvalue()  # type: ignore[attr-defined]
    assert view.progress.tasks[1].completed == 3


def test_what_a_stage_logs_of_a_transfer_is_what_is_shown(tmp_path: object, caplog: pytest.LogCaptureFixture) -> None:
    job = Job(Run(open_store(str(tmp_path)), "r"), "train")
    with caplog.at_level(logging.INFO, "leti"):
        moved = job.watch("uploading iterations/0001/checkpoint", 4_900_000_000)
        moved.seconds = 0  # type: ignore[attr-defined]
        moved(1_240_000_000)
    (entry,) = [vars(record) for record in caplog.records]
    assert describe({"event": entry["event"], **entry["fields"]}) == SAID
