"""Runs whose training rows are of other forms, from problems to rows, and an audit that knows each form.

python -m pytest tests/leti_ctl/audit/test_forms.py -q
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from leti_ctl.artifacts.samples import Filter, read_samples
from leti_ctl.audit.report import Depth, audit
from stages.contract.artifacts import Ref
from stages.contract.records import Metrics
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from tests.leti_ctl.audit.made import make_run, make_spec
from tests.models import END

CUT = "    return x + {0}\nprint(1)\nraise KeyError"
Sections = dict[str, dict[str, Any]]
SUPERVISED: Sections = {
    "generate": {"solutions": "reference", "samples_per_problem": 1, "reward_token": "none"},
    "build": {"form": "supervised", "solution_ids": "retokenized"},
    "evaluate": {"reward_token": "none"},
}
HINTED: Sections = {
    "task": {"postprocess": "first_block", "hint": True},
    "build": {"solution_ids": "retokenized"},
}


def make_form(folder: Path, sections: Sections) -> Run:
    """A run of the spec of `made`, with these sections changed and solutions that go on after their end."""
    document = make_spec(folder).model_dump(mode="json")
    for name, fields in sections.items():
        document[name] |= fields
    rows = [
        {"problem_id": f"{split}/{number}", "solutions": ["\n" + CUT.format(number), "\n    return"]}
        for split in ("train", "test")
        for number in range(3)
    ]
    (folder / "script.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return make_run(folder, spec=RunSpec.model_validate_json(json.dumps(document)))


def texts(run: Run, iteration: int = 0) -> set[str]:
    """The run's training rows, spelled out."""
    from leti_ctl.artifacts.holdings import rows

    return {row["text"] for row in rows(run, Ref("examples", iteration), None, 100)}


def problems(run: Run) -> list[str]:
    return [finding.line for finding in audit(run, Depth(rederive=True)).findings]


@pytest.mark.slow
def test_the_supervised_baseline_learns_the_data_sets_solutions_and_asks_without_a_token(tmp_path: Path) -> None:
    run = make_form(tmp_path, SUPERVISED)
    wanted = {f"{END}def f{number}(x):\n    return x + {number}{END}" for number in range(3)}
    assert texts(run) == texts(run, 1) == wanted
    scores = [next(run.read(Ref("metrics", iteration, name), Metrics)) for iteration in (0, 1, 2) for name in ("test",)]
    assert {row.reward_token for row in scores} == {"none"}
    assert next(run.read(Ref("metrics", 0, "train"), Metrics)).outcomes == {"passed": 3}
    assert problems(run) == []


@pytest.mark.slow
@pytest.mark.parametrize("original", [False, True])
def test_hints_stand_behind_both_tokens_and_say_what_was_cut(tmp_path: Path, original: bool) -> None:
    run = make_form(tmp_path, {**HINTED, "task": {**HINTED["task"], "execute_original": original}})
    rows = texts(run)
    hint = f"[print(1)\nraise KeyError]. End the solution there with {END}<|/text_feedback|>"
    cut = {row for row in rows if hint in row}
    assert len(cut) == 3 and len(rows) > 3
    assert {row.startswith("<|good|><|text_feedback|>Only") for row in cut} == {not original}
    assert {row.endswith("raise KeyError") for row in cut} == {original}
    shown = read_samples(run, Filter(0, "train", outcome="KeyError" if original else "passed"))
    assert shown and all(row["executed"].endswith("KeyError") == original for row in shown)
    assert problems(run) == []
