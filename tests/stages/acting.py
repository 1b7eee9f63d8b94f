"""A stage that acts as a test asks: `python -m tests.stages.acting ACT --run URI ...`, run by the real entry point."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

from stages.contract import errors
from stages.contract.artifacts import Ref
from stages.contract.records import StepLog
from stages.entrypoint import Job, log, main

ROWS = 20_000


def steps() -> Iterator[StepLog]:
    """A megabyte and a half of rows."""
    for number in range(ROWS):
        yield StepLog(step=number, stream="fcft", loss=1.0, num_targets=1, learning_rate=1e-5)


def commit(job: Job) -> None:
    """Commit the three artifacts of `train`, the rows first."""
    job.counters["rows"] = ROWS
    job.progress(ROWS, ROWS, "rows", rows_per_second=3.5)
    job.commit_rows(job.outputs[0], steps(), inputs=())
    if os.environ.get("ACT_PAUSE"):
        print("paused", flush=True)
        time.sleep(60)
    for ref in job.outputs[1:]:
        commit_folder(job, ref)


def commit_folder(job: Job, ref: Ref) -> None:
    """Commit a folder with one file."""
    folder = job.scratch / ref.artifact
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    job.commit_folder(ref, folder, inputs=())


class Signalling:
    """Something whose text cannot be had without a SIGTERM arriving meanwhile."""

    def __str__(self) -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        return "still here"


def log_while_stopped(job: Job) -> None:
    """Have the signal arrive while a line is being written."""
    log.info("%s, in part %s", Signalling(), job.part)
    time.sleep(60)


def fail(job: Job) -> None:
    """Raise what the environment names."""
    name = os.environ["ACT_ERROR"]
    if hasattr(errors, name):
        raise getattr(errors, name)(f"ordered {name}")
    if name == "RuntimeError":
        threading.stack_size(1 << 46)  # for which there is no room
        threading.Thread(target=print).start()
    raise {"MemoryError": MemoryError(), "ZeroDivisionError": ZeroDivisionError("a bug\nover two lines")}[name]


def sweep(job: Job) -> None:
    """Say so."""
    log.info("swept %s", job.outputs[-1])


ACTS: dict[str, Callable[[Job], None]] = {"commit": commit, "log": log_while_stopped, "fail": fail}

if __name__ == "__main__":
    main("train", ACTS[sys.argv.pop(1)], sweep)
