"""The root of the `execute` image: what the stage needs, and nothing a candidate could use."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from stages.contract.spec import TaskName
from stages.execute import rootfs
from tests.conftest import ROOT
from tests.sandbox import pod

REFUSED = ("torch", "numpy", "pyarrow", "transformers", "pip", "setuptools", "click", "yaml", "leti_ctl", "ensurepip")
STORE = """
import boto3, botocore.session
from stages.contract.store import open_store
session = boto3.Session("a", "b", region_name="us-east-1")
print([session.client(name).meta.service_model.service_name for name in ("s3", "sts", "sso", "sso-oidc")])
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("image")
    yield pod.lay_root(folder / "root")
    shutil.rmtree(folder)


def python(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the root's Python on the root's files alone."""
    library = rootfs.inside(root, Path(os.__file__).parent)
    start = (
        f"import sys; sys.path[:] = {[str(library), str(library / 'lib-dynload'), str(library / 'site-packages')]}\n"
    )
    line = [rootfs.inside(root, rootfs.interpreter()), "-I", "-S", "-B", "-c", start + arguments[0], *arguments[1:]]
    return subprocess.run(line, capture_output=True, text=True, env={}, cwd="/", timeout=200, check=False)


@pytest.mark.slow
def test_the_stage_starts_from_its_closure_alone(root: Path) -> None:
    done = python(root, "import runpy; runpy.run_module('stages.execute', run_name='__main__')", "--help")
    assert done.returncode == 0, done.stderr
    assert "STORE/runs/NAME" in done.stdout


@pytest.mark.slow
def test_the_closure_judges_every_task_and_holds_no_answers(root: Path) -> None:
    names = get_args(TaskName)
    load = f"from stages.tasks import load_task; print([bool(load_task(name).load) for name in {names}])"
    done = python(root, load + "; from stages.execute.feedback import linter")
    assert done.stdout.strip() == str([True] * len(names)), done.stderr
    assert not list(root.rglob("*.jsonl"))


@pytest.mark.slow
def test_the_closure_can_talk_to_a_store(root: Path) -> None:
    done = python(root, STORE)
    assert done.stdout.strip() == "['s3', 'sts', 'sso', 'sso-oidc']", done.stderr


@pytest.mark.slow
def test_the_closure_has_nothing_else_to_import(root: Path) -> None:
    done = python(root, f"import importlib.util as u; print([n for n in {REFUSED} if u.find_spec(n)])")
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.slow
def test_the_only_program_is_python(root: Path) -> None:
    programs = [path for path in root.rglob("*") if is_program(path)]
    assert {path.name for path in programs} == {rootfs.interpreter().name}
    assert not [path for path in root.rglob("*") if path.name in ("sh", "bash", "ld", "busybox", "env", "perl")]


@pytest.mark.slow
def test_no_file_gives_privilege_or_can_be_written_by_the_user(root: Path) -> None:
    for path in root.rglob("*"):
        mode = path.lstat().st_mode
        assert not mode & (stat.S_ISUID | stat.S_ISGID), path
        if not path.is_symlink() and path not in (root / "tmp", root / "store"):
            assert not mode & stat.S_IWOTH or path.name == "tmp", path


def is_program(path: Path) -> bool:
    """Whether it is an ELF file, and no library."""
    if path.is_symlink() or not path.is_file():
        return False
    with open(path, "rb") as file:
        head = file.read(4)
    return head == b"\x7fELF" and ".so" not in path.name


def test_requirements_of_the_closure_are_those_of_its_distributions() -> None:
    spec = importlib.util.spec_from_file_location("root", ROOT / "images" / "install" / "root.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    names = {distribution.metadata["Name"].lower().replace("_", "-") for distribution in module.required(("boto3",))}
    assert names == {"boto3", "botocore", "s3transfer", "jmespath", "python-dateutil", "six", "urllib3"}
