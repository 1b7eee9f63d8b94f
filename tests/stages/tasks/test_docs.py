"""What docs/tasks.md tells a reader to do, done to a copy of the sources."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from stages.contract.benchmarks import benchmark_of
from stages.contract.spec import TaskName
from stages.tasks import load_task
from tests.conftest import ROOT
from tests.pages import follow, keeps_the_house_rules, start

PAGE = (ROOT / "docs" / "tasks.md").read_text()
SOLVED = """
import json, sys
from pathlib import Path
from tests.stages.tasks.passes import make_pass
folder = Path(sys.argv[1])
task = {"name": "regexes", "source": str(folder)}
liar = " 'x'\\nexhibit = [True, False, False]"
drawn = {"regexes/test/1": [" 'c.t'", " 'c.*t'", " '('"], "regexes/test/2": [" 'a'", liar, " 'b'"]}
_, executions, metrics = make_pass(folder, task, drawn)
outcomes = [row.outcome for row in executions]
feedback = [row.feedback.splitlines()[-1:] for row in executions]
print(json.dumps({"outcomes": outcomes, "feedback": feedback, "score": metrics.figures["words_right"].value}))
"""


def block(language: str) -> str:
    """Return the page's one block of code in a language."""
    (code,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(code)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of the stages with the example added as the page says."""
    return follow(PAGE, "TaskName", block("python"), tmp_path / "leti")


@pytest.mark.slow
def test_the_worked_example_is_a_task(sources: Path, tmp_path: Path) -> None:
    line: dict[str, Any] = json.loads(block("json"))
    rows = [line, {"number": 2, "matches": ["a"], "others": ["b", "c"]}]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = json.loads(start(sources, "-c", SOLVED, str(tmp_path)))
    assert found["outcomes"] == ["passed", "failed", "failed", "passed", "failed", "failed"]
    assert found["score"] == pytest.approx((4 + 2 + 0 + 3 + 2 + 1) / (3 * 4 + 3 * 3))
    said = ["2 of 4 words are sorted right", "2 of 3 words are sorted right", "1 of 3 words are sorted right"]
    assert [found["feedback"][number] for number in (1, 4, 5)] == [[f"ValueError: {text}"] for text in said]


@pytest.mark.slow
def test_the_schema_is_written_again_by_the_command_of_the_page(sources: Path) -> None:
    assert "`python -m stages.contract.schemas`" in PAGE
    start(sources, "-m", "stages.contract.schemas")
    assert '"regexes"' in (sources / "stages" / "contract" / "schemas" / "spec.json").read_text()


def test_the_worked_example_keeps_to_the_house_rules(tmp_path: Path) -> None:
    keeps_the_house_rules(tmp_path, "regexes.py", block("python"))


@pytest.mark.parametrize("name", get_args(TaskName))
def test_every_registered_task_is_a_module_and_on_the_page(name: TaskName) -> None:
    assert load_task(name).is_program == benchmark_of(name).is_program
    (row,) = re.findall(rf"^\| `{name}` \|(.*)\|$", PAGE, re.MULTILINE)
    solutions, splits = (cell.strip() for cell in row.split("|")[:2])
    assert solutions == ("programs" if benchmark_of(name).is_program else "text")
    assert splits == ", ".join(benchmark_of(name).splits)
