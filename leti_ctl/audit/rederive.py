"""Doing work again: stages are functions of their inputs, so running one again must give the same bytes."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, groupby, zip_longest

from leti_ctl.audit.progress import Progress, unheard
from leti_ctl.audit.shadow import Shadow, shadow
from leti_ctl.inventory.catalog import UNREADABLE, Catalog
from leti_ctl.inventory.finding import Finding, Level, warning
from leti_ctl.inventory.parquet import packed_in
from leti_ctl.pipeline import Unit, plan
from stages.contract.artifacts import Part, PartRecord, Ref, parse_ref
from stages.contract.flow import inputs
from stages.contract.records import Execution, Sample
from stages.contract.spec import RunSpec

REDERIVED = ("build", "evaluate")
"""Stages that take seconds, need no accelerator and repeat to the byte anywhere."""
TOKENIZER_FILES = (".json", ".jinja", ".txt", ".model")
"""What `build` reads of a checkpoint; never its weights."""
SHARES = 10_000
COMPARED = ("program_sha256", "outcome", "error_type", "feedback", "answer", "measures")
"""Columns that judging again repeats; `isolation` is the machine's."""


def rederive(catalog: Catalog, spec: RunSpec, progress: Progress = unheard) -> Iterator[list[Finding]]:
    """Yield, unit by unit, what differs when the cheap stages are run again."""
    units = [unit for unit in plan(spec).units if unit.stage in REDERIVED and _is_possible(catalog, spec, unit)]
    done = count()
    for _, together in groupby(units, key=lambda unit: (unit.node, unit.iteration, unit.split)):
        group = list(together)
        with shadow(catalog) as copy, _faults("rederived", group[0].outputs(spec)[-1].prefix) as findings:
            for ref in _inputs(spec, group[0]):
                copy.copy(ref, suffixes=TOKENIZER_FILES if ref.artifact == "checkpoint" else ("",))
            for unit in group:
                progress(next(done), len(units), f"doing again {unit.label}")
                findings += _run_again(catalog, spec, copy, unit)
        yield findings


def reexecute(catalog: Catalog, spec: RunSpec, percent: float, progress: Progress = unheard) -> Iterator[list[Finding]]:
    """Yield, part by part, what differs when so many percent of the programs are judged again.

    Which programs: those whose problem and sample number hash below the share, the same in every audit.
    """
    units = [unit for unit in plan(spec).units if unit.stage == "execute" and _is_possible(catalog, spec, unit)]
    for done, unit in enumerate(units):
        progress(done, len(units), f"judging again {unit.label}")
        with shadow(catalog) as copy, _faults("reexecuted", unit.outputs(spec)[-1].prefix) as findings:
            findings += _judge_again(catalog, spec, copy, unit, percent)
        yield findings


@contextmanager
def _faults(check: str, key: str) -> Iterator[list[Finding]]:
    """Give a list of findings; what keeps the work from being done again, damage above all, becomes one of them."""
    findings: list[Finding] = []
    try:
        yield findings
    except UNREADABLE as error:
        findings.append(Finding(check, key, "work that can be done again", str(error)))


def _run_again(catalog: Catalog, spec: RunSpec, copy: Shadow, unit: Unit) -> list[Finding]:
    ref = unit.outputs(spec)[-1]
    key = ref.part_key(unit.part)
    before = _record(catalog, ref, unit.part)
    copy.work(unit)
    after = copy.run.find_part(ref, unit.part)
    if after is not None and tuple(before.objects) == after.objects:
        return []
    if after is not None and ref.artifact == "examples" and _has_equal_rows(catalog, copy, before, after):
        said = "the same rows in other bytes, as another version of pyarrow writes them"
        return [warning("rederived", key, f"data with digest {before.digest()[:12]}", said)]
    return [
        Finding("rederived", key, f"data with digest {before.digest()[:12]}", after.digest()[:12] if after else "none")
    ]


def _has_equal_rows(catalog: Catalog, copy: Shadow, before: PartRecord, after: PartRecord) -> bool:
    then, now = packed_in(catalog.run, before.objects), packed_in(copy.run, after.objects)
    return all(one == other for one, other in zip_longest(then, now))


def _judge_again(catalog: Catalog, spec: RunSpec, copy: Shadow, unit: Unit, percent: float) -> list[Finding]:
    problems, samples, *notes = _inputs(spec, unit)
    executions = unit.outputs(spec)[-1]
    for ref in (problems, *notes):
        copy.copy(ref)
    chosen = (row for row in catalog.run.read(samples, Sample, unit.part) if _is_chosen(row, percent))
    if not copy.commit(samples, _record(catalog, samples, unit.part), chosen):
        return []
    record = _record(catalog, executions, unit.part)
    key = executions.part_key(unit.part)
    then, now = record.made.environment.get("python", "unknown"), platform.python_version()
    findings = [] if then == now else [warning("reexecuted", key, f"Python {then}, which judged then", now)]
    copy.work(unit)
    before = {(row.problem_id, row.sample): row for row in catalog.run.read(executions, Execution, unit.part)}
    after = copy.run.read(executions, Execution, unit.part)
    return [*findings, *(fault for row in after for fault in _compare(executions, before, row))]


def _compare(ref: Ref, before: dict[tuple[str, int], Execution], now: Execution) -> Iterator[Finding]:
    then = before.get((now.problem_id, now.sample))
    key = f"{ref.prefix} {now.problem_id} sample {now.sample}"
    if then is None:
        yield Finding("reexecuted", key, "an execution", "none")
        return
    for name in COMPARED:
        expected, found = getattr(then, name), getattr(now, name)
        if expected != found:
            # Time is the one limit a machine's own speed can decide.
            timed = "timed_out" in (then.outcome, now.outcome)
            level: Level = "warning" if timed and name != "program_sha256" else "error"
            yield Finding("reexecuted", key, f"{name} {_short(expected)}", _short(found), level)
            return


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:40]} ... {text[-35:]}"


def _is_chosen(row: Sample, percent: float) -> bool:
    digest = hashlib.sha256(f"{row.problem_id}#{row.sample}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % SHARES < percent * SHARES / 100


def _is_possible(catalog: Catalog, spec: RunSpec, unit: Unit) -> bool:
    """Whether the unit and everything it reads are committed, whole enough to read."""
    there = all(catalog.part(ref, unit.part) for ref in unit.outputs(spec))
    sources = _inputs(spec, unit)
    return there and all(catalog.is_complete(ref) and ref in catalog.indexes for ref in sources)


def _inputs(spec: RunSpec, unit: Unit) -> list[Ref]:
    named = inputs(unit.stage, spec, iteration=unit.iteration, split=unit.split, part=unit.part)
    return [found[0] for text in named if (found := parse_ref(text))]


def _record(catalog: Catalog, ref: Ref, part: Part) -> PartRecord:
    record = catalog.part(ref, part)
    assert record is not None, f"{ref} part {part} was there a moment ago"
    return record
