"""The report as a person reads it, line by line as the answers come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.markup import escape

from leti_ctl.doctor.report import Check, Finding, Subject, examine
from leti_ctl.results.tables import console

COLORS = {"ok": "green", "warn": "yellow", "fail": "red"}


def follow(checks: Sequence[Check], subject: Subject, *, quiet: bool) -> list[dict[str, str]]:
    """Print every finding unless `quiet`, then their count; return them all."""
    out = console()
    width = max(len(check.name) for check in checks)
    rows = []
    for name, finding in examine(checks, subject):
        rows.append(finding.as_dict(name))
        if not quiet:
            out.print(_line(name.ljust(width), finding), soft_wrap=True)
    if not quiet:
        counts = Counter(row["level"] for row in rows)
        out.print(", ".join(f"[{COLORS[level]}]{counts[level]} {level}[/]" for level in COLORS if counts[level]))
    return rows


def _line(name: str, finding: Finding) -> str:
    level = f"[{COLORS[finding.level]}]{finding.level:4}[/]"
    remedy = f" → {escape(finding.remedy)}" if finding.remedy else ""
    return f"{level} {name}  {escape(finding.found)}{remedy}"
