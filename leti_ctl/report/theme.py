"""How figures look: palettes that colour-blind readers can tell apart, and one Vega-Lite configuration per theme.

A figure holds no colour of its theme: runs take theirs from the configuration's `category` range by their place among
the report's runs, so the same run has the same colour in every figure and a page can change the theme without another
figure. What stands for a meaning (an error type, a stage) keeps one colour in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Theme = Literal["light", "dark"]
Config = dict[str, Any]

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
FONT = "Inter, 'Helvetica Neue', Helvetica, 'Liberation Sans', Arial, sans-serif"

# Okabe and Ito's colours (https://jfly.uni-koeln.de/color/), darkened and lightened for their background.
RUNS: Mapping[Theme, tuple[str, ...]] = {
    "light": ("#0072B2", "#D55E00", "#009E73", "#B5539C", "#B98600", "#3A9BDC", "#6A4FB3", "#5F6B76"),
    "dark": ("#56B4E9", "#FF8A4C", "#35C99B", "#E38CC8", "#F0C244", "#A7D8F7", "#B6A1F2", "#B8C1CC"),
}
OUTCOMES: Mapping[str, str] = {
    "passed": "#009E73",
    "AssertionError": "#56B4E9",
    "SyntaxError": "#D55E00",
    "IndentationError": "#E69F00",
    "NameError": "#CC79A7",
    "TypeError": "#0072B2",
    "timed_out": "#7A5AA6",
}
"""An error type's own colour; the first is no error."""
SPARE = ("#B8A800", "#8C510A", "#5AAE9D", "#7A5AA6")
"""For error types that have none."""
OTHER = "#9AA3AD"
STAGES: Mapping[str, str] = {
    "prepare": "#9AA3AD",
    "generate": "#0072B2",
    "execute": "#E69F00",
    "build": "#CC79A7",
    "train": "#D55E00",
    "evaluate": "#009E73",
}
INK: Mapping[Theme, Mapping[str, str]] = {
    "light": {"text": "#1B232C", "faint": "#5B6671", "line": "#DDE3E9", "paper": "#FFFFFF"},
    "dark": {"text": "#E8EDF2", "faint": "#9BA8B5", "line": "#313C48", "paper": "#12181F"},
}


def config(theme: Theme) -> Config:
    """Return the Vega-Lite configuration of a theme; `INK[theme]["paper"]` is its background."""
    ink = INK[theme]
    words = {"labelColor": ink["faint"], "titleColor": ink["faint"], "labelFontSize": 11, "titleFontSize": 11,
             "titleFontWeight": "normal"}  # fmt: skip
    return {
        "background": ink["paper"],
        "font": FONT,
        "view": {"stroke": None},
        "range": {"category": list(RUNS[theme])},
        "title": {"anchor": "start", "color": ink["text"], "fontSize": 15, "fontWeight": 600, "offset": 14,
                  "subtitleColor": ink["faint"], "subtitleFontSize": 12, "subtitlePadding": 6, "frame": "bounds"},
        "axis": {**words, "gridColor": ink["line"], "domainColor": ink["line"], "tickColor": ink["line"],
                 "titlePadding": 8, "labelPadding": 4},
        "axisX": {"grid": False},
        "axisY": {"domain": False, "ticks": False},
        "header": {"labelColor": ink["text"], "labelFontSize": 12, "labelFontWeight": 600, "titleColor": ink["faint"],
                   "labelAnchor": "start"},
        "legend": {**words, "labelColor": ink["text"], "labelFontSize": 12, "orient": "top", "title": None,
                   "symbolSize": 90, "symbolStrokeWidth": 2, "symbolOpacity": 1, "labelLimit": 260,
                   "columnPadding": 18},
        "line": {"strokeWidth": 2, "strokeCap": "round", "strokeJoin": "round"},
        "point": {"size": 34, "filled": True, "opacity": 1},
        "text": {"color": ink["text"], "fontSize": 11},
        "rule": {"color": ink["faint"]},
        "facet": {"spacing": 28},
        "concat": {"spacing": 28},
    }  # fmt: skip


def themed(spec: Mapping[str, Any], theme: Theme) -> dict[str, Any]:
    """Return a figure with its theme's configuration, ready to be drawn."""
    return {**spec, "config": config(theme)}


def outcome_colors(names: list[str]) -> list[str]:
    """Return a colour per outcome, own colours first, spare ones for the rest, `OTHER` for what is summed up."""
    spare = iter(SPARE)
    return [OTHER if name.startswith("other") else OUTCOMES.get(name) or next(spare, OTHER) for name in names]
