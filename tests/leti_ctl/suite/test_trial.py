"""A trial of the paper's suite, run for real with a model of random weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]


def suite(*arguments: str, code: int = 0) -> Any:
    line = [sys.executable, "-m", "leti_ctl", "suite", "paper", "--scale", "0.01", *arguments]
    line += ["--set", "execute.sandbox=process", "--json"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_rows_of_every_kind_run_and_run_once(tmp_path: Path) -> None:
    store, out = ("--store", str(tmp_path / "store")), tmp_path / "tables"
    only = ("--only", "a7", "--only", "eae")
    found = suite(*only, *store, "--out", str(out))
    assert found["failed"] == {} and "MEAN NOTHING" in found["warning"]
    cells = [cell for table in found["tables"].values() for cell in table["cells"]]
    assert len(cells) == 6 and all(cell["ours"] is not None for cell in cells), cells
    assert {path.name for path in out.iterdir()} == {"tables.json", "tables.csv", "tables.md"}
    assert "MEAN NOTHING" in (out / "tables.md").read_text()
    scored = [name for name in found["runs"] if name.startswith("eae-greedy-350m-good-")]
    spec = json.loads((tmp_path / "store" / "runs" / scored[0] / "spec.json").read_text())
    assert spec["model"]["from_run"] in found["runs"] and spec["model"]["from_iteration"] == 1

    plan = suite(*only, *store, "--list")
    assert plan["total"]["done"] == plan["total"]["units"] > 0
    assert suite(*only, *store)["tables"] == found["tables"]


def test_a_run_that_fails_leaves_a_gap_and_the_others_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "mbpp.jsonl").write_text("not a data set\n")
    store = ("--store", str(tmp_path / "store"), "--data", str(tmp_path))
    arguments = [*("--only", "a6"), *store]
    line = [sys.executable, "-m", "leti_ctl", "suite", "paper", "--scale", "0.01", *arguments]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "2 runs failed" in done.stderr
    assert "mbpp.jsonl, line 1" in done.stderr and "(not run)" in done.stdout
