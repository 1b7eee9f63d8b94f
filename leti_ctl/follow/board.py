"""Following a run: a table that is redrawn on a terminal, a line per change elsewhere, both on stderr."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from leti_ctl.follow.sight import Row, State
from leti_ctl.pipeline import Unit

COLORS: dict[State, str] = {"running": "cyan", "waiting": "yellow", "failed": "red", "done": "green", "open": "dim"}
SIGNS: dict[State, str] = {"running": "▶", "waiting": "…", "failed": "✗", "done": "✓", "open": "·"}
SHOWN_NOTES = 2
SHOWN_PARTS = 32


class Picture(NamedTuple):
    """A run at one moment."""

    title: str
    """Which run, where, in which phase."""
    rows: list[Row]
    warnings: tuple[str, ...] = ()


class Board(Protocol):
    """Shows one picture after another."""

    def show(self, picture: Picture) -> None:
        """Show how the run is now."""

    def __enter__(self) -> Board:
        """Begin to show."""

    def __exit__(self, *_: object) -> None:
        """Leave what was shown last."""


class LiveBoard:
    """One table in place, finished iterations on one line each."""

    def __init__(self) -> None:
        self.live = Live(console=Console(stderr=True), auto_refresh=False)

    def show(self, picture: Picture) -> None:
        """Draw the table anew."""
        warnings = [Text(f"! {line}", style="yellow") for line in picture.warnings]
        self.live.update(Group(Text(picture.title, style="bold"), table(picture.rows), *warnings), refresh=True)

    def __enter__(self) -> LiveBoard:
        self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()


class PlainBoard:
    """A line for every unit that changed, and for every new warning."""

    def __init__(self) -> None:
        self.title = ""
        self.known: dict[Unit, tuple[State, str]] = {}
        self.warned: set[str] = set()
        self.is_first = True

    def show(self, picture: Picture) -> None:
        """Print what is new since the last picture; of the first, what is not as in every new run."""
        if picture.title != self.title:
            self.title = picture.title
            self._say(picture.title)
        units = [seen for row in picture.rows for seen in row.units]
        done = sum(seen.state == "done" for seen in units)
        for seen in units:
            # Progress of a running unit changes all the time; only its start and end are worth a line.
            now = (seen.state, "" if seen.state == "running" else seen.note)
            if self.known.get(seen.unit, ("open", "")) != now and not (self.is_first and seen.state == "done"):
                note = f" ({seen.note})" if seen.note else ""
                self._say(f"[{done}/{len(units)}] {seen.unit.label}: {seen.state}{note}")
            self.known[seen.unit] = now
        for line in picture.warnings:
            if line not in self.warned:
                self.warned.add(line)
                self._say(f"warning: {line}")
        self.is_first = False

    def __enter__(self) -> PlainBoard:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def make_board() -> Board:
    """Return the board that fits where stderr goes."""
    return LiveBoard() if sys.stderr.isatty() else PlainBoard()


def table(rows: Sequence[Row]) -> Table:
    """Return the run as a table: an iteration at work in full, one that is done or not begun on one line with its like.

    Every part has a sign: ✓ done, ▶ running, … waiting, ✗ failed, · none of these.
    """
    found = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    found.add_column("iteration", justify="right")
    found.add_column("stage")
    found.add_column("done", justify="right")
    found.add_column("parts")
    found.add_column("", overflow="fold")
    numbers = dict.fromkeys(row.iteration for row in rows)
    for kind, group in itertools.groupby(numbers, lambda number: _kind(rows, number)):
        mine = list(group)
        span = str(mine[0]) if len(mine) == 1 else f"{mine[0]}-{mine[-1]}"
        here = [row for row in rows if row.iteration in mine]
        if kind == "done":
            found.add_row(span, "all stages", _count(here, "done"), Text("done", style="green"), "")
        elif kind == "open":
            found.add_row(span, Text("to come", style="dim"), "", "", "")
        else:
            for row in here:
                found.add_row(str(row.iteration), row.title, *_cells(row))
    return found


def _kind(rows: Sequence[Row], number: int) -> str:
    """Whether an iteration is all done, all open, or at work."""
    states = {seen.state for row in rows if row.iteration == number for seen in row.units}
    return next(iter(states)) if states in ({"done"}, {"open"}) else "at work"


def _cells(row: Row) -> Iterable[Text | str]:
    total = len(row.units)
    done = row.count("done")
    yield Text(f"{done}/{total}", style="green" if done == total else "")
    yield _parts(row)
    notes = row.notes
    more = f" (+{len(notes) - SHOWN_NOTES})" if len(notes) > SHOWN_NOTES else ""
    yield Text("; ".join(notes[:SHOWN_NOTES]) + more)


def _parts(row: Row) -> Text:
    """One sign for each part; of very many, how many are in which state."""
    found = Text()
    if len(row.units) <= SHOWN_PARTS:
        for seen in row.units:
            found.append(SIGNS[seen.state], style=COLORS[seen.state])
        return found
    for state, sign in SIGNS.items():
        if count := row.count(state):
            found.append(f"{sign}{count} ", style=COLORS[state])
    return found


def _count(rows: Sequence[Row], state: State) -> str:
    return f"{sum(row.count(state) for row in rows)}/{sum(len(row.units) for row in rows)}"
