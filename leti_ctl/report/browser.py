"""The empty browser of problems x iterations, with its controls; `web/browser.js` fills it."""

from __future__ import annotations

from collections.abc import Mapping

from leti_ctl.report.markup import Markup, join, tag
from leti_ctl.report.rows import Rows

CHANGES = {
    "any": "any",
    "learned": "unsolved, then solved",
    "forgot": "solved, then unsolved",
    "better": "better than at first",
    "worse": "worse than at first",
    "never": "never solved",
    "always": "always solved",
}
"""First and last iteration of the pass compared; solved means that at least one sample passed."""
ORDERS = {
    "file": "as in the data",
    "best": "best at last",
    "worst": "worst at last",
    "gain": "gained most",
    "loss": "lost most",
}
KEYS = "arrows or j k h l move, Enter reads, / searches, Esc clears"


def controls(rows: Rows) -> Markup:
    """Return filters, the grid's place, the detail's place, and what of the samples is here."""
    filters = tag(
        "div",
        _choice("run", "Run", {}),
        _choice("pass", "Pass", {}),
        _search(),
        _choice("kind", "Ended in", {"": "anything"}),
        _choice("change", "Changed", CHANGES),
        _choice("order", "Order", ORDERS),
        tag("span", class_="count", data_part="count", role="status"),
        class_="controls",
    )
    label = "The chosen problem"
    detail = tag("div", class_="detail", data_part="detail", tabindex="-1", role="region", aria_label=label)
    return join(filters, tag("div", _list(), detail, class_="panes"), _kept(rows))


def _choice(part: str, label: str, options: Mapping[str, str]) -> Markup:
    choices = [tag("option", text, value=value) for value, text in options.items()]
    return tag("label", label, tag("select", choices, data_part=part))


def _search() -> Markup:
    box = tag("input", type="search", data_part="q", autocomplete="off", spellcheck="false")
    return tag("label", "Search prompts, solutions, feedback", box, class_="search")


def _list() -> Markup:
    label = f"Problems by iterations; {KEYS}"
    grid = tag("div", class_="problems", data_part="problems", role="grid", tabindex="0", aria_label=label)
    heads = tag("div", class_="heads", data_part="heads", aria_hidden="true")
    ramp = tag("span", "0 ", tag("span", class_="ramp"), " 100 % passed")
    key = tag("p", ramp, tag("span", KEYS, class_="help"), class_="key")
    return tag("div", tag("div", heads, grid, class_="list"), key, class_="side")


def _kept(rows: Rows) -> Markup:
    most, left = rows.catalog["variants_per_pair"], rows.catalog["texts_left_out"]
    text = (
        "Every sample counts in the squares. Of each problem and iteration this page holds "
        f"at most {most} different solutions, every kind of outcome first; "
    )
    return tag(
        "p",
        text,
        tag("code", "leti-ctl samples"),
        " reads them all.",
        f" The texts of {left} problems did not fit." if left else "",
        class_="soft",
    )
