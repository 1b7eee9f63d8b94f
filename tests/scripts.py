"""What the scripted engine plays: the reference solutions of leti's own problems, and some that fail."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conftest import ROOT


def reference_rows(split: str, count: int) -> list[dict[str, Any]]:
    """Return the first rows of a split of `basics`."""
    lines = (ROOT / "stages" / "tasks" / "basics" / f"{split}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[:count]]


def write_script(path: Path, *, train: int, test: int, wrong: Sequence[str]) -> Path:
    """Write a script for the first problems of both splits: the reference, then what is wrong; return its path."""
    rows = [*reference_rows("train", train), *reference_rows("test", test)]
    script = [{"problem_id": f"basics/{row['task_id']}", "solutions": ["\n" + row["code"], *wrong]} for row in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in script))
    return path
