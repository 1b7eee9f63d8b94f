"""A module run again and again as `python -m` does it, each time in a process of its own that need not import anew.

`python -m tests.forks MODULE IMPORTED...` imports what the module needs, then reads `{"arguments": [...],
"environment": {...}, "out": PATH, "err": PATH}` by the line, forks, is the module's main there, and answers with its
exit code.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from tests.conftest import ROOT


class Forks:
    """A context manager; `run` is `subprocess.run` of the module with these arguments and this environment alone."""

    def __init__(self, module: str, folder: Path, *, imported: Sequence[str]) -> None:
        self.command = [sys.executable, "-m", "tests.forks", module, *imported]
        self.out, self.err = folder / "out", folder / "err"

    def __enter__(self) -> Forks:
        self._process = subprocess.Popen(self.command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=60)

    def run(self, arguments: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        order = {"arguments": arguments, "environment": dict(environment), "out": str(self.out), "err": str(self.err)}
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        return subprocess.CompletedProcess(arguments, code, self.out.read_text(), self.err.read_text())


def main() -> None:
    """Import, then fork on demand."""
    told = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # some modules say something when they are imported
    _, module, *imported = sys.argv
    for name in imported:
        importlib.import_module(name)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _become(module, json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=told)


def _become(module: str, order: Mapping[str, Any]) -> NoReturn:
    """Be the module's process from here on."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream, path in ((1, order["out"]), (2, order["err"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = [module, *order["arguments"]]
    code: object = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    main()
