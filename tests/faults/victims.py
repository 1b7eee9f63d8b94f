"""A process that forks one stage after the other, each as a container runs it, without paying for its imports again.

`python -m tests.faults.victims` reads `{"stage": ..., "arguments": [...], "environment": {...}, "log": PATH}` by the
line and answers each with the stage's process id, then with its exit code. It closes with its standard input.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, NoReturn

from tests.conftest import ROOT

STAGES = ("prepare", "generate", "execute", "build", "train", "evaluate")
HEAVY = (
    "transformers.models.llama.modeling_llama",
    "transformers.models.llama.tokenization_llama",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "stages.prepare.checkpoint",
    "stages.train.plain",
    "stages.generate.scripted",
    "stages.tasks.basics",
    "deepspeed",
    "pyarrow.parquet",
)
TIMEOUT = 240.0
"""Seconds a stage may take on a busy machine; they take one."""


class Ended(NamedTuple):
    """How a stage ended."""

    code: int
    """As `subprocess` has it: negative for a signal."""
    log: str

    @property
    def error(self) -> str:
        """The last line it logged."""
        return self.log.strip().rpartition("\n")[2]


class Victims:
    """A context manager; `start` begins a stage, `wait` sees it end."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "stage.log"

    def __enter__(self) -> Victims:
        command = [sys.executable, "-m", "tests.faults.victims"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(60)

    def start(self, stage: str, arguments: list[str], environment: Mapping[str, str]) -> int:
        """Begin a stage and return its process id."""
        assert self._process.stdin is not None
        order = {"stage": stage, "arguments": arguments, "environment": environment, "log": str(self.log)}
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        return self._read()

    def wait(self, is_over: Callable[[], bool] = lambda: False) -> Ended | None:
        """Return how the stage ended, or None as soon as `is_over` says that nobody need wait for it."""
        waited = 0.0
        while not select.select([self._process.stdout], [], [], 0.005)[0]:
            waited += 0.005
            if is_over():
                return None
            assert waited < TIMEOUT, "the stage hangs"
        return Ended(self._read(), self.log.read_text())

    def _read(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


def main() -> None:
    """Import everything, then fork on demand."""
    import boto3

    from stages.contract.packages import code_version, lock

    told = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # DeepSpeed says something when it is imported
    mains = {stage: _entry(stage) for stage in STAGES}
    for name in HEAVY:
        importlib.import_module(name)
    boto3.setup_default_session()
    boto3.client("s3").close()  # what boto3 reads from its files stays with the session
    lock(), code_version()  # the same for all, whoever edits the sources meanwhile
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(order, mains[order["stage"]])
        print(pid, file=told)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=told)


def _entry(stage: str) -> Callable[[], NoReturn]:
    """Return what `python -m stages.<stage>` does."""
    from stages.entrypoint import main as run_main

    module = importlib.import_module(f"stages.{stage}.stage")
    work, sweep = getattr(module, "run" if stage == "execute" else stage), getattr(module, "sweep", None)
    return lambda: run_main(stage, work, sweep)  # type: ignore[arg-type]


def _become(order: Mapping[str, object], entry: Callable[[], NoReturn]) -> NoReturn:
    """Be the stage's process from here on."""
    handle = os.open(str(order["log"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(handle, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(order["environment"])  # type: ignore[call-overload]
    sys.argv = ["stage", *order["arguments"]]  # type: ignore[misc]
    try:
        entry()
    except SystemExit as done:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(done.code if isinstance(done.code, int) else 1)
    finally:
        os._exit(1)


if __name__ == "__main__":
    main()
