"""What the paper published for the preset a run was made with, to stand beside the run's own best."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from leti_ctl.suite import book

TITLES = {"initial": "Paper, base model on test", "best": "Paper, max on test"}
"""Measures of a run's own test passes that a report shows."""
NEAR = 8
"""Fields in which a run may differ from a preset and still be set beside what that preset gave."""


def published(preset: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the paper's scores for a run's nearest preset: `{"title", "value", "note"}`, values between 0 and 1.

    `preset` is a report's `{"name", "changed"}`. Empty where the paper has nothing on it, or the run is far from it.
    """
    if preset["name"] is None or len(preset["changed"]) > NEAR:
        return []
    changed = len(preset["changed"])
    apart = "" if not changed else f"; {changed} {'field differs' if changed == 1 else 'fields differ'}"
    return [{**each, "note": f"{each['note']}{apart}"} for each in _by_preset().get(preset["name"], ())]


@lru_cache(maxsize=1)
def _by_preset() -> Mapping[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for table in book.load("paper").tables.values():
        for spot in table.spots():
            cell = spot.cell
            if cell.run is None or spot.published is None or cell.split != "test" or cell.measure not in TITLES:
                continue
            told = found.setdefault(cell.run, [])
            title = f"{TITLES[cell.measure]}, {cell.figure}"
            if spot.unit == "percent" and title not in [each["title"] for each in told]:
                told.append({"title": title, "value": spot.published / 100, "note": table.source})
    return found
