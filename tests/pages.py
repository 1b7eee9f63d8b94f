"""Doing what a page of docs/ tells its reader to do: its example in a copy of the sources, its commands run there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def start(folder: Path, *arguments: str, stdin: str = "") -> str:
    """Run Python in a folder and return what it printed; it must end well."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, input=stdin, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def follow(page: str, registry: str, code: str, folder: Path) -> Path:
    """Copy the stages to `folder`, add the page's module and its name to the `registry`, as the page says."""
    shutil.copytree(ROOT / "stages", folder / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests").symlink_to(ROOT / "tests")
    module = re.search(r"module, `(\S+)`, whole", page)
    place = re.search(rf"`{registry}` in `(\S+)`: put `(\S+)`", page)
    assert module and place
    (folder / module[1]).write_text(code)
    listed = (folder / place[1]).read_text()
    start_of = f"{registry} = Literal["
    assert listed.count(start_of) == 1
    (folder / place[1]).write_text(listed.replace(start_of, f"{start_of}{place[2]}, "))
    return folder


def keeps_the_house_rules(folder: Path, name: str, code: str) -> None:
    """Hold an example against the linter and the formatter."""
    (folder / name).write_text(code)
    for command in (("check",), ("format", "--check")):
        start(folder, "-m", "ruff", *command, "--config", str(ROOT / "pyproject.toml"), name)
