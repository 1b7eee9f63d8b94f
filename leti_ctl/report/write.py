"""From runs to files: data is collected once, the page, the figures and the tables are made from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

from leti_ctl.follow import bar
from leti_ctl.report.collect import Depth, collect
from leti_ctl.report.export import write_data, write_figures
from leti_ctl.report.figures import figures
from leti_ctl.report.page import page
from leti_ctl.report.rows import collect_rows
from leti_ctl.report.theme import Theme
from stages.contract.run import Run


class Wanted(NamedTuple):
    """What to write; None leaves it out."""

    page: Path | None
    figures: Path | None = None
    data: Path | None = None
    theme: str = "light"
    audit: bool = True


def write(runs: Sequence[Run], wanted: Wanted) -> dict[str, list[Path]]:
    """Write what is wanted and return the paths by kind: `page`, `figures`, `data`."""
    with bar.bar("report") as advance:
        data = collect(runs, Depth(audit=wanted.audit), advance)
    written: dict[str, list[Path]] = {}
    if wanted.data:
        written["data"] = write_data(data, wanted.data)
    drawn = figures(data) if wanted.page or wanted.figures else {}
    if wanted.figures:
        written["figures"] = write_figures(drawn, wanted.figures, cast(Theme, wanted.theme))
    if wanted.page:
        wanted.page.parent.mkdir(parents=True, exist_ok=True)
        wanted.page.write_text(page(data, drawn, collect_rows(runs)), encoding="utf-8")
        written["page"] = [wanted.page]
    return written
