"""Commits the second of two parts, killed by SIGKILL before each of its file operations or requests in turn.

`python -m tests.stages.contract.victim SCRATCH 'STORE-{}'` leaves one store per place to die, numbered from 0, and
prints how many; the last one is of a process that nobody killed.
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
from stages.contract.store import open_store
from tests.stages.contract.parts import commit_numbers

ON_FILES = {"open", "os.link", "os.rename", "os.remove", "os.mkdir", "os.chmod", "shutil.copyfile", "tempfile.mkstemp"}


def die_before(operation: int, root: str) -> None:
    """Kill this process when it is about to touch the store for the n-th time, n from 0."""
    left = itertools.count(operation, -1)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        on_file = event in ON_FILES and str(arguments[0] if arguments else "").startswith(root)
        if (on_file or event == "http.client.send") and next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def main(scratch: Path, template: str) -> int:
    """Fork one victim per operation until one survives; return how many there were."""
    for operation in itertools.count():
        root = template.format(operation)
        run = Run(open_store(root), "r1")
        run.create(RunSpec())
        commit_numbers(run, Part(0, 2), scratch)
        pid = os.fork()
        if pid == 0:
            die_before(operation, root)
            commit_numbers(Run(open_store(root), "r1"), Part(1, 2), scratch)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0:
            return operation + 1
    raise AssertionError("unreachable")


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), sys.argv[2]))
