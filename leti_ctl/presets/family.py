"""Presets that differ along axes (size x feedback x |P|), written once: a name's template, a base, points per axis."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from leti_ctl import layers
from stages.contract.spec import Section


class Point(Section):
    """One place on an axis."""

    say: str = ""
    """What the summary says of it."""
    set: dict[str, Any] = {}
    """Fields it sets."""


class Family(Section):
    """A family file. In `name`, `summary` and `extends`, `{axis}` stands for a point: in the summary for what it says,
    elsewhere for its key."""

    name: str
    about: str
    """What the family is, in a line."""
    summary: str
    extends: str
    axes: dict[str, dict[str, Point]]
    """Axis to its points by key; the key is the point's part of the name, and may be empty."""
    set: dict[str, Any] = {}
    """Fields every member sets, before its points do."""

    @property
    def pattern(self) -> str:
        """The members' names as a shell would write them: `leti-{350m,2b}-{n16,n64}`."""
        return self.name.format(**{axis: _braces(list(points)) for axis, points in self.axes.items()})

    def members(self) -> Iterator[Member]:
        """Yield every member, the last axis running fastest."""
        for keys in itertools.product(*self.axes.values()):
            chosen = dict(zip(self.axes, keys, strict=True))
            points = [self.axes[axis][key] for axis, key in chosen.items()]
            spec: dict[str, Any] = dict(self.set)
            for point in points:
                spec = layers.merge(spec, point.set)
            said = {axis: self.axes[axis][key].say for axis, key in chosen.items()}
            base = self.extends.format(**chosen)
            yield Member(self.name.format(**chosen), self.summary.format(**said), {"extends": base, **spec})


class Member(NamedTuple):
    """One preset of a family."""

    name: str
    summary: str
    spec: dict[str, Any]

    def text(self) -> str:
        """Return it as a preset's file would have it."""
        return f"# {self.summary}\n{yaml.safe_dump(self.spec, sort_keys=False, allow_unicode=True)}"


def parse(text: str, source: str) -> Family:
    """Return the family a YAML text describes; errors name `source`."""
    data = layers.mapping(text, source, "a family of presets")
    return layers.validate(Family, data, what=source, known=Family.model_fields, see="leti-ctl presets")


def _braces(words: list[str]) -> str:
    return words[0] if len(words) == 1 else "{" + ",".join(words) + "}"
