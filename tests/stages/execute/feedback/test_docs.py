"""What docs/feedback.md tells a reader to do, done: its critic, and its source in a copy of the sources."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest

from stages.contract.sections import FeedbackSource, FeedbackSpec
from stages.contract.spec import RunSpec
from tests.conftest import ROOT
from tests.pages import follow, keeps_the_house_rules, start

PAGE = (ROOT / "docs" / "feedback.md").read_text()
CRITIC, SOURCE = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
EXECUTED = """
import json, sys
from pathlib import Path
from tests.stages.execute.feedback.parts import SOLUTIONS, commit_samples, executed, make_run
folder = Path(sys.argv[1])
run = make_run(folder, {"source": "returns"})
commit_samples(run, folder, [*SOLUTIONS, "\\ndef f(x):\\n    x + 1\\n"])
print(json.dumps([row.feedback for row in executed(run, folder)]))
"""


@pytest.mark.slow
def test_the_worked_example_is_a_source(tmp_path: Path) -> None:
    folder = follow(PAGE, "FeedbackSource", SOURCE, tmp_path / "leti")
    feedback = json.loads(start(folder, "-c", EXECUTED, str(tmp_path)))
    assert feedback[0] == "" and feedback[1].startswith("Traceback") and "SyntaxError" in feedback[4]
    assert feedback[5].startswith("<string>:5: function 'f' returns nothing\nTraceback")
    assert "`python -m stages.contract.schemas`" in PAGE
    start(folder, "-m", "stages.contract.schemas")
    assert '"returns"' in (folder / "stages" / "contract" / "schemas" / "spec.json").read_text()


def test_the_worked_example_keeps_to_the_house_rules(tmp_path: Path) -> None:
    keeps_the_house_rules(tmp_path, "returns.py", SOURCE)


def test_the_critic_turns_requests_into_notes(tmp_path: Path) -> None:
    (tmp_path / "critic.py").write_text(CRITIC)
    request = {"problem_id": "p", "solution_sha256": "0" * 64, "feedback": "Traceback\nNameError: z\n", "text": ""}
    noted = json.loads(start(tmp_path, "critic.py", stdin=json.dumps(request) + "\n"))
    assert noted == {**request, "text": "It ends in NameError: z. Read the assert in the prompt again."}


def test_every_source_is_on_the_page_and_every_field_exists() -> None:
    for name in get_args(FeedbackSource):
        assert len(re.findall(rf"^\| `{name}` \|", PAGE, re.MULTILINE)) == 1
    for section, field in re.findall(r"\b(feedback|execute)\.(\w+)\b(?!\.py)", PAGE):
        assert field in {"feedback": FeedbackSpec, "execute": type(RunSpec().execute)}[section].model_fields, field


def test_every_command_of_the_page_has_the_options_it_is_shown_with() -> None:
    told = re.findall(r"leti-ctl (\w+)((?:[^`\n|>#]|\\\n)*)", PAGE)
    assert len(told) > 5
    for name, rest in told:
        command = getattr(import_module(f"leti_ctl.commands.{name}"), name)
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"(?<!\S)--[a-z-]+", rest)) <= known, name
