"""The part of the page that says what made a run, whether the store still agrees, and with which settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from leti_ctl.report.markup import Markup, tag
from leti_ctl.report.sections import table

Row = Mapping[str, Any]
MOST_FINDINGS = 20
"""Of an audit; `leti-ctl audit` prints them all."""


def provenance(run: Row, *, named: bool) -> Markup:
    """Return lineage, audit, checkpoints and spec of one run."""
    return tag(
        "div",
        tag("h3", run["run"]) if named else None,
        _faults(run),
        tag("div", _origin(run), _audit(run["audit"]), class_="columns"),
        _findings(run["audit"]),
        _checkpoints(run["lineage"]["checkpoints"]),
        _spec(run),
        class_="origin",
    )


def _faults(run: Row) -> Markup | None:
    told = [tag("li", fault) for fault in run["faults"]]
    told += [tag("li", json.dumps(failure)) for failure in run["failures"]]
    return tag("div", tag("h4", "Missing or failed"), tag("ul", told)) if told else None


def _origin(run: Row) -> Markup:
    lineage = run["lineage"]
    facts: dict[str, Any] = {
        "run": tag("code", run["uri"]),
        "spec SHA-256": tag("code", run["spec_sha256"]),
        "code": [tag("code", each, " ") for each in lineage["code"]],
        "images": [tag("code", each, " ") for each in lineage["images"]] or "none recorded",
        "Python": ", ".join(lineage["python"]),
        "torch": ", ".join(lineage["torch"]),
        "devices": ", ".join(lineage["devices"]),
        "sandboxes": ", ".join(lineage["sandboxes"]),
        "hosts": ", ".join(lineage["hosts"]),
        "backend": run["backend"],
        "objects": f"{lineage['objects']:,}, {lineage['bytes']:,} bytes",
    }
    rows = [[tag("dt", name), tag("dd", value)] for name, value in facts.items() if value]
    packages = lineage["packages"]
    more = tag("details", tag("summary", "Packages"), tag("pre", "\n".join(packages), class_="text wrap", tabindex="0"))
    return tag("div", tag("h4", "Lineage"), tag("dl", rows, class_="facts"), more if packages else None)


def _audit(audit: Row | None) -> Markup:
    if audit is None:
        return tag("div", tag("h4", "Audit"), tag("p", "Not made for this report.", class_="soft"))
    verdict = tag(
        "span", "clean" if audit["clean"] else "not clean", class_="chip good" if audit["clean"] else "chip bad"
    )
    facts = {
        "verdict": verdict,
        "looked at": f"{audit['records']:,} records, {audit['objects']:,} objects, {audit['rows']:,} rows",
        "bytes": f"{audit['bytes']:,}",
        "findings": f"{audit['errors']} errors, {audit['warnings']} warnings",
        "took": f"{audit['seconds']:.1f} s",
    }  # fmt: skip
    rows = [[tag("dt", name), tag("dd", value)] for name, value in facts.items()]
    return tag("div", tag("h4", "Audit"), tag("dl", rows, class_="facts"))


def _findings(audit: Row | None) -> Markup | None:
    if audit is None or not audit["findings"]:
        return None
    names = list(audit["findings"][0])
    rows = [[str(each[name]) for name in names] for each in audit["findings"][:MOST_FINDINGS]]
    left = len(audit["findings"]) - MOST_FINDINGS
    more = tag("p", f"{left} more: leti-ctl audit {audit['run']}", class_="soft") if left > 0 else None
    return tag("div", tag("h4", "What the audit found"), table(names, rows), more)


def _checkpoints(chain: list[Row]) -> Markup | None:
    if not chain:
        return None
    rows = [
        [
            each["iteration"],
            tag("code", str(each["sha256"])[:16]),
            *[_whole(each[name]) for name in ("made_at", "host")],
            _whole(f"{each['bytes'] / 1e6:,.1f} MB"),
            "" if each["kept"] else "weights removed",
            [tag("div", tag("code", _whole(_source(source)))) for source in each["inputs"]],
        ]
        for each in chain
    ]
    heads = ["checkpoint", "digest", "made", "host", "size", "", "made from"]
    return tag("div", tag("h4", "Chain of checkpoints"), table(heads, rows, numbers=(4,)))


def _source(source: Row) -> str:
    return f"{source['ref']} {str(source['sha256'])[:12]}"


def _whole(text: str) -> Markup:
    """Return text that stays on one line."""
    return tag("span", text, class_="named")


def _spec(run: Row) -> Markup:
    preset = run["preset"]
    rows = [[tag("code", path), _value(old), _value(new)] for path, (old, new) in preset["changed"].items()]
    changes = table(["field", f"preset {preset['name']}", "this run"], rows) if preset["name"] and rows else None
    same = tag("p", f"Exactly the preset {preset['name']}.", class_="soft") if preset["name"] and not rows else None
    text = json.dumps(run["spec"], indent=2)
    whole = tag("details", tag("summary", "The whole spec"), tag("pre", text, class_="text", tabindex="0"))
    return tag("div", tag("h4", "Spec"), changes, same, whole)


def _value(value: Any) -> Markup:
    return tag("code", json.dumps(value))
