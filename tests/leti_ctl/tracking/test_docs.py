"""What docs/tracking.md says is so."""

from __future__ import annotations

import re
from pathlib import Path

from leti_ctl.commands.track import track
from leti_ctl.tracking.points import points
from leti_ctl.tracking.sink import TRACKERS
from tests.conftest import ROOT
from tests.leti_ctl.tracking.runs import grow, make_run

PAGE = (ROOT / "docs" / "tracking.md").read_text()


def test_commands_have_the_options_and_trackers_of_the_page() -> None:
    known = {option for parameter in track.params for option in parameter.opts}
    assert {*re.findall(r"(?<!\S)--[a-z-]+", PAGE)} <= known
    assert {*re.findall(r"--to (\w+):", PAGE)} == TRACKERS.keys()


def test_every_point_of_a_run_has_a_name_of_the_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "store")
    grow(run, tmp_path / "scratch", 1)
    shown = [re.escape(name) for name in re.findall(r"`([^`\s]+)`", PAGE[PAGE.index("| name |") :])]
    pattern = "|".join(
        re.sub(r"PASS|TYPE|OUTCOME|NAME|STREAM|STAGE|K\b|\\\.\\\.\\\.", r"[\\w.-]+", name) for name in shown
    )
    for point in points(run):
        name = re.sub(r"_(low|high)$", "", point.name)
        assert re.fullmatch(pattern, name), name
