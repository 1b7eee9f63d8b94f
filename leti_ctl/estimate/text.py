"""An estimate as a person reads it: one line per stage, totals, and on request where every figure comes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from leti_ctl.results.tables import console

Span = Mapping[str, float]


def print_estimate(found: Mapping[str, Any], *, sources: bool) -> None:
    """Print what `Estimate.as_dict` returns, with advice."""
    out = console()
    out.print(
        f"{found['parameters'] / 1e6:,.0f} M parameters on {escape(found['backend'])}; low < [bold]likely[/] < high"
    )
    out.print(_stages(found))
    out.print(f"wall time   {span(found['wall_seconds'], clock)}")
    weights = f"{size(found['weights_bytes'])} of it weights and optimizer states, which `leti-ctl gc` can thin out"
    out.print(f"store       {span(found['store_bytes'], size)}; {weights}")
    out.print(f"scratch     {size(found['scratch_bytes'])} on each training node")
    out.print(f"money       {span(found['total']['dollars'], dollars)}{_on_demand(found)}")
    for line in found["advice"]:
        out.print(f"[yellow]note[/]        {escape(line)}", soft_wrap=True)
    if sources:
        out.print(_sources(found["figures"]))
    else:
        kinds = Counter(row["kind"] for row in found["figures"])
        counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        out.print(f"reckoned with {counted} figures; --sources shows each and where it comes from")


def _stages(found: Mapping[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("stage")
    what = "pods" if found["backend"].startswith("argo") else "processes"
    for title in (what, f"time of all {what}", "accelerator-hours", "US dollars"):
        table.add_column(title, justify="right")
    for name, row in (*found["stages"].items(), ("total", found["total"])):
        hours = row["accelerator_hours"]
        table.add_row(name, f"{row['pods']:,}", span(row["seconds"], clock),
                      span(hours, number) if hours["high"] else "", span(row["dollars"], number))  # fmt: skip
    return table


def _on_demand(found: Mapping[str, Any]) -> str:
    dear = found["on_demand_dollars"]
    return "" if dear == found["total"]["dollars"] else f" (all on demand: {span(dear, dollars)})"


def _sources(figures: list[Mapping[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("figure", "low", "likely", "high", "unit", "", "source"):
        table.add_column(title, justify="right" if title in ("low", "likely", "high") else "left")
    for row in figures:
        cells = (row["name"], *(f"{value:g}" for value in row["range"]), row["unit"], row["kind"], row["source"])
        table.add_row(*map(escape, cells))
    return table


def span(values: Span, unit: Any) -> str:
    """`1.2 h < 3.0 h < 7.5 h`; one figure where the three read the same."""
    texts = [unit(values[name]) for name in ("low", "likely", "high")]
    return texts[0] if len(set(texts)) == 1 else f"{texts[0]} < [bold]{texts[1]}[/] < {texts[2]}"


def clock(seconds: float) -> str:
    """`45 s`, `12 min`, `3.4 h`, `2.5 d`."""
    for limit, per, unit in ((120, 1, "s"), (7200, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / per:.0f} {unit}" if unit != "h" else f"{seconds / per:.1f} h"
    return f"{seconds / 86400:,.1f} d"


def size(count: float) -> str:
    """`520 MB`, `3.8 GB`, `1.2 TB`."""
    for limit, per, unit in ((1e9, 1e6, "MB"), (1e12, 1e9, "GB")):
        if count < limit:
            return f"{count / per:.0f} MB" if unit == "MB" else f"{count / per:.1f} GB"
    return f"{count / 1e12:.1f} TB"


def dollars(amount: float) -> str:
    """`$12.30`, `$1,230`."""
    return f"${amount:,.2f}" if amount < 100 else f"${amount:,.0f}"


def number(value: float) -> str:
    """Two decimals below 100, none above."""
    return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
