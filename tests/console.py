"""`leti-ctl` in this process: what a shell would see of it, without the half second that a process takes to start."""

from __future__ import annotations

import io
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from leti_ctl import __main__ as program


@dataclass(frozen=True)
class Ended:
    """A command line that has ended, with the names `subprocess` has for it."""

    returncode: int
    stdout: str
    stderr: str


def leti_ctl(*arguments: str, cwd: Path, text: str = "") -> Ended:
    """Run `python -m leti_ctl` in a folder, from arguments to exit code; `text` is what it reads from stdin."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, chdir(cwd), redirect_stdout(out), redirect_stderr(err):
        patch.setitem(sys.modules, "__main__", program)
        patch.setattr(sys, "argv", [str(program.__file__), *arguments])
        patch.setattr(sys, "stdin", io.StringIO(text))
        patch.setenv("COLUMNS", "100")
        patch.setenv("NO_COLOR", "1")
        with pytest.raises(SystemExit) as ended:
            program.main()
    assert isinstance(ended.value.code, int)
    return Ended(ended.value.code, out.getvalue(), err.getvalue())
