"""Every figure is drawn by Vega-Lite without a warning, on all the kinds of data there are."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leti_ctl.report.collect import Depth, collect
from leti_ctl.report.export import VERSION
from leti_ctl.report.figures import FIGURES, figures
from leti_ctl.report.machine import MOST_BARS, gantt
from leti_ctl.report.theme import INK, RUNS, Theme, themed
from stages.contract.run import Run

vl_convert = pytest.importorskip("vl_convert")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def kinds(runs: list[Run], data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Several runs, one run, one iteration of a run, nothing but a spec."""
    one = collect(runs[:1], Depth(audit=False))
    return {"several": data, "one": one, "first": _until(one, 0), "none": _until(one, -1)}


def _until(data: dict[str, Any], last: int) -> dict[str, Any]:
    """The data as it was when iteration `last` had been scored."""
    tables = {
        name: [row for row in rows if row.get("iteration", last) <= last] if last >= 0 else []
        for name, rows in data["tables"].items()
    }
    return {**data, "tables": tables}


@pytest.mark.parametrize("kind", ["several", "one", "first", "none"])
def test_figures_compile_without_a_warning(
    kinds: dict[str, dict[str, Any]], kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, spec in figures(kinds[kind]).items():
        vl_convert.vegalite_to_vega(themed(spec, "light"), vl_version=VERSION, show_warnings=True)
        told = capfd.readouterr()
        assert (told.out, told.err) == ("", ""), name


def test_there_is_a_figure_for_everything_the_data_has(kinds: dict[str, dict[str, Any]]) -> None:
    assert figures(kinds["several"]).keys() == FIGURES.keys()
    assert FIGURES.keys() - figures(kinds["one"]).keys() == {"seeds"}
    assert figures(kinds["none"]) == {}


def test_marks_are_drawn_and_stay_within_a_page(data: dict[str, Any]) -> None:
    themes: itertools.cycle[Theme] = itertools.cycle(("light", "dark"))
    for (name, spec), theme in zip(figures(data).items(), themes, strict=False):
        svg = vl_convert.vegalite_to_svg(themed(spec, theme), vl_version=VERSION)
        assert svg.count('aria-roledescription="') > 1, name
        assert "NaN" not in svg and "undefined" not in svg, name
        width = float(svg.partition('width="')[2].partition('"')[0])
        assert 300 < width < 1000, (name, width)
        assert INK[theme]["paper"] in svg


def test_a_run_has_one_colour_in_every_figure(data: dict[str, Any]) -> None:
    names = [run["run"] for run in data["runs"]]
    found = [each for spec in figures(data).values() for each in _colors(spec) if each.get("field") == "run"]
    assert len(found) > 10
    assert all(each["scale"] == {"domain": names} for each in found)


def _colors(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "color" in node and isinstance(node["color"], dict):
            yield node["color"]
        for value in node.values():
            yield from _colors(value)
    elif isinstance(node, list):
        for value in node:
            yield from _colors(value)


def test_the_eight_colours_of_runs_stand_out_from_their_paper() -> None:
    for theme, colors in RUNS.items():
        assert len(set(colors)) == len(colors) == 8
        for color in colors:
            assert _contrast(color, INK[theme]["paper"]) >= 3, (theme, color)


def _contrast(first: str, second: str) -> float:
    """WCAG 2's contrast ratio."""
    lighter, darker = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(color: str) -> float:
    channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_a_run_of_very_many_units_is_drawn_with_few_bars(data: dict[str, Any]) -> None:
    unit = next(row for row in data["tables"]["units"] if row["node"] == "generate-train")
    beside = {"critical": False, "waited": 0.0}
    many = [{**unit, **beside, "unit": f"copy-{number}", "part": number} for number in range(MOST_BARS)]
    grown = {**data, "tables": {**data["tables"], "units": [*data["tables"]["units"], *many]}}
    drawn = gantt(grown)
    assert drawn is not None
    bars = [row for row in drawn["data"]["values"] if row["run"] == unit["run"]]
    assert len(bars) < 100
    assert any(row["units"] == MOST_BARS for row in bars)


def test_titles_say_what_is_seen(data: dict[str, Any]) -> None:
    titles = {name: " ".join(spec["title"]["text"]) for name, spec in figures(data).items()}
    assert titles["learning"].startswith("pass@1 on held-out problems: textual")
    assert len(set(titles.values())) == len(titles)


def test_a_figure_holds_no_more_than_it_draws(data: dict[str, Any]) -> None:
    assert len(json.dumps(figures(data))) < 400_000


def test_figures_can_be_kept_as_files(data: dict[str, Any], tmp_path: Path) -> None:
    from leti_ctl.report.export import write_figures

    spec = {"loss": figures(data)["loss"]}
    png, svg, source = write_figures(spec, tmp_path / "new", "dark")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert svg.read_text().startswith("<svg")
    assert json.loads(source.read_text())["config"]["background"] == INK["dark"]["paper"]
