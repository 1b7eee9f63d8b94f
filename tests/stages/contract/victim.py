"""Commits the second of two parts, killed by SIGKILL before each of its file operations in turn.

`python -m tests.stages.contract.victim FOLDER` leaves one store per place to die: `FOLDER/store-0`, `store-1`, ...;
the last one is of a process that nobody killed.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

from stages.contract.artifacts import Part
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import LocalStore
from tests.stages.contract.parts import commit_numbers

TOUCHING = {"open", "os.link", "os.rename", "os.remove", "os.mkdir", "os.chmod", "shutil.copyfile", "tempfile.mkstemp"}


def die_before(operation: int, root: Path) -> None:
    """Kill this process when it is about to touch `root` for the n-th time, n from 0."""
    left = itertools.count(operation, -1)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        touched = event in TOUCHING and str(arguments[0] if arguments else "").startswith(str(root))
        if touched and next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def main(folder: Path) -> None:
    """Fork one victim per file operation until one survives."""
    for operation in itertools.count():
        root = folder / f"store-{operation}"
        run = Run(LocalStore(root), "r1")
        run.create(RunSpec())
        commit_numbers(run, Part(0, 2), folder / "scratch")
        pid = os.fork()
        if pid == 0:
            die_before(operation, root)
            commit_numbers(run, Part(1, 2), folder / "scratch")
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
