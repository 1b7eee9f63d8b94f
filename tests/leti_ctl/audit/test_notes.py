"""An audit of a run whose feedback came from notes: what they were is in the store, and does as well as their file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leti_ctl.audit.report import Depth, audit
from stages.contract.notes import solution_digest
from stages.contract.spec import RunSpec
from tests.leti_ctl.audit.made import BODIES, make_run, make_spec


@pytest.mark.slow
def test_a_run_with_notes_is_audited_when_their_file_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "notes.jsonl"
    solutions = {"Add one to x.": BODIES[1], "Right, and short.": BODIES[0].format(1)}
    notes = (
        {"problem_id": "train/1", "solution_sha256": solution_digest(solution), "text": text}
        for text, solution in solutions.items()
    )
    file.write_text("".join(json.dumps(note) + "\n" for note in notes))
    data = make_spec(tmp_path).model_dump(mode="json")
    data |= {"iterations": 1, "feedback": {"source": "notes", "notes": str(file), "successes": True}}
    run = make_run(tmp_path, spec=RunSpec.model_validate_json(json.dumps(data)))
    file.unlink()
    report = audit(run, Depth(reexecute_percent=100))
    assert [finding.line for finding in report.findings] == []
    part = next(iter(run.store.scan(run.key("iterations/0000/notes/train/00"))))
    Path(run.store.local_path(part.key) or "").write_bytes(b"{}\n")
    assert not audit(run, Depth()).clean
