"""Feedback with comments: where they stand, how much room they get, and that verdicts do not know of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stages.contract.errors import SpecError
from stages.contract.records import Execution
from stages.execute.feedback.comments import CUT, join
from tests.stages.execute.feedback.parts import PASSES, UNDEFINED, commit_samples, executed, make_run, record

LONG = "Traceback (most recent call last):\n" + "  deep\n" * 500 + "NameError: name 'z' is not defined\n"


@given(st.text(), st.text(), st.integers(200, 3000))
@example("note\n" * 1000, LONG, 200)
def test_text_and_traceback_share_the_room(text: str, traceback: str, room: int) -> None:
    found = join(text, traceback, room)
    assert len(found) <= room
    assert found.isprintable() or not any(ord(each) < 32 and each not in "\n\t" for each in found)
    found.encode()


def test_of_a_text_the_beginning_is_kept_and_of_a_traceback_the_end() -> None:
    found = join("first\n" + "more\n" * 500, LONG, 400)
    assert found.startswith("first\n") and CUT + "\n[...]\n" in found
    assert found.endswith("NameError: name 'z' is not defined\n")
    assert join("note", "Traceback\n", 400) == "note\nTraceback\n"
    assert join("note", "", 400) == "note\n" and join("", "Traceback\n", 400) == "Traceback\n"
    assert join("SyntaxError: x\n", '  File "<string>"\nSyntaxError: x\n', 400) == '  File "<string>"\nSyntaxError: x\n'


def verdicts(rows: list[Execution]) -> list[tuple[object, ...]]:
    return [(row.sample, row.outcome, row.error_type, row.program_sha256, row.isolation) for row in rows]


@pytest.mark.slow
def test_sources_comment_failures_and_no_verdict_knows_of_them(tmp_path: Path) -> None:
    rows = {}
    for source in ("traceback", "compiler", "linter"):
        run = make_run(tmp_path / source, {"source": source})
        commit_samples(run, tmp_path)
        rows[source] = executed(run, tmp_path)
    plain, compiled, linted = rows.values()
    assert verdicts(plain) == verdicts(compiled) == verdicts(linted)
    passed, wrong, undefined, again, broken = (row.feedback for row in linted)
    assert (passed, again) == ("", wrong)
    assert wrong == f"<string>:6:5: local variable 'y' is assigned to but never used\n{plain[1].feedback}"
    assert undefined.startswith("<string>:6:12: undefined name 'z'\nTraceback") and broken == plain[4].feedback
    assert [row.feedback for row in compiled] == [row.feedback for row in plain]
    facts = record(run, "executions").facts
    assert (facts["commented"], facts["uncommented"]) == (3, 1)


@pytest.mark.slow
def test_alone_a_text_replaces_the_traceback_and_silence_does_not(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"source": "linter", "keep_traceback": False}, feedback_chars=200)
    commit_samples(run, tmp_path)
    rows = executed(run, tmp_path)
    assert rows[2].feedback == "<string>:6:12: undefined name 'z'\n"
    assert "SyntaxError" in rows[4].feedback


@pytest.mark.slow
def test_successes_are_commented_where_the_spec_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"source": "linter", "successes": True})
    odd = "\ndef f(x):\n    import os\n    return x + 1\n"
    commit_samples(run, tmp_path, [PASSES, odd, UNDEFINED])
    rows = executed(run, tmp_path)
    assert [row.outcome for row in rows] == ["passed", "passed", "failed"]
    assert [row.feedback for row in rows[:2]] == ["", "<string>:6:5: 'os' imported but unused\n"]
    assert record(run, "executions").facts["uncommented"] == 1


@pytest.mark.slow
def test_held_out_passes_keep_their_tracebacks(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"source": "linter", "keep_traceback": False})
    commit_samples(run, tmp_path, split="test")
    rows = executed(run, tmp_path, "test")
    assert rows[2].feedback.startswith("Traceback")


def test_a_module_must_be_one_kind_of_source() -> None:
    from stages.execute.feedback.source import load_source

    assert load_source("linter").read and load_source("notes").comment
    with pytest.raises(SpecError, match="either `read` or `comment`"):
        load_source("source")
