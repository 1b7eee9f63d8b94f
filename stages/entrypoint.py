"""One main for all stages: open the run, skip what is done, run the stage, turn errors into exit codes.

    python -m stages.<stage> --run URI [--iteration I] [--split PASS] [--part K/N]

This line is all a container executes. Stages get a `Job` and commit through it; they neither parse arguments nor
know where the store is. `LETI_LOG=json` logs one JSON object per line, which is what backends read; a person gets text.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

from stages.contract.artifacts import Input, Made, Part, PartRecord, Ref, parse_part
from stages.contract.errors import LetiError, Stopped, UsageError, describe_os_error, describe_shortage
from stages.contract.flow import STAGES, StageName, division, outputs
from stages.contract.logs import attempt_name, kept, log_key
from stages.contract.packages import lock, lock_key
from stages.contract.records import Record, write_rows
from stages.contract.run import Commit, Run
from stages.contract.seeds import derive_seed
from stages.contract.spec import Pass, RunSpec
from stages.contract.store import Moved
from stages.contract.transfer import Meter, amount

log = logging.getLogger("leti")
PROGRESS_SECONDS = 1.0


class Output(NamedTuple):
    """Files on scratch that are to be a unit's part of an artifact, and what it was made from."""

    ref: Ref
    files: Mapping[Path, int]
    """With their row counts."""
    inputs: tuple[Input, ...]
    facts: Mapping[str, Any] = {}
    root: Path | None = None
    """The folder whose layout a folder artifact keeps."""


@dataclass
class Job:
    """One unit of work: which stage, of what, and the verbs a stage needs to read and commit."""

    run: Run
    stage: StageName
    iteration: int = 0
    split: str = "train"
    part: Part = field(default_factory=Part)
    scratch: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))
    counters: dict[str, float] = field(default_factory=dict)
    """Measurements for the part record; a stage adds to them as it goes."""
    environment: dict[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.time)
    _last_progress: float = 0.0

    @property
    def spec(self) -> RunSpec:
        """The run's spec."""
        return self.run.spec

    @cached_property
    def sampling_pass(self) -> Pass:
        """The sampling pass that `split` names."""
        try:
            return self.spec.get_pass(self.split)
        except KeyError:
            known = ", ".join(one.name for one in self.spec.passes())
            raise UsageError(f"--split {self.split!r}: this run has {known}") from None

    @cached_property
    def packages(self) -> str:
        """Key of the package lock, which is in the store from here on."""
        key = lock_key(lock())
        self.run.store.put_if_absent(self.run.key(key), lock().encode())
        return key

    @property
    def outputs(self) -> tuple[Ref, ...]:
        """What this unit commits; the last one committed means "done"."""
        return outputs(self.stage, self.spec, iteration=self.iteration, split=self.split)

    def seed(self, *path: str | int) -> int:
        """Return the seed of a choice within this stage and iteration; the same for every part."""
        return derive_seed(self.spec.seed, self.stage, self.iteration, self.split, *path)

    def is_done(self) -> bool:
        """Whether everything this unit commits is there."""
        return all(self.run.find_part(ref, self.part) for ref in self.outputs)

    def progress(self, done: int, total: int, unit: str, **measured: float) -> None:
        """Log how far the unit is, at most once a second and always at the end."""
        now = time.monotonic()
        if done >= total or now - self._last_progress >= PROGRESS_SECONDS:
            self._last_progress = now
            fields = {"done": done, "total": total, "unit": unit, **measured}
            log.info("%d of %d %s", done, total, unit, extra={"event": "progress", "fields": fields})

    def watch(self, what: str, size: int) -> Moved:
        """Log every few seconds how far a transfer is; the watch of a run."""

        def tell(done: int, total: int) -> None:
            fields = {"doing": what, "done": done, "total": total, "unit": "bytes"}
            log.info("%s: %s", what, amount(done, total), extra={"event": "transfer", "fields": fields})

        return Meter(size, tell)

    def commit_rows(self, ref: Ref, rows: Iterable[Record], *, inputs: tuple[Input, ...], **facts: Any) -> PartRecord:
        """Write rows as one JSONL object and commit the part."""
        return self.commit(self.row_output(ref, rows, inputs=inputs, **facts))

    def commit_folder(self, ref: Ref, root: Path, *, inputs: tuple[Input, ...], **facts: Any) -> PartRecord:
        """Commit every file below `root` as a folder artifact."""
        return self.commit(self.folder_output(ref, root, inputs=inputs, **facts))

    def row_output(self, ref: Ref, rows: Iterable[Record], *, inputs: tuple[Input, ...], **facts: Any) -> Output:
        """Write rows to one JSONL file, for a commit."""
        path = self.scratch / f"{ref.artifact}.jsonl"
        count = 0
        with open(path, "wb") as file:
            for line in write_rows(rows):
                file.write(line)
                count += 1
        return Output(ref, {path: count}, inputs, facts)

    def folder_output(self, ref: Ref, root: Path, *, inputs: tuple[Input, ...], **facts: Any) -> Output:
        """Take every file below `root`, for a commit as a folder artifact."""
        files = {path: 0 for path in sorted(root.rglob("*")) if path.is_file()}
        return Output(ref, files, inputs, facts, root)

    def commit(self, output: Output) -> PartRecord:
        """Commit files as this unit's part of an artifact."""
        record = self.run.commit(self._commit(output))
        self._tell(output.ref, record)
        return record

    def commit_together(self, given: Sequence[Output]) -> None:
        """Commit all that the unit makes; none of it beside what another try made (`Run.commit_together`)."""
        records = self.run.commit_together([self._commit(output) for output in given])
        for output, record in zip(given, records, strict=True):
            self._tell(output.ref, record)

    def _commit(self, output: Output) -> Commit:
        ref, files, inputs, facts, root = output
        return Commit(ref, self.part, files, inputs, self.seed(), self.made(), facts, root)

    def _tell(self, ref: Ref, record: PartRecord) -> None:
        log.info("committed %s part %s", ref, self.part, extra={"event": "committed", "fields": {"rows": record.rows}})

    def made(self) -> Made:
        """Return when, where and how long so far, with what the stage has measured."""
        host = {"python": platform.python_version(), "machine": platform.machine(), "packages": self.packages}
        host |= self.environment
        image = os.environ.get("LETI_IMAGE")
        return Made(
            started_at=datetime.fromtimestamp(self.started, UTC).isoformat(timespec="seconds"),
            seconds=round(time.time() - self.started, 3),
            host=platform.node(),
            counters={name: float(value) for name, value in self.counters.items()},
            environment={**host, "image": image} if image else host,
        )


Work = Callable[[Job], None]


def threads(processes: int = 1) -> int:
    """Return the CPU threads each of so many processes on this machine should use, or what `LETI_THREADS` says."""
    wanted = os.environ.get("LETI_THREADS") or str(max(1, len(os.sched_getaffinity(0)) // processes))
    if not wanted.isdecimal() or int(wanted) == 0:
        raise UsageError(f"LETI_THREADS: {wanted!r}; set a number from 1")
    return int(wanted)


def main(stage: StageName, run_stage: Work, sweep: Work | None = None) -> NoReturn:
    """Run one unit and exit: 0 when its outputs are committed, else the code of the error.

    `sweep` removes from the store what a unit kept there for itself, where it was killed after its last commit.
    """
    arguments = _parse(stage)
    formatter = _configure_logging(stage, arguments)
    signal.signal(signal.SIGTERM, _on_terminate)
    try:
        part = parse_part(arguments.part)
        key = log_key(stage, arguments.iteration, arguments.split, part, attempt_name(time.time()))
        with kept(log, arguments.run, key, formatter):
            _main(stage, arguments, run_stage, sweep)
    except LetiError as error:
        _fail(error)
    except OSError as error:
        _fail(describe_os_error(error))


def _main(stage: StageName, arguments: argparse.Namespace, run_stage: Work, sweep: Work | None) -> NoReturn:
    try:
        _run_unit(stage, arguments, run_stage, sweep)
    except LetiError as error:
        _fail(error)
    except OSError as error:
        _fail(describe_os_error(error))
    except KeyboardInterrupt:
        _fail(Stopped("asked to stop; what is committed stays, resume goes on from there"))
    except Exception as bug:
        if shortage := describe_shortage(bug):
            _fail(shortage)
        log.exception("%s: %s", type(bug).__name__, bug, extra=_failed(bug))
        sys.exit(LetiError.exit_code)
    sys.exit(0)


def _run_unit(stage: StageName, arguments: argparse.Namespace, run_stage: Work, sweep: Work | None) -> None:
    part = parse_part(arguments.part)
    scratch = Path(tempfile.mkdtemp(prefix=f"leti-{stage}-", dir=os.environ.get("LETI_SCRATCH")))
    try:
        job = Job(Run.open(arguments.run), stage, arguments.iteration, arguments.split, part, scratch)
        job.run.watch = job.watch
        _check_coordinates(job)
        if job.is_done():
            if sweep:
                sweep(job)
            log.info("already done", extra={"event": "skipped"})
            return
        run_stage(job)
        log.info("done in %.1f s", time.time() - job.started, extra={"event": "done"})
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check_coordinates(job: Job) -> None:
    """Refuse a pass the spec does not have and a division that is not the spec's: its parts would never add up."""
    if STAGES[job.stage].per == "pass":
        _ = job.sampling_pass
    parts = division(job.stage, job.spec, job.split)
    if job.part.of != parts:
        raise UsageError(f"--part {str(job.part)!r}: {job.stage} of this run has {parts} parts; write K/{parts}")


def _parse(stage: StageName) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m stages.{stage}")
    parser.add_argument("--run", required=True, metavar="URI", help="STORE/runs/NAME")
    parser.add_argument("--iteration", type=_iteration, default=0, metavar="I", help="from 0")
    parser.add_argument("--split", default="train", metavar="PASS", help="a sampling pass: train, test, ...")
    parser.add_argument("--part", default="0/1", metavar="K/N", help="fan-out unit, K from 0")
    return parser.parse_args()


def _iteration(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: write a whole number from 0")
    return int(text)


def _on_terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    # Not an `Exception`: a signal can arrive inside a library, or inside `logging`, that swallows those.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _fail(error: LetiError) -> NoReturn:
    log.error("%s", error, extra=_failed(error))
    sys.exit(error.exit_code)


def _failed(error: Exception) -> dict[str, Any]:
    return {"event": "failed", "fields": {"kind": type(error).__name__}}


class _JsonFormatter(logging.Formatter):
    """One JSON object per line, the unit's coordinates in each."""

    def __init__(self, unit: Mapping[str, Any]) -> None:
        super().__init__()
        self.unit = dict(unit)

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            **self.unit,
            "event": getattr(record, "event", "log"),
            "message": message,
            **getattr(record, "fields", {}),
        }
        return json.dumps(entry, default=str)


def _configure_logging(stage: StageName, arguments: argparse.Namespace) -> logging.Formatter:
    """Log to stderr as the environment asks; return how entries look that machines read."""
    unit = {"stage": stage, "iteration": arguments.iteration, "split": arguments.split, "part": arguments.part}
    handler, as_json = logging.StreamHandler(sys.stderr), _JsonFormatter(unit)
    if os.environ.get("LETI_LOG") == "json":
        handler.setFormatter(as_json)
    else:
        handler.setFormatter(logging.Formatter(f"%(asctime)s {stage} %(levelname)s %(message)s", "%H:%M:%S"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    return as_json
