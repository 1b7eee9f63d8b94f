"""`leti-ctl judge`: the executor by itself, over two JSONL files. The only place where leti_ctl meets a stage."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leti_ctl.follow.bar import bar

if TYPE_CHECKING:
    from stages.contract.spec import ExecuteSpec
    from stages.execute.judge import Program, Verdict

_FILE = click.Path(path_type=Path)


@click.command()
@click.option("--problems", required=True, type=_FILE, metavar="P.jsonl", help="problem_id, prompt, tests, setup.")
@click.option("--solutions", required=True, type=_FILE, metavar="S.jsonl", help="problem_id, sample, solution.")
@click.option("--out", required=True, type=_FILE, metavar="V.jsonl", help="Verdicts, in the order of the solutions.")
@click.option("--sandbox", type=click.Choice(["gvisor", "process"]), default="gvisor", show_default=True)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    # One of MBPP's own solutions computes for up to 6 s.
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Wall time of one program.",
)
@click.option("--memory-mib", type=click.IntRange(min=1), metavar="M", help="Memory of one program; default: 512.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Programs side by side; default: all cores.")
def judge(
    problems: Path,
    solutions: Path,
    out: Path,
    sandbox: str,
    timeout: float,
    memory_mib: int | None,
    workers: int | None,
) -> None:
    """Execute solutions against their problems' tests in the sandbox; no run needed.

    A program is prompt + solution, then setup, then tests. Each verdict row holds problem_id, sample, outcome (passed,
    failed, timed_out, out_of_memory, output_limit or infra_error), error_type, feedback and seconds.
    """
    from stages.contract.errors import UsageError
    from stages.contract.spec import ExecuteSpec

    given = {"sandbox": sandbox, "timeout_seconds": timeout, "memory_mib": memory_mib, "workers": workers}
    spec = ExecuteSpec.model_validate({key: value for key, value in given.items() if value is not None})
    numbered = list(_read(solutions, "--solutions"))
    programs = _programs(numbered, solutions, {str(row["problem_id"]): row for row in _read_problems(problems)})
    rows = [row for _, row in numbered]
    if not out.parent.is_dir():
        raise UsageError(f"--out {str(out)!r}: no such folder; create it first")
    counts = _write(out, _verdicts(rows, programs, spec))
    if counts["infra_error"]:
        sys.exit(75)


def _verdicts(rows: list[dict[str, Any]], programs: list[Program], spec: ExecuteSpec) -> Iterator[dict[str, Any]]:
    from stages.execute.judge import Judge, Limits

    started = time.monotonic()
    limits = Limits.from_spec(spec)
    with Judge(limits=limits, sandbox=spec.sandbox, workers=spec.workers or os.cpu_count() or 1) as running:
        ready = time.monotonic()
        with bar("judge") as advance:
            verdicts = running.run(programs, lambda done: advance(done, len(programs)))
            for row, verdict in zip(rows, verdicts, strict=True):
                yield _verdict_row(row, verdict)
        seconds = time.monotonic() - ready
        click.echo(
            f"{len(programs)} programs in {seconds:.1f} s ({len(programs) / max(seconds, 1e-9):.0f}/s) after "
            f"{ready - started:.1f} s of start-up, sandbox {running.description}",
            err=True,
        )


def _verdict_row(row: dict[str, Any], verdict: Verdict) -> dict[str, Any]:
    return {
        "problem_id": row["problem_id"],
        "sample": row["sample"],
        "outcome": verdict.outcome,
        "error_type": verdict.error_type,
        "feedback": verdict.feedback,
        "seconds": round(verdict.seconds, 4),
        "isolation": verdict.isolation,
    }


def _write(out: Path, rows: Iterable[dict[str, Any]]) -> Counter[str]:
    """Write all rows or none: the file appears under its name when it is complete."""
    counts: Counter[str] = Counter()
    staged = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        with open(staged, "w", encoding="utf-8") as file:
            for row in rows:
                counts[row["outcome"]] += 1
                file.write(json.dumps(row) + "\n")
        staged.replace(out)
    finally:
        staged.unlink(missing_ok=True)
    click.echo(", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()) or "no solutions", err=True)
    return counts


def _programs(
    rows: list[tuple[int, dict[str, Any]]], source: Path, problems: dict[str, dict[str, Any]]
) -> list[Program]:
    from stages.contract.errors import UsageError
    from stages.execute.judge import Program

    programs = []
    for number, row in rows:
        _require(row, {"problem_id": (str, int), "sample": (str, int), "solution": (str,)}, source, number)
        problem = problems.get(str(row["problem_id"]))
        if problem is None:
            raise UsageError(f"{source}, line {number}: problem_id {row['problem_id']!r} is not in --problems")
        tests = tuple(problem["tests"])
        programs.append(Program(problem.get("prompt") or "", row["solution"], problem.get("setup") or "", tests))
    return programs


def _read_problems(source: Path) -> Iterator[dict[str, Any]]:
    from stages.contract.errors import UsageError

    seen: set[str] = set()
    for number, row in _read(source, "--problems"):
        _require(row, {"problem_id": (str, int), "tests": (list,)}, source, number)
        for name in ("prompt", "setup"):
            _require({name: row.get(name) or ""}, {name: (str,)}, source, number)
        if not all(isinstance(test, str) for test in row["tests"]):
            raise UsageError(f"{source}, line {number}: tests must be a list of texts, got {row['tests']!r:.60}")
        if str(row["problem_id"]) in seen:
            raise UsageError(f"{source}, line {number}: problem_id {row['problem_id']!r} is there twice; keep one")
        seen.add(str(row["problem_id"]))
        yield row


def _read(source: Path, option: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, row); blank lines are passed over."""
    from stages.contract.errors import UsageError

    try:
        lines = source.read_bytes().split(b"\n")
    except OSError as error:
        raise UsageError(f"{option} {str(source)!r}: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{source}, line {number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise UsageError(f"{source}, line {number}: each line is an object, got {line[:40]!r}")
        yield number, row


def _require(row: dict[str, Any], kinds: dict[str, tuple[type, ...]], source: Path, number: int) -> None:
    from stages.contract.errors import UsageError

    for name, allowed in kinds.items():
        if name not in row:
            raise UsageError(f"{source}, line {number}: field {name!r} is missing")
        if not isinstance(row[name], allowed) or isinstance(row[name], bool):
            names = " or ".join(kind.__name__ for kind in allowed)
            raise UsageError(f"{source}, line {number}: {name} must be {names}, got {row[name]!r:.60}")
