"""Every preset by name: what it is, the group it is listed under, its text."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import NamedTuple

from leti_ctl import layers
from leti_ctl.presets import family
from stages.contract.errors import UsageError

GROUPS = {
    "start": "to start with",
    "modern": "small models of today, for one GPU",
    "paper": "the paper's runs",
    "ablations": "the paper's ablations",
    "evaluations": "scoring a base model, or a run's checkpoint with model.from_run and model.from_iteration",
}
"""Folder to the heading its presets are listed under, in this order."""
FAMILY = ".family.yaml"


class Entry(NamedTuple):
    """One preset."""

    name: str
    group: str
    summary: str
    text: str


class Line(NamedTuple):
    """One line of the list: a preset, or a family with its members' names in braces."""

    group: str
    pattern: str
    summary: str
    members: tuple[str, ...]


@cache
def entries() -> dict[str, Entry]:
    """Return every preset by name, family members among them, sorted."""
    found = [entry for line, entries in _read() for entry in entries]
    return {entry.name: entry for entry in sorted(found)}


def lines() -> list[Line]:
    """Return the list as people read it, by group."""
    return [line for line, _ in _read()]


def names() -> list[str]:
    """Return the names of all presets, sorted."""
    return list(entries())


def text(name: str) -> str:
    """Return a preset as written; `UsageError` when there is none of that name."""
    if name not in entries():
        raise UsageError(f"--preset {name!r}: no such preset{layers.hint(name, names())}; see `leti-ctl presets`")
    return entries()[name].text


def summary(name: str) -> str:
    """Return what a preset is, in a line."""
    text(name)
    return entries()[name].summary


@cache
def _read() -> tuple[tuple[Line, tuple[Entry, ...]], ...]:
    root = resources.files("leti_ctl.presets")
    return tuple(
        _family(group, item) if item.name.endswith(FAMILY) else _single(group, item)
        for group in GROUPS
        for item in _files(root.joinpath(group))
    )


def _files(folder: Traversable) -> Iterator[Traversable]:
    """Yield a group's files: single presets first, then families."""
    found = [item for item in folder.iterdir() if item.name.endswith(".yaml")]
    yield from sorted(found, key=lambda item: (item.name.endswith(FAMILY), item.name))


def _single(group: str, item: Traversable) -> tuple[Line, tuple[Entry, ...]]:
    name, written = item.name.removesuffix(".yaml"), item.read_text(encoding="utf-8")
    what = written.partition("\n")[0].lstrip("# ").strip()
    return Line(group, name, what, (name,)), (Entry(name, group, what, written),)


def _family(group: str, item: Traversable) -> tuple[Line, tuple[Entry, ...]]:
    found = family.parse(item.read_text(encoding="utf-8"), f"presets/{group}/{item.name}")
    members = tuple(Entry(one.name, group, one.summary, one.text()) for one in found.members())
    return Line(group, found.pattern, found.about, tuple(one.name for one in members)), members
