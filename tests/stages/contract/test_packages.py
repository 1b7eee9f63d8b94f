"""The package lock of a part: what is installed, whatever the process has imported until it is asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from stages.contract.packages import installed
from tests.conftest import ROOT


def test_every_distribution_on_the_path_is_named_once_and_sorted(tmp_path: Path) -> None:
    for name in ("site/b-2.dist-info", "site/A-1.dist-info", "other/b-2.dist-info", "other/c-3.egg-info"):
        (tmp_path / name).mkdir(parents=True)
    path = ["", str(tmp_path / "site"), str(tmp_path / "other"), str(tmp_path / "none"), str(tmp_path / "stdlib.zip")]
    assert installed(path) == "A-1\nb-2\n"


def test_what_a_library_brings_along_for_itself_is_not_installed(tmp_path: Path) -> None:
    for name in ("site-packages/a-1.dist-info", "site-packages/tool/_vendor/b-2.dist-info"):
        (tmp_path / name).mkdir(parents=True)
    path = [str(tmp_path / "site-packages"), str(tmp_path / "site-packages/tool/_vendor")]
    assert installed(path) == "a-1\n"


def test_importing_setuptools_which_puts_its_own_libraries_on_the_path_changes_no_lock() -> None:
    def lock_after(statement: str) -> str:
        code = f"{statement}\nfrom stages.contract.packages import lock\nprint(lock())"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout

    assert lock_after("import setuptools") == lock_after("pass")
