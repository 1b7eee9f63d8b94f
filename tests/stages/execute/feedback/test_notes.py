"""Notes: how they are matched, that executions pin what they took, and how a run waits for them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from leti_ctl.cli import cli
from stages.contract.artifacts import Part, Ref
from stages.contract.errors import UsageError
from stages.contract.notes import read_notes, solution_digest, waiting_key
from stages.contract.records import Note, Sample
from stages.contract.run import Run
from tests.stages.execute.feedback.parts import (
    BROKEN,
    FAILS,
    UNDEFINED,
    commit_samples,
    executed,
    make_run,
    record,
)

HUMAN = "x is returned as it came; add one to it. <|good|> <|/text_feedback|>\x1b[2J"


def line(text: str, **named: object) -> dict[str, object]:
    return {"problem_id": "p", **named, "text": text}


def write(path: Path, *lines: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return path


def make_sample(solution: str, number: int = 0) -> Sample:
    return Sample(
        problem_id="p", sample=number, reward_token="none", solution=solution, token_ids=(), finish_reason="eos",
        num_prompt_tokens=1, seed=1,
    )  # fmt: skip


def leti_ctl_notes(run: Run, *options: str) -> list[dict[str, object]]:
    line = ["notes", run.name, "--store", run.store.uri, "--iteration", "0", *options]
    done = CliRunner().invoke(cli, line, standalone_mode=False, catch_exceptions=False)
    assert done.exit_code == 0
    return [json.loads(each) for each in done.stdout.splitlines()]


def test_a_note_is_found_by_its_solution_and_before_that_by_its_sample(tmp_path: Path) -> None:
    notes = read_notes(
        str(
            write(
                tmp_path / "n.jsonl",
                line("any", solution_sha256=solution_digest(FAILS)),
                line("", solution_sha256=solution_digest(BROKEN)),
                line("first", iteration=3, sample=2),
                line("later", iteration=3, sample=2, author="me"),
            )
        )
    )
    assert notes.find(make_sample(FAILS), 0) == notes.find(make_sample(FAILS, 1), 3) == "any"
    assert notes.find(make_sample(FAILS, 2), 3) == "later"
    assert notes.find(make_sample(BROKEN), 3) == notes.find(make_sample(UNDEFINED), 3) == ""


def test_a_file_that_is_not_there_yet_holds_no_notes(tmp_path: Path) -> None:
    assert read_notes(str(tmp_path / "later.jsonl")).by_solution == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"problem_id": "p", "text": "x"}', ("line 1", "solution_sha256, or iteration and sample")),
        ('\n{"problem_id": "p", "iteration": 1, "text": "x"}', ("line 2", "names no solution")),
        ('{"problem_id": 3, "solution_sha256": "0", "text": "x"}', ("line 1", "problem_id", "3")),
        ("not json", ("line 1", "correct the line")),
    ],
)
def test_a_line_that_is_no_note_is_named(text: str, words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "n.jsonl").write_text(text)
    with pytest.raises(UsageError) as caught:
        read_notes(str(tmp_path / "n.jsonl"))
    assert all(word in str(caught.value) for word in ("n.jsonl", *words))


def test_notes_may_lie_in_an_object_store(s3_uri: str, tmp_path: Path) -> None:
    from stages.contract.store import open_store

    open_store(s3_uri).upload("notes.jsonl", write(tmp_path / "n", line("far", solution_sha256=solution_digest(FAILS))))
    base, _, options = s3_uri.partition("?")
    assert read_notes(f"{base}/notes.jsonl?{options}").find(make_sample(FAILS), 0) == "far"
    assert read_notes(f"{base}/none.jsonl?{options}").by_solution == {}


@given(st.text(st.characters(codec=None)))
def test_every_solution_has_a_digest(solution: str) -> None:
    assert len(solution_digest(solution)) == 64


@pytest.mark.slow
def test_executions_take_notes_and_pin_what_they_took(tmp_path: Path) -> None:
    file = write(
        tmp_path / "n.jsonl", line(HUMAN, solution_sha256=solution_digest(FAILS)), line("!", iteration=0, sample=0)
    )
    run = make_run(tmp_path, {"source": "notes", "notes": str(file)})
    commit_samples(run, tmp_path)
    rows = executed(run, tmp_path)
    assert rows[0].feedback == "" and rows[1].feedback == rows[3].feedback
    assert rows[1].feedback.startswith(HUMAN.replace("\x1b", "\\x1b") + "\nTraceback")
    assert rows[2].feedback.startswith("Traceback")
    pinned = list(run.read(Ref("notes", 0, "train"), Note))
    assert [(each.sample, each.text) for each in pinned] == [(1, HUMAN), (3, HUMAN)]
    facts = record(run, "notes").facts
    assert facts["source_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest() and facts["missing"] == 2
    told = {each.ref: each.sha256 for each in record(run, "executions").inputs}
    assert told["iterations/0000/notes/train#0/1"] == record(run, "notes").digest()
    (counted,) = [record(run, "executions").facts]
    assert (counted["commented"], counted["uncommented"]) == (2, 2)


@pytest.mark.slow
def test_a_part_that_was_killed_gives_the_same_rows_though_the_file_has_changed(tmp_path: Path) -> None:
    file = write(tmp_path / "n.jsonl", line("before", solution_sha256=solution_digest(FAILS)))
    run = make_run(tmp_path, {"source": "notes", "notes": str(file)})
    commit_samples(run, tmp_path)
    first = executed(run, tmp_path)
    for key in list(run.store.list(run.key("iterations/0000/executions/"))):
        run.store.delete(key)
    write(file, line("after", solution_sha256=solution_digest(FAILS)))
    assert executed(run, tmp_path) == first


@pytest.mark.slow
def test_a_run_waits_for_notes_until_they_are_written(tmp_path: Path) -> None:
    file = tmp_path / "notes.jsonl"
    run = make_run(tmp_path, {"source": "notes", "notes": str(file), "missing": "stop", "keep_traceback": False})
    commit_samples(run, tmp_path)
    with pytest.raises(UsageError, match="4 of 4 failures of iteration 0") as caught:
        executed(run, tmp_path)
    assert "leti-ctl notes r --iteration 0 --missing" in str(caught.value)
    assert run.find_part(Ref("notes", 0, "train"), Part()) is None
    assert len(list(run.store.list(run.key(waiting_key(0, "train", Part()))))) == 1

    todo = leti_ctl_notes(run, "--missing")
    assert [(each["solution"], each["samples"]) for each in todo] == [(FAILS, [1, 3]), (UNDEFINED, [2]), (BROKEN, [4])]
    assert all(str(each["prompt"]).startswith('"""') and each["outcome"] == "failed" for each in todo)
    assert "NameError" in str(todo[1]["feedback"])
    write(file, *({**each, "text": f"note on {each['samples']}"} for each in todo[:2]))
    assert [each["solution"] for each in leti_ctl_notes(run, "--missing")] == [BROKEN]
    with pytest.raises(UsageError, match="1 of 4"):
        executed(run, tmp_path)
    write(file, *({**each, "text": f"note on {each['samples']}"} for each in todo))
    rows = executed(run, tmp_path)
    assert [row.feedback for row in rows] == [
        "", "note on [1, 3]\n", "note on [2]\n", "note on [1, 3]\n", "note on [4]\n",
    ]  # fmt: skip
    assert leti_ctl_notes(run, "--missing") == [] and len(leti_ctl_notes(run)) == 3


@pytest.mark.slow
def test_any_run_tells_what_notes_could_be_written_on(tmp_path: Path) -> None:
    run = make_run(tmp_path, {})
    commit_samples(run, tmp_path)
    with pytest.raises(UsageError, match="no complete executions"):
        leti_ctl_notes(run)
    executed(run, tmp_path)
    file = write(tmp_path / "n.jsonl", line("one", iteration=0, sample=4))
    told = leti_ctl_notes(run, "--notes", str(file))
    assert [each["text"] for each in told] == ["", "", "one"]
    assert len(leti_ctl_notes(run, "--notes", str(file), "--missing")) == 2
