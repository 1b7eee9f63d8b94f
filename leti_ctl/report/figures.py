"""Every figure of a report, by name, in the order of the page."""

from __future__ import annotations

from collections.abc import Callable

from leti_ctl.report import curves, machine, outcomes
from leti_ctl.report.markup import printable
from leti_ctl.report.plot import Data, Spec

FIGURES: dict[str, Callable[[Data], Spec | None]] = {
    "learning": curves.learning,
    "errors": outcomes.errors,
    "pass-at-k": curves.pass_at_k,
    "efficiency": curves.efficiency,
    "rates": curves.rates,
    "seeds": curves.seeds,
    "feedback": outcomes.feedback,
    "length": outcomes.length,
    "canaries": outcomes.canaries,
    "loss": machine.loss,
    "speed": machine.speed,
    "stages": machine.stages,
    "gantt": machine.gantt,
}
"""Name to what draws it; None where the data has nothing to show."""


def figures(data: Data) -> dict[str, Spec]:
    """Return the Vega-Lite specs of every figure the data has something to show in, without a theme.

    `theme.themed(spec, "light")` or `"dark"` makes one ready to be drawn.
    """
    found = {name: draw(data) for name, draw in FIGURES.items()}
    return {name: printable(spec) for name, spec in found.items() if spec is not None}
