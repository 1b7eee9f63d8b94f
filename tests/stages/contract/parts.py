"""Small parts to commit: the same bytes in every test and process."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from stages.contract.artifacts import Input, Made, Part, PartRecord, Ref
from stages.contract.records import Problem, Record, write_rows
from stages.contract.run import Commit, Run
from stages.contract.spec import RunSpec
from stages.contract.store import open_store

PROBLEMS = Ref("problems", split="train")
CHECKPOINT = Ref("checkpoint", 0)
MADE = Made(started_at="2026-01-01T00:00:00+00:00", seconds=1.5, host="here")


def new_run(uri: str) -> Run:
    """Make an empty run in a store."""
    run = Run(open_store(uri), "r1")
    run.create(RunSpec())
    return run


def problem(number: int) -> Problem:
    return Problem(problem_id=f"p/{number}", prompt='"""ü\n"""', tests=("assert f() == 1", "assert f() != 2"))


def commit_rows(
    run: Run, part: Part, rows: Iterable[Record], scratch: Path, *, ref: Ref = PROBLEMS, made: Made = MADE
) -> PartRecord:
    """Commit rows as one object, as `Job.commit_rows` does."""
    lines = list(write_rows(rows))
    scratch.mkdir(parents=True, exist_ok=True)
    path = scratch / f"{ref.artifact}-{part.stem}.jsonl"
    path.write_bytes(b"".join(lines))
    inputs = (Input(ref="source", sha256="0" * 64),)
    return run.commit(Commit(ref, part, {path: len(lines)}, inputs, seed=7, made=made, facts={"kept": len(lines)}))


def commit_numbers(run: Run, part: Part, scratch: Path, *, count: int = 7, made: Made = MADE) -> PartRecord:
    """Commit a part's share of `count` problems."""
    return commit_rows(run, part, [problem(number) for number in part.slice(count)], scratch, made=made)


def commit_folder(run: Run, root: Path, *, ref: Ref = CHECKPOINT) -> PartRecord:
    """Commit every file below `root`."""
    files = {path: 0 for path in sorted(root.rglob("*")) if path.is_file()}
    return run.commit(Commit(ref, Part(), files, (), seed=7, made=MADE, root=root))


def index_bytes(run: Run, ref: Ref = PROBLEMS) -> bytes:
    """Return the index as stored; `KeyError` when there is none."""
    return run.store.get(run.key(f"{ref.prefix}/index.json"))
