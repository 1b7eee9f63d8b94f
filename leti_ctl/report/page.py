"""The report as one HTML file: no network, no framework, everything a model wrote kept away from the markup.

Texts reach the page in two ways. Static parts are built with `markup`, which escapes. Everything else is data: JSON in
`script` elements that are never run (and gzipped base64 for the browser's texts), from which scripts make text nodes,
never HTML. A content security policy lets run exactly the two scripts below, by digest, and load nothing.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

from leti_ctl.report import browser, provenance, sections, theme
from leti_ctl.report.markup import Markup, embedded, join, raw, tag
from leti_ctl.report.rows import Rows
from stages.contract.errors import UsageError

STYLES = ("page.css", "browser.css")
SCRIPTS = ("highlight.js", "figures.js", "detail.js", "browser.js", "page.js")
Spec = Mapping[str, Any]


def page(data: Mapping[str, Any], figures: Mapping[str, Spec], rows: Rows | None = None) -> str:
    """Return the page: `data` as `collect` makes it, Vega-Lite specs by name, and the browser's rows if wanted."""
    scripts = [vega_bundle(), own_script()]
    title = f"{', '.join(run['run'] for run in data['runs'])} - LETI report"
    head = join(
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(scripts)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="generator", content=f"leti {data['leti']}"),
        tag("title", title),
        raw("style", "\n".join([_variables(), *map(_web, STYLES)])),
    )
    body = [
        tag("a", "Skip to the figures", href="#main", class_="skip"),
        sections.header(data),
        *_body(data, figures, rows),
        raw("script", embedded(_figures_data(figures)), type="application/json", id="figures-data"),
        *_rows_data(rows),
        *[raw("script", script) for script in scripts],
    ]
    return "<!doctype html>\n" + tag("html", tag("head", head), tag("body", *body), lang="en") + "\n"


@lru_cache(maxsize=1)
def vega_bundle() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script, from the package `vl-convert-python`."""
    try:
        import vl_convert
    except ImportError:
        raise UsageError("the report's figures need vl-convert-python; pip install 'leti[report]'") from None
    return _script(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def own_script() -> str:
    """Return the page's own script, which shares no name with anything else on the page."""
    parts = "\n".join(_web(name) for name in SCRIPTS)
    return _script(f'(() => {{\n"use strict";\n{parts}}})();')


def _script(text: str) -> str:
    """Return JavaScript that may stand in a `script` element; what would end it there can only be in a string."""
    text = text.replace("\r\n", "\n").replace("\r", "\\r")
    return re.sub(r"<(?=/script|!--|script)", r"\\x3c", text, flags=re.IGNORECASE)


def _web(name: str) -> str:
    return (files("leti_ctl.report") / "web" / name).read_text(encoding="utf-8")


def _variables() -> str:
    """Return the theme as CSS variables, so that page and figures are of one make."""
    inks = {"ink": "text", "soft": "faint", "line": "line", "paper": "paper"}
    light, dark = theme.INK["light"], theme.INK["dark"]
    found = {name: _both(light[key], dark[key]) for name, key in inks.items()}
    pairs = zip(theme.RUNS["light"], theme.RUNS["dark"], strict=True)
    found |= {f"c{number}": _both(*pair) for number, pair in enumerate(pairs, 1)}
    lines = "".join(f"  --{name}: {value};\n" for name, value in {**found, "sans": theme.FONT}.items())
    return f":root {{\n{lines}}}\n"


def _both(light: Any, dark: Any) -> Any:
    """Return two configurations as one: where they differ in a colour it is CSS's `light-dark()`."""
    if isinstance(light, dict):
        return {name: _both(value, dark[name]) for name, value in light.items()}
    if isinstance(light, list):
        return [_both(*pair) for pair in zip(light, dark, strict=True)]
    return light if light == dark else f"light-dark({light}, {dark})"


def _figures_data(figures: Mapping[str, Spec]) -> dict[str, Any]:
    return {"specs": dict(figures), "config": _both(theme.config("light"), theme.config("dark"))}


def _policy(scripts: Iterable[str]) -> str:
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _rows_data(rows: Rows | None) -> list[Markup]:
    if rows is None:
        return []
    chunks = [
        raw("script", chunk, type="application/octet-stream", data_chunk=str(number))
        for number, chunk in enumerate(rows.chunks)
    ]
    return [raw("script", embedded(rows.catalog), type="application/json", id="catalog-data"), *chunks]


class Section(NamedTuple):
    """A part of the page: its place in the address, its name, one line on what it answers, words in figures' names."""

    name: str
    title: str
    lead: str
    figures: tuple[str, ...] = ()


LEARNING = Section(
    "learning", "Learning", "Scores of every iteration's model; bands are 95 % intervals, resampled over problems."
)
BEHAVIOUR = Section(
    "behaviour", "Behaviour", "What the model's solutions die of, how long they are, and whether it games its tests.",
    ("error", "outcome", "length", "stop", "feedback", "canar", "hack"),
)  # fmt: skip
TIME = Section(
    "time", "Time and cost", "When every unit ran, what the end waited for, and how fast the stages worked.",
    ("gantt", "timeline", "stage", "throughput", "speed", "cost", "path"),
)  # fmt: skip
BROWSE = Section(
    "browse", "Solutions", "Problems down, iterations across; the darker a square, the more samples passed."
)
SCORES = Section("scores", "Scores", "Every number of the figures above, with its interval.")
ORIGIN = Section("origin", "Origin", "What produced these checkpoints, and whether the store still agrees.")
GROUPS = (LEARNING, BEHAVIOUR, TIME)


def _body(data: Mapping[str, Any], figures: Mapping[str, Spec], rows: Rows | None) -> list[Markup]:
    parts: list[tuple[Section, Sequence[Markup | None]]] = [
        (LEARNING, []),
        (BEHAVIOUR, [sections.learned(data), sections.canaries(data)]),
        (BROWSE, [browser.controls(rows)] if rows else []),
        (SCORES, [*sections.seeds(data), *sections.scores(data)]),
        (TIME, sections.times(data)),
        (ORIGIN, [provenance.provenance(run, named=len(data["runs"]) > 1) for run in data["runs"]]),
    ]
    places = {name: _section_of(name, spec) for name, spec in figures.items()}
    drawn = [
        (section, _figures({name: spec for name, spec in figures.items() if places[name] is section}), inner)
        for section, inner in parts
    ]
    shown = [(section, figure, inner) for section, figure, inner in drawn if figure or any(inner)]
    links = [tag("a", section.title, href=f"#{section.name}") for section, _, _ in shown]
    toggle = tag("button", "Dark", type="button", id="theme")
    made = f"Made {data['generated_at']} by leti {data['leti']}. This file needs no network and holds all its data."
    return [
        tag("nav", tag("div", links, toggle, class_="wide"), aria_label="Sections"),
        tag("main", [_section(*each) for each in shown], id="main"),
        tag("footer", made, class_="wide foot"),
    ]


def _section(section: Section, figures: Markup | None, inner: Sequence[Markup | None]) -> Markup:
    heading = tag("h2", section.title, id=f"{section.name}-title")
    content = tag("div", heading, tag("p", section.lead, class_="lead"), figures, inner, class_="wide")
    return tag("section", content, id=section.name, aria_labelledby=f"{section.name}-title")


def _section_of(name: str, spec: Spec) -> Section:
    wanted = spec.get("usermeta", {}).get("section")
    by_name = next((each for each in GROUPS if each.name == wanted), None)
    return by_name or next((each for each in GROUPS if any(word in name for word in each.figures)), LEARNING)


def _figures(specs: Mapping[str, Spec]) -> Markup | None:
    """Return the figures in their order; narrow ones stand side by side, so the second of a pair is moved up to it."""
    narrow = [name for name, spec in specs.items() if not _is_wide(name, spec)]
    partners = dict(zip(narrow[::2], narrow[1::2], strict=False))
    seconds = set(partners.values())
    drawn = []
    for name, spec in specs.items():
        if name in partners:
            drawn += [_figure(name, spec, "half"), _figure(partners[name], specs[partners[name]], "half")]
        elif name not in seconds:
            drawn.append(_figure(name, spec, "full" if _is_wide(name, spec) else "lone"))
    return tag("div", drawn, class_="figures") if drawn else None


WIDE = frozenset({"feedback", "gantt"})
"""Figures that need the page's width even for one run: long labels, a long time."""


def _is_wide(name: str, spec: Spec) -> bool:
    return name in WIDE or any(key in spec for key in ("facet", "concat", "hconcat", "vconcat"))


def _figure(name: str, spec: Spec, place: str) -> Markup:
    title = spec.get("title", name)
    told = title if isinstance(title, Mapping) else {"text": title}
    heading, caption = (_joined(told.get(key, "")) for key in ("text", "subtitle"))
    buttons = [
        tag("button", kind.upper(), type="button", class_="quiet", data_save=kind, aria_label=f"{kind}: {heading}")
        for kind in ("svg", "png", "csv")
    ]
    return tag(
        "figure",
        tag("h3", heading, id=f"figure-{name}-title"),
        tag("p", caption, class_="caption") if caption else None,
        tag("div", class_="draw"),
        tag("div", buttons, tag("details", tag("summary", "Data")), class_="tools"),
        id=f"figure-{name}",
        class_=place,
    )


def _joined(lines: str | Sequence[str]) -> str:
    return lines if isinstance(lines, str) else " ".join(lines)
