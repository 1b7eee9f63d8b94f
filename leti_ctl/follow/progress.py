"""What a person sees while a run goes on: bars on a terminal, plain lines elsewhere, both on stderr."""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from leti_ctl.pipeline import Unit
from stages.contract.transfer import amount

PLAIN_SECONDS = 15.0
TOLD = ("progress", "transfer")
"""Events that say how far a unit is: its work, and what it moves between store and scratch."""


def describe(entry: dict[str, Any]) -> str:
    """Return what an entry of progress measured: `12/64 samples · 210 tokens/s · loss 1.83`; of a transfer
    `uploading iterations/0001/checkpoint 1.2/4.9 GB`.
    """
    if entry["event"] == "transfer":
        return f"{entry['doing']} {amount(entry['done'], entry['total'])}"
    parts = [f"{entry['done']}/{entry['total']} {entry['unit']}"]
    for name, value in entry.items():
        if name.endswith("_per_second"):
            parts.append(f"{value:,.0f} {name.removesuffix('_per_second').replace('_', ' ')}/s")
        elif name == "loss":
            parts.append(f"loss {value:.3f}")
    return " · ".join(parts)


class PlainView:
    """One line per event; progress every `PLAIN_SECONDS` per unit."""

    def __init__(self, total: int, done: int) -> None:
        self.total, self.done = total, done
        self._last: dict[Unit, float] = {}
        self._width = len(str(total))

    def started(self, unit: Unit, attempt: int) -> None:
        """Say that a unit starts."""
        self._last[unit] = time.monotonic()
        again = f" (try {attempt})" if attempt > 1 else ""
        self._say(f"{unit.label}: started{again}")

    def progressed(self, unit: Unit, entry: dict[str, Any]) -> None:
        """Say how far a unit is, now and then; pass warnings on."""
        if entry.get("level") == "warning":
            self._say(f"{unit.label}: {entry['message']}")
        if entry.get("event") in TOLD and time.monotonic() - self._last.get(unit, 0) >= PLAIN_SECONDS:
            self._last[unit] = time.monotonic()
            self._say(f"{unit.label}: {describe(entry)}")

    def finished(self, unit: Unit, seconds: float) -> None:
        """Say that a unit is done."""
        self.done += 1
        self._say(f"{unit.label}: done in {seconds:.1f} s")

    def retried(self, unit: Unit, reason: str) -> None:
        """Say why a unit is tried again."""
        self._say(f"{unit.label}: trying again: {reason}")

    def shortened(self, total: int, reason: str) -> None:
        """Say that the run ends early, and why."""
        self.total = total
        self._say(f"the run ends early: {reason}")

    def tick(self) -> None:
        """Nothing moves between lines."""

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def _say(self, text: str) -> None:
        print(f"[{self.done:{self._width}}/{self.total}] {text}", file=sys.stderr, flush=True)


class LiveView:
    """A bar for the run and one for each running unit; finished units scroll away above them."""

    def __init__(self, total: int, done: int) -> None:
        self.console = Console(stderr=True)
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
        )
        self.whole = self.progress.add_task("run", total=total, completed=done, note=f"{done}/{total} units")
        self.total, self.done = total, done
        self.tasks: dict[Unit, TaskID] = {}

    def started(self, unit: Unit, attempt: int) -> None:
        """Give the unit a bar."""
        note = "starting" if attempt == 1 else f"starting, try {attempt}"
        self.tasks[unit] = self.progress.add_task(unit.label, total=None, note=note)

    def progressed(self, unit: Unit, entry: dict[str, Any]) -> None:
        """Move the unit's bar."""
        if entry.get("event") == "progress":
            note = describe(entry)
            self.progress.update(self.tasks[unit], completed=entry["done"], total=entry["total"], note=note)
        elif entry.get("event") == "transfer":
            # Beside the bar, which is the work's: a checkpoint goes up while training goes on.
            self.progress.update(self.tasks[unit], note=describe(entry))
        elif entry.get("level") == "warning":
            self.console.print(f"[yellow]![/] {unit.label}: ", end="")
            self.console.print(entry["message"], markup=False)

    def finished(self, unit: Unit, seconds: float) -> None:
        """Replace the unit's bar by a line."""
        self._drop(unit)
        self.done += 1
        self.progress.update(self.whole, completed=self.done, note=f"{self.done}/{self.total} units")
        self.console.print(f"[green]✓[/] {unit.label} [dim]{seconds:.1f} s[/]")

    def retried(self, unit: Unit, reason: str) -> None:
        """Say why a unit is tried again."""
        self._drop(unit)
        self.console.print(f"[yellow]↻[/] {unit.label}: ", end="")
        self.console.print(reason, markup=False)

    def shortened(self, total: int, reason: str) -> None:
        """Shorten the run's bar and say why."""
        self.total = total
        self.progress.update(self.whole, total=total, note=f"{self.done}/{total} units")
        self.console.print("[yellow]■[/] the run ends early: ", end="")
        self.console.print(reason, markup=False)

    def tick(self) -> None:
        """Rich draws by itself."""

    def __enter__(self) -> LiveView:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def _drop(self, unit: Unit) -> None:
        self.progress.remove_task(self.tasks.pop(unit))


def make_view(total: int, done: int) -> LiveView | PlainView:
    """Return the view that fits where stderr goes."""
    return LiveView(total, done) if sys.stderr.isatty() else PlainView(total, done)
