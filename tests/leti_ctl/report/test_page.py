"""The page as a file: one document that may run its own two scripts and nothing else, whatever its runs hold."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from leti_ctl.report.collect import Depth, collect
from leti_ctl.report.figures import figures
from leti_ctl.report.page import page
from leti_ctl.report.rows import Rows, collect_rows
from tests.leti_ctl.report import hostile
from tests.leti_ctl.report.test_markup import Reader

pytestmark = pytest.mark.slow  # Vega is put into one script, which takes seconds.


class Made(NamedTuple):
    """What a page was made from, and the page."""

    specs: dict[str, Any]
    rows: Rows
    text: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    run = hostile.make(tmp_path_factory.mktemp("written"))
    data = collect([run], Depth(audit=False))
    specs, rows = figures(data), collect_rows([run])
    return Made(specs, rows, page(data, specs, rows))


@pytest.fixture
def written(made: Made) -> str:
    return made.text


def test_only_its_own_scripts_may_run(written: str) -> None:
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', written)
    scripts = re.findall(r"<script>(.*?)</script>", written, re.DOTALL)
    digests = {f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in scripts}
    assert policy is not None
    allowed = re.search(r"script-src ([^;]*)", policy[1].replace("&#x27;", "'"))
    assert allowed is not None
    assert set(allowed[1].split()) == digests
    assert len(scripts) == 2


def test_nothing_in_it_points_elsewhere(written: str) -> None:
    elements = Reader(written.removeprefix("<!doctype html>")).elements
    links = [value or "" for _, attributes in elements for name, value in attributes.items() if name in ("href", "src")]
    assert links and all(link.startswith("#") for link in links)
    assert not [name for name, _ in elements if name in ("link", "img", "iframe", "object", "base", "form")]
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on")]


def test_it_holds_the_figures_and_the_rows_as_they_are(made: Made) -> None:
    told = dict(re.findall(r'<script type="application/json" id="(.*?)">(.*?)</script>', made.text, re.DOTALL))
    chunks = re.findall(r'<script type="application/octet-stream" data-chunk="\d+">(.*?)</script>', made.text)
    assert json.loads(told["figures-data"])["specs"] == json.loads(json.dumps(made.specs))
    assert json.loads(told["catalog-data"]) == made.rows.catalog
    assert chunks == made.rows.chunks


def test_no_line_of_it_is_an_attack(written: str) -> None:
    static = re.sub(r"<script.*?</script>", "", written, flags=re.DOTALL)
    assert not [attack for attack in hostile.ATTACKS[:4] if attack in static]


def test_a_run_with_nothing_yet_has_a_page(tmp_path: Path) -> None:
    run = hostile.make(tmp_path, "begun", models=0)
    data = collect([run], Depth(audit=False))
    written = page(data, figures(data), collect_rows([run]))
    assert "begun" in Reader(re.sub(r"<script.*?</script>", "", written[15:], flags=re.DOTALL)).words
