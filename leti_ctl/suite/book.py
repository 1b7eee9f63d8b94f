"""What a suite file says: tables of cells, what was published in each, and how to shrink it all for a trial."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import resources
from typing import Any, Literal, NamedTuple

from pydantic import NonNegativeInt, PositiveInt, model_validator

from leti_ctl import layers
from stages.contract.errors import UsageError
from stages.contract.spec import Section

Measure = Literal["score", "initial", "best", "best_iteration", "gain", "gain_ratio", "correlation"]
Unit = Literal["percent", "iterations", "ratio"]


class Cell(Section):
    """What one number is. A column and a row each give some of the fields; the row's count where both do."""

    measure: Measure = "score"
    run: str | None = None
    """Training preset; null is the base model."""
    at: NonNegativeInt | Literal["last"] | None = None
    """Iterations of it after which the model is taken."""
    against: str | None = None
    """Training preset whose gain is the denominator of `gain_ratio`."""
    size: str = ""
    evaluation: str | None = None
    """Preset that scores the model; null reads the run's own passes."""
    minus: str | None = None
    """Preset whose score is subtracted."""
    tokens: tuple[str, ...] = ("",)
    """What `{token}` stands for in `evaluation`; of two, the second's score is subtracted."""
    split: Literal["train", "test"] = "test"
    figure: str = "pass@1"
    listed: tuple[str, ...] = ()
    """Error types that `share:other` leaves out."""
    fill: dict[str, str] = {}
    """What further `{words}` in the fields above stand for."""

    @model_validator(mode="after")
    def _whole(self) -> Cell:
        if len(self.tokens) > 2:
            raise ValueError(f"tokens: one, or two to subtract, got {len(self.tokens)}")
        return self

    def filled(self) -> Cell:
        """Return it with every `{word}` replaced, the token's aside."""
        words = {"size": self.size, "token": "{token}", **self.fill}
        texts = {name: getattr(self, name) for name in ("run", "against", "evaluation", "minus", "figure")}
        return self.model_copy(update={name: text.format(**words) for name, text in texts.items() if text})


class Column(Cell):
    """A column of a table."""

    title: str
    unit: Unit = "percent"
    out_of: PositiveInt | None = None
    """Published are counts of so many."""


class Row(Cell):
    """A row of a table."""

    name: str
    published: tuple[float | None, ...]


class Spot(NamedTuple):
    """A place in a table: whose, which, and what it shows."""

    row: str
    column: str
    unit: Unit
    cell: Cell
    published: float | None
    """In the column's unit."""


class Table(Section):
    """A table of the paper."""

    title: str
    source: str
    also: tuple[str, ...] = ()
    """Other names it is asked for by."""
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _rectangular(self) -> Table:
        for row in self.rows:
            if len(row.published) != len(self.columns):
                raise ValueError(f"row {row.name!r} publishes {len(row.published)} of {len(self.columns)} columns")
        return self

    def spots(self) -> Iterator[Spot]:
        """Yield every place, row by row."""
        for row in self.rows:
            for column, value in zip(self.columns, row.published, strict=True):
                given = {name: getattr(one, name) for one in (column, row) for name in one.model_fields_set}
                fields = {name: value for name, value in given.items() if name in Cell.model_fields}
                share = 100 / column.out_of if column.out_of else 1.0
                published = None if value is None else value * share
                yield Spot(row.name, column.title, column.unit, Cell(**fields).filled(), published)


class Scaled(Section):
    """How a trial shrinks every run."""

    about: str
    set: dict[str, Any] = {}
    shrink: dict[str, PositiveInt] = {}
    """Dotted field to the least it may become."""
    tasks: dict[str, dict[str, Any]] = {}
    """Task to the fields of what stands for it where no file was given."""


class Suite(Section):
    """A suite file."""

    title: str
    tables: dict[str, Table]
    scaled: Scaled
    data: dict[str, tuple[str, ...]] = {}
    """Task to the patterns its file has in a folder of data sets."""

    def choose(self, only: Iterable[str]) -> dict[str, Table]:
        """Return the tables of those names, all for none; `UsageError` for one there is not."""
        known = {alias: name for name, table in self.tables.items() for alias in (name, *table.also)}
        for word in only:
            if word not in known:
                raise UsageError(f"--only {word!r}: no such table{layers.hint(word, known)}; {', '.join(self.tables)}")
        wanted = {known[word] for word in only} or set(self.tables)
        return {name: table for name, table in self.tables.items() if name in wanted}


def names() -> list[str]:
    """Return the suites that come with leti."""
    folder = resources.files("leti_ctl").joinpath("suites")
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def load(name: str) -> Suite:
    """Return the suite of that name; `UsageError` where there is none."""
    if name not in names():
        raise UsageError(f"suite {name!r}: no such suite{layers.hint(name, names())}; there are: {', '.join(names())}")
    text = resources.files("leti_ctl").joinpath(f"suites/{name}.yaml").read_text(encoding="utf-8")
    return parse(text, f"suites/{name}.yaml")


def parse(text: str, source: str) -> Suite:
    """Return the suite a YAML text describes; errors name `source`."""
    data = layers.mapping(text, source, "a suite")
    return layers.validate(Suite, data, what=source, known=Suite.model_fields, see="leti-ctl suite --help")
