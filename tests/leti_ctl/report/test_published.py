"""The paper's numbers beside a run: those of its preset, and only where the run is near that preset."""

from __future__ import annotations

from typing import Any

import pytest

from leti_ctl.report.published import NEAR, published


def values(name: str, changed: dict[str, Any]) -> dict[str, float]:
    return {each["title"]: each["value"] for each in published({"name": name, "changed": changed})}


# Table 2 of the paper, copied by hand.
@pytest.mark.parametrize(
    ("preset", "base", "best"),
    [("leti-2b", 0.045, 0.28), ("leti-2b-binary-only", 0.045, 0.1854), ("leti-350m", 0.074, 0.1396)],
)
def test_a_run_of_the_papers_preset_has_the_papers_numbers(preset: str, base: float, best: float) -> None:
    expected = {"Paper, base model on test, pass@1": base, "Paper, max on test, pass@1": best}
    assert values(preset, {}) == pytest.approx(expected)


def test_fields_that_differ_are_told() -> None:
    notes = [each["note"] for each in published({"name": "leti-2b", "changed": {"seed": [42, 7]}})]
    assert notes == ["paper, Table 2; 1 field differs"] * 2


FAR = {f"field{number}": [0, 1] for number in range(NEAR + 1)}


@pytest.mark.parametrize(("name", "changed"), [("quickstart", {}), (None, {}), ("leti-2b", FAR)])
def test_other_runs_have_none(name: str, changed: dict[str, Any]) -> None:
    assert values(name, changed) == {}
