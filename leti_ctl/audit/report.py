"""The audit as a whole: all checks side by side, one report."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from leti_ctl import control, decisions
from leti_ctl.audit import anchor, lineage, shape
from leti_ctl.audit.objects import Reader
from leti_ctl.audit.progress import Progress, unheard
from leti_ctl.audit.repair import Repair, advise
from leti_ctl.audit.tasks import read_all
from leti_ctl.inventory.catalog import UNREADABLE, Catalog
from leti_ctl.inventory.finding import CAUSES, Finding
from stages.contract.errors import ArtifactError, UsageError
from stages.contract.run import SPEC_KEY, Run
from stages.contract.spec import RunSpec


@dataclass
class Report:
    """What an audit found and how much it looked at."""

    run: str
    uri: str
    spec_sha256: str
    digest: str = ""
    """What pins the run, see `anchor`."""
    findings: list[Finding] = field(default_factory=list)
    objects: int = 0
    bytes: int = 0
    rows: int = 0
    records: int = 0
    seconds: float = 0.0

    def add(self, reader: Reader) -> None:
        """Take over what a reader saw."""
        self.findings += reader.findings
        self.objects += reader.objects
        self.bytes += reader.bytes
        self.rows += reader.rows

    @property
    def clean(self) -> bool:
        """Whether there is no error; warnings leave a run clean."""
        return all(finding.level != "error" for finding in self.findings)

    @property
    def repair(self) -> Repair:
        """What mends the run."""
        return advise(self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON data."""
        counts = Counter(finding.level for finding in self.findings)
        return {
            "run": self.run,
            "uri": self.uri,
            "spec_sha256": self.spec_sha256,
            "digest": self.digest,
            "clean": self.clean,
            "errors": counts["error"],
            "warnings": counts["warning"],
            "records": self.records,
            "objects": self.objects,
            "bytes": self.bytes,
            "rows": self.rows,
            "seconds": round(self.seconds, 3),
            "findings": [finding._asdict() for finding in self.findings],
            "repair": self.repair._asdict(),
        }


class Depth(NamedTuple):
    """How much is done again, beyond reading everything."""

    rederive: bool = False
    """Run the cheap stages again and compare bytes."""
    reexecute_percent: float = 0.0
    """Judge so many percent of the programs again and compare verdicts."""


READ_ONLY = Depth()


def audit(
    run: Run,
    depth: Depth = READ_ONLY,
    progress: Progress = unheard,
    *,
    expected: str | None = None,
) -> Report:
    """Check everything a run has in the store; nothing is written. `UsageError` when there is no such run.

    `expected` is the digest that an earlier audit gave; a run that has another one now is not clean.
    """
    started = time.monotonic()
    try:
        report = Report(run.name, run.uri, run.spec_sha256)
    except ArtifactError as error:  # nothing else says what the rest should be
        return Report(run.name, run.uri, "", findings=[Finding("record", SPEC_KEY, "the run's spec", str(error))])
    spec = _spec(run, report)
    catalog = Catalog(run)
    report.records = sum(map(len, catalog.parts.values())) + len(catalog.indexes)
    report.digest = anchor.run_digest(catalog)
    if expected is not None:
        report.findings += anchor.compare(catalog, expected, report.digest)
    report.findings += [*shape.check(catalog, spec), *lineage.check(catalog, spec), *catalog.unnamed()]
    report.findings += catalog.findings
    for reader in read_all(catalog, spec, progress):
        report.add(reader)
    report.findings += _again(catalog, spec, depth, progress)
    report.findings = sorted(set(report.findings), key=_rank)
    report.seconds = time.monotonic() - started
    return report


def _again(catalog: Catalog, spec: RunSpec, depth: Depth, progress: Progress) -> Iterator[Finding]:
    """Yield what differs when work is done again."""
    if depth == READ_ONLY:
        return
    from leti_ctl.audit import rederive, sampled  # with a tokenizer, and processes to start

    if depth.rederive:
        yield from chain.from_iterable(sampled.check(catalog, spec, progress))
        yield from chain.from_iterable(rederive.rederive(catalog, spec, progress))
    if depth.reexecute_percent:
        yield from chain.from_iterable(rederive.reexecute(catalog, spec, depth.reexecute_percent, progress))


def _spec(run: Run, report: Report) -> RunSpec:
    """Return what the run goes to; where that cannot be read, what it was made for: `lineage` names that object."""
    with suppress(*UNREADABLE):
        wanted = control.current_spec(run)
        try:
            control.check_amendment(run, wanted)
        except UsageError as error:
            key = control.newest(run).key().removeprefix(run.key(""))
            expected = "the run's spec, other in compatible fields only"
            report.findings.append(Finding("spec", key, expected, str(error).partition("\n")[0]))
            return run.spec
        return decisions.effective(run, wanted)
    return run.spec


def _rank(finding: Finding) -> tuple[bool, int, Finding]:
    """Errors first, and of them those that may be why others follow: records, then single objects; then by key."""
    by_key = finding._replace(check=finding.key, key=finding.check)
    causes = next((rank for rank, checks in enumerate(CAUSES) if finding.check in checks), len(CAUSES))
    return finding.level != "error", causes, by_key
