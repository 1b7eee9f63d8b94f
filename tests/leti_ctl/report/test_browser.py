"""The page in a headless Chromium: it draws, filters, follows keys, keeps attacks as text and loads nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leti_ctl.report.collect import Depth, collect
from leti_ctl.report.figures import figures
from leti_ctl.report.page import page
from leti_ctl.report.rows import collect_rows
from tests.leti_ctl.report import chromium, hostile
from tests.leti_ctl.report.chromium import Tab

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.find() is None, reason="no Chromium here; `sh scripts/chromium.sh` installs it"),
]
CONTRAST = Path(__file__).with_name("contrast.js").read_text()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page about two runs whose texts attack it."""
    folder = tmp_path_factory.mktemp("page")
    runs = [hostile.make(folder, name) for name in ("hostile", "other")]
    data = collect(runs, Depth(audit=False))
    path = folder / "report.html"
    path.write_text(page(data, figures(data), collect_rows(runs)), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, address: str) -> Iterator[Tab]:
    """The page, opened once: a browser that starts, and figures that are drawn, take seconds."""
    with chromium.chromium(tmp_path_factory.mktemp("profile")) as tab:
        tab.size(1280)
        tab.media()
        show(tab, address)
        yield tab


@pytest.fixture
def tab(opened: Tab) -> Tab:
    """The page at its default state: light, wide, nothing filtered."""
    opened.size(1280)
    opened.media()
    opened.run("letiReport.browser.show({ run: '', pass: '', problem: '', iteration: '', q: '', kind: '', change: 'any', order: 'file' })")  # noqa: E501  # fmt: skip
    opened.run("delete document.documentElement.dataset.theme; history.replaceState(null, '', '#'); scrollTo(0, 0)")
    return opened


def show(tab: Tab, address: str) -> None:
    """Open the page and wait until figures and browser are there."""
    tab.open(address)
    tab.run("letiReport.drawAll()")
    tab.run("letiReport.browser.settled")


def shown(tab: Tab) -> list[str]:
    """Return the ids of the problems listed."""
    return list(tab.run("[...document.querySelectorAll('.problems .row')].map((row) => row.dataset.id)"))


def choose(tab: Tab, part: str, value: str) -> None:
    """Choose an option of a filter, as a person does, and wait until the list and the detail have followed."""
    tab.run(f"""(async () => {{
        const select = document.querySelector("[data-part={part}]");
        select.value = {json.dumps(value)};
        select.dispatchEvent(new Event("change"));
        await letiReport.browser.settled;
    }})()""")


def settled(tab: Tab) -> dict[str, Any]:
    """Wait until the browser shows its state, and return it."""
    tab.run("letiReport.browser.settled")
    return dict(tab.run("({ ...letiReport.browser.state, row: letiReport.browser.row?.id })"))


def test_it_loads_without_an_error_or_a_request(tab: Tab, address: str) -> None:
    assert tab.errors == []
    assert tab.requests == [address]


def test_every_figure_is_drawn_for_screen_and_paper(tab: Tab) -> None:
    number = tab.run("document.querySelectorAll('figure').length")
    assert number >= 3
    assert tab.run("document.querySelectorAll('figure .draw svg').length") == number
    tab.wait(f"document.querySelectorAll('figure .paper svg').length === {number}")


def test_nothing_a_model_wrote_is_run_or_becomes_markup(tab: Tab) -> None:
    for iteration in range(hostile.ITERATIONS + 1):
        for number in range(hostile.PROBLEMS):
            tab.run(f"letiReport.browser.go({{ problem: 'test/{number}', iteration: '{iteration}' }})")
            settled(tab)
            assert tab.run("document.querySelectorAll('main :is(img, iframe, object, svg svg, script)').length") == 0
            assert tab.run("document.querySelectorAll('.detail svg').length") == 0
    assert tab.run("window.PWNED") is None
    assert tab.errors == []


def test_attacks_are_shown_as_the_text_they_are(tab: Tab) -> None:
    tab.run("letiReport.browser.go({ problem: 'test/0', iteration: '0' })")
    settled(tab)
    text = tab.run("document.querySelector('.detail').textContent")
    assert hostile.ATTACKS[0] in text and hostile.ATTACKS[1] in text
    tab.run("letiReport.browser.go({ problem: 'test/1', iteration: '0' })")
    settled(tab)
    assert "U+202Egnp.exe U+0000U+001B[31mU+FEFF" in tab.run("document.querySelector('.detail').textContent")


def test_the_list_has_a_square_per_iteration(tab: Tab) -> None:
    assert shown(tab) == [f"test/{number}" for number in range(hostile.PROBLEMS)]
    labels = tab.run("[...document.querySelectorAll('.row:first-child .cell')].map((cell) => cell.ariaLabel)")
    assert labels == ["iteration 0: 0% passed", "iteration 1: 17% passed", "iteration 2: 0% passed"]


@pytest.mark.parametrize(
    ("change", "ids"),
    [("never", ["test/2"]), ("forgot", ["test/1", "test/3"]), ("always", []), ("learned", [])],
)
def test_problems_are_filtered_by_how_they_changed(tab: Tab, change: str, ids: list[str]) -> None:
    choose(tab, "change", change)
    assert shown(tab) == ids


def test_problems_are_filtered_by_outcome_and_other_squares_fade(tab: Tab) -> None:
    choose(tab, "kind", "passed")
    assert shown(tab) == ["test/0", "test/1", "test/3"]
    faded = tab.run("[...document.querySelectorAll('.row:first-child .cell')].map((cell) => cell.matches('.dim'))")
    assert faded == [True, False, True]


def test_text_is_found_in_prompts_solutions_and_feedback(tab: Tab) -> None:
    tab.press("/")
    assert tab.run("document.activeElement.dataset.part") == "q"
    for query in ("task 2", "ONERROR=", "U+202E", "\u202e", "Traceback", "nowhere"):
        ids = [f"test/{number}" for number in range(4) if query.lower() in hostile.words(number).lower()]
        tab.run(f"letiReport.browser.go({{ q: {json.dumps(query)} }})")
        settled(tab)
        assert shown(tab) == ids


def test_what_was_searched_for_is_marked(tab: Tab) -> None:
    tab.run("letiReport.browser.go({ q: 'traceback', iteration: '0' })")
    settled(tab)
    marks = tab.run("[...document.querySelectorAll('.detail mark')].map((mark) => mark.textContent)")
    assert marks and set(marks) == {"Traceback"}


def test_keys_move_through_problems_and_iterations(tab: Tab) -> None:
    tab.run("document.querySelector('.problems').focus()")
    moves = {"j": ("test/1", ""), "ArrowDown": ("test/2", ""), "k": ("test/1", ""), "End": ("test/3", ""),
             "h": ("test/3", "1"), "ArrowLeft": ("test/3", "0"), "l": ("test/3", "1")}  # fmt: skip
    for key, (problem, iteration) in moves.items():
        tab.press(key)
        state = settled(tab)
        assert (state["row"], state["iteration"]) == (problem, iteration), key
    active = tab.run("document.getElementById(document.querySelector('.problems').getAttribute('aria-activedescendant')).ariaLabel")  # noqa: E501  # fmt: skip
    assert active.startswith("iteration 1:")
    choose(tab, "change", "never")
    tab.press("/", "Escape")
    assert settled(tab)["change"] == "any"
    assert len(shown(tab)) == hostile.PROBLEMS


def test_a_link_shows_what_its_sender_saw(tab: Tab, address: str) -> None:
    tab.run("letiReport.browser.go({ run: 'other', problem: 'test/3', iteration: '1', q: 'traceback' })")
    before = settled(tab)
    link = tab.run("location.hash")
    show(tab, address + link)
    assert settled(tab) == before
    assert "Task 3" in tab.run("document.querySelector('.detail h3').textContent")


def test_a_link_that_names_nothing_known_shows_the_first_problem(tab: Tab, address: str) -> None:
    show(tab, address + "#browse?problem=%3Cb%3E&change=__proto__&run=x&iteration=99&order=constructor")
    assert settled(tab)["row"] == "test/0"
    assert tab.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_text_can_be_read_in_both_themes_and_on_narrow_screens(tab: Tab, scheme: str, width: int) -> None:
    tab.size(width)
    tab.media(scheme=scheme)
    tab.wait(f"document.documentElement.scrollWidth <= {width}")
    assert tab.run(CONTRAST) == []


def test_the_theme_follows_the_system_until_it_is_switched(tab: Tab) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    light = tab.run(paper)
    tab.media(scheme="dark")
    dark = tab.run(paper)
    assert light != dark
    tab.run("document.getElementById('theme').click()")
    assert tab.run(paper) == light
    tab.run("document.getElementById('theme').click(); localStorage.clear()")
    assert tab.run(paper) == dark


def test_paper_is_light_and_holds_the_figures_drawn_for_it(tab: Tab) -> None:
    tab.media(scheme="dark", kind="print")
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.run("[...document.querySelectorAll('.draw')].every((each) => each.offsetHeight === 0)")
    assert tab.run("[...document.querySelectorAll('.paper')].every((each) => each.offsetHeight > 50)")
    assert tab.pdf().startswith(b"%PDF")


def test_figures_are_saved_with_their_colours_settled(tab: Tab) -> None:
    told = tab.run("""(async () => {
        const saved = {};
        const found = new Promise((resolve) => {
            HTMLAnchorElement.prototype.click = function () {
                saved[this.download.split(".").pop()] = this.href;
                if (Object.keys(saved).length === 3) resolve();
            };
        });
        const texts = [];
        const make = URL.createObjectURL;
        URL.createObjectURL = (blob) => { texts.push(blob.text()); return make(blob); };
        for (const kind of ["svg", "png", "csv"]) document.querySelector(`[data-save=${kind}]`).click();
        await found;
        return { png: saved.png.slice(0, 30), texts: await Promise.all(texts) };
    })()""")
    csv, svg = sorted(told["texts"], key=lambda text: text.startswith("<svg"))
    assert told["png"].startswith("data:image/png;base64,iVBOR")
    assert "light-dark" not in svg and "var(--" not in svg and "<title>" not in svg
    assert csv.splitlines()[0].startswith("run,")


def test_every_control_has_a_name(tab: Tab) -> None:
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "combobox", "searchbox", "grid", "link", "region", "gridcell", "img"}
    controls = [node for node in nodes if not node["ignored"] and node["role"]["value"] in roles]
    assert {"button", "combobox", "searchbox", "grid", "gridcell"} <= {node["role"]["value"] for node in controls}
    assert [node for node in controls if not node.get("name", {}).get("value")] == []


def test_it_forbids_what_it_does_not_need(tab: Tab) -> None:
    # The last test of all: what is refused stands among the errors, sooner or later.
    policy = tab.run("document.querySelector('meta[http-equiv=Content-Security-Policy]').content")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy and "http" not in policy
    assert tab.run("fetch('data:,x').then(() => 'fetched', () => 'refused')") == "refused"
