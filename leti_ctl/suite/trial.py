"""A trial of a suite: the same runs with everything small, on data that lies here, with a model of random weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leti_ctl import layers, presets
from leti_ctl.suite.book import Suite
from stages.contract.errors import UsageError
from stages.contract.spec import RunSpec

OFFICIAL_CODE = "-official-code"
"""Ends the name of a preset's twin that follows the official code where that differs from the paper's text."""


@dataclass(frozen=True)
class Trial:
    """What is laid over every preset of a suite; scale 1 leaves it as the paper has it."""

    suite: Suite
    scale: float = 1.0
    overrides: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    """Task to its file, found in `data`."""
    official_code: bool = False
    """Whether presets give way to their official-code twins."""

    @property
    def warning(self) -> str:
        """What to say beside every number of a trial; empty for the real thing."""
        return (
            f"SCALED TO {self.scale:g}, THESE NUMBERS MEAN NOTHING: {self.suite.scaled.about}" if self.is_small else ""
        )

    @property
    def is_small(self) -> bool:
        """Whether its numbers mean nothing."""
        return self.scale < 1

    def preset(self, name: str) -> str:
        """Return the preset that this trial runs for `name`."""
        twin = name + OFFICIAL_CODE
        return twin if self.official_code and twin in presets.entries() else name

    def apply(self, spec: RunSpec) -> dict[str, Any]:
        """Return the spec's data as this trial runs it."""
        data: dict[str, Any] = spec.model_dump(mode="json")
        if self.is_small:
            data = layers.merge(data, self.suite.scaled.set)
            for path, least in self.suite.scaled.shrink.items():
                data = _shrink(data, path.split("."), self.scale, least)
            data = _fit(data)
        task = spec.task.name
        if task in self.sources:
            data = layers.merge(data, {"task": {"source": self.sources[task]}})
        elif self.is_small and task in self.suite.scaled.tasks:
            data = layers.merge(data, {"task": self.suite.scaled.tasks[task]})
        for each in self.overrides:
            data = layers.merge(data, layers.override(each))
        return data


def find_sources(suite: Suite, folder: Path) -> dict[str, str]:
    """Return each task's file or folder in a folder of data sets; `UsageError` where it has none at all."""
    found: dict[str, str] = {}
    for task, patterns in suite.data.items():
        matches = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
        if matches:
            found[task] = str(matches[0].resolve())
    if not found:
        known = ", ".join(patterns[0] for patterns in suite.data.values())
        raise UsageError(f"--data {str(folder)!r}: none of {known} is there; name the folder with the data sets' files")
    return found


def _shrink(data: dict[str, Any], path: list[str], scale: float, least: int) -> dict[str, Any]:
    """Scale one number, rounded up, unless it is 0; a field that is null (all of something) becomes the least."""
    name, *rest = path
    if rest:
        return {**data, name: _shrink(data[name], rest, scale, least)}
    value = data[name]
    small = least if value is None else max(min(least, value), math.ceil(value * scale))
    return {**data, name: small}


def _fit(data: dict[str, Any]) -> dict[str, Any]:
    """Drop every k that there are too few samples for, for the largest there are enough for; fill at least one step."""
    evaluate, train = data["evaluate"], data["train"]
    most = evaluate["samples_per_problem"]
    examples = data["task"]["train_problems"] * data["generate"]["samples_per_problem"]
    return {
        **data,
        "evaluate": {**evaluate, "k": sorted({min(k, most) for k in evaluate["k"]})},
        "train": {**train, "batch_size": min(train["batch_size"], examples)},
    }
