"""Writing a report's data and figures to files: JSON and CSV, PNG and SVG."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from leti_ctl import layers
from leti_ctl.report.collect import TABLES
from leti_ctl.report.markup import finite
from leti_ctl.report.plot import Data, Spec
from leti_ctl.report.theme import Theme, themed
from stages.contract.errors import UsageError

VERSION = "6.4"
"""Of Vega-Lite, of those the converter holds."""
SCALE = 2.0
"""Pixels of a PNG per pixel of the figure."""
_FORMULA = re.compile(r"\s*[=+\-@]|[\t\r\n]")
"""A spreadsheet runs a text that begins so; texts here were written by a model. `web/figures.js` has it too."""


def write_figures(specs: Mapping[str, Spec], folder: Path, theme: Theme = "light") -> list[Path]:
    """Write every figure as `NAME.png`, `NAME.svg` and `NAME.vl.json`; return the paths.

    `UsageError` where the converter is not installed.
    """
    converter = _converter()
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, spec in specs.items():
        whole = finite(themed(spec, theme))
        png = converter.vegalite_to_png(whole, vl_version=VERSION, scale=SCALE)
        svg = converter.vegalite_to_svg(whole, vl_version=VERSION)
        text = json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
        for suffix, content in ((".png", png), (".svg", svg.encode()), (".vl.json", text.encode())):
            path = folder / f"{name}{suffix}"
            path.write_bytes(content)
            written.append(path)
    return written


def write_data(data: Data, target: Path) -> list[Path]:
    """Write the data: one JSON document where `target` ends in .json, else a folder with a CSV per table.

    What is no number, as the loss of a model that diverged, is null in JSON. In CSV a text that a spreadsheet would
    take for a formula begins with an apostrophe.
    """
    if target.suffix == ".json":
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(finite(data), ensure_ascii=False) + "\n", encoding="utf-8")
        return [target]
    target.mkdir(parents=True, exist_ok=True)
    runs = [_flat(run) for run in data["runs"]]
    columns = list(dict.fromkeys(name for run in runs for name in run))
    written = [_write_table(target / "runs.csv", runs, columns)]
    return written + [_write_table(target / f"{name}.csv", data["tables"][name], TABLES[name]) for name in TABLES]


def _write_table(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({name: _harmless(value) for name, value in row.items()} for row in rows)
    return path


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def _flat(run: Mapping[str, Any]) -> dict[str, Any]:
    """A run's facts in one row: nested objects under dotted names, lists as JSON."""
    return {
        path: json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
        for path, value in layers.leaves(run)
    }


def _converter() -> Any:
    try:
        import vl_convert
    except ImportError:
        raise UsageError(
            "--figures draws with vl-convert-python, which is not installed; pip install 'leti[report]'"
        ) from None
    return vl_convert
