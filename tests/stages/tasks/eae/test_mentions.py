"""The corpora as mentions and prompts: mark-up, Code4Struct's rows, class definitions that run."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from stages.contract.cuts import cut
from stages.contract.errors import UsageError
from stages.contract.spec import Split, TaskSpec
from stages.tasks import load_problems
from stages.tasks.eae import headed, ontology
from stages.tasks.eae.mentions import Marked, Mention, read_code4struct, read_corpus, unmarked

ROOT = Path(__file__).parents[4]
GOLDEN = ROOT / "tests" / "golden" / "prompt-eae.txt"
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def mention(sentence: str, event_type: str = "Conflict:Attack") -> Mention:
    return Marked(event_type=event_type, sentence=sentence).to_mention(1)


def test_mark_up_gives_tokens_trigger_and_arguments() -> None:
    found = mention("Late , [the gunmen|Attacker PER] *opened fire* on [a bus|Target VEH] .")
    assert " ".join(found.tokens) == "Late , the gunmen opened fire on a bus ."
    assert found.trigger == (4, 6)
    assert [(one.role, one.entity_type, one.span) for one in found.arguments] == [
        ("Attacker", "PER", (2, 4)),
        ("Target", "VEH", (7, 9)),
    ]
    assert '"Late , the gunmen **opened fire** on a bus ."' in found.prompt


@pytest.mark.parametrize("sentence", ["Nothing is marked .", "*Two* words are *marked* ."])
def test_a_sentence_has_one_trigger(sentence: str) -> None:
    with pytest.raises(ValueError, match="one \\*trigger\\*"):
        mention(sentence)


def test_the_prompt_matches_the_golden_file_to_the_last_character() -> None:
    found = mention("[Police|Agent ORG] *jailed* [the spy|Person PER] in [Karsa|Place GPE] .", "Justice:Arrest-Jail")
    assert f"{found.prompt}|\n{found.reference}" == GOLDEN.read_text()


@pytest.mark.parametrize("event_type", sorted(ontology.load().events))
def test_the_classes_of_every_event_run_and_carry_what_they_are_given(event_type: str) -> None:
    space: dict[str, Any] = {}
    classes = ontology.load().classes(event_type)
    exec(classes, space)
    parent, child = ontology.class_names(event_type)
    own = ontology.load().events[event_type].roles
    event = space[child](**{role.lower(): [role] for role in own})
    assert isinstance(event, space[parent]) and isinstance(event, space["Event"])
    attributes = ontology.load().attributes(event_type)
    assert tuple(vars(event)) == attributes
    given = {role.lower() for role in own}
    assert {name for name in attributes if getattr(event, name)} == given
    assert all(f"self.{name}" in (space[child].__doc__ or "") for name in given)
    for node in ast.walk(ast.parse(classes)):
        if isinstance(node, ast.arg) and node.annotation is not None:
            eval(ast.unparse(node.annotation), space)


def test_the_header_leaves_line_numbers_as_the_model_sees_them() -> None:
    for prompt in ("from typing import List\nx = 1\n", "\nfrom typing import List\nx = 1\n"):
        program = headed(prompt)
        compile(program, "<string>", "exec")
        assert program.count("\n") == prompt.count("\n")
    assert headed("class A:\n    pass\n").endswith("\nclass A:\n    pass\n")


@pytest.mark.parametrize("split", SPLITS)
def test_our_corpus_keeps_to_its_ontology(split: Split) -> None:
    known = ontology.load()
    mentions = read_corpus(split)
    assert {one.event_type for one in mentions} == known.events.keys()
    for one in mentions:
        assert one.arguments, one
        for argument in one.arguments:
            assert argument.role in known.events[one.event_type].roles, one
            assert argument.entity_type in known.roles[argument.role], (argument, one)
        assert cut("event", one.reference) == one.reference, "the rule for event arguments would cut it"


def test_our_splits_share_no_sentence() -> None:
    sentences = [one.tokens for split in SPLITS for one in read_corpus(split)]
    assert len(sentences) == len(set(sentences)) == 63 + 9 + 31


# Code4Struct's rows


def row_of(found: Mention, **changes: Any) -> dict[str, Any]:
    """A line as Code4Struct's scripts write it, of one of our mentions."""
    parent, child = ontology.class_names(found.event_type)
    start, end = found.trigger
    marked = list(found.tokens)
    marked[start], marked[end - 1] = f"**{marked[start]}", marked[end - 1] + "**"
    if end - start == 1:
        marked[start] = f"**{found.tokens[start]}**"
    entities = [
        {"id": f"E{number}", "start": one.span[0], "end": one.span[1], "entity_type": one.entity_type, "text": ""}
        for number, one in enumerate(found.arguments)
    ]
    fillers = [{"entity_id": f"E{number}", "role": one.role, "text": ""} for number, one in enumerate(found.arguments)]
    trigger = {"start": start, "end": end, "text": " ".join(found.tokens[start:end])}
    event = {"id": "EV", "event_type": found.event_type, "trigger": trigger, "arguments": fillers}
    line = ontology.instantiation(found.event_type)
    return {
        "line_idx": 3, "event_idx": 0, "doc_id": "D", "sent_id": "D-3", "sentence": " ".join(marked),
        "parent_cls_name": parent, "cur_cls_name": child, "code_context": ontology.load().classes(found.event_type),
        "text_prompt": "", "instantiation_prompt": line, "full_prompt": found.prompt,
        "gt_instance_code": line + found.reference, "event_mentions": [event], "entity_mentions": entities, **changes,
    }  # fmt: skip


def write(folder: Path, *rows: dict[str, Any], name: str = "eae-v6.4-test.jsonl") -> TaskSpec:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return TaskSpec(name="eae", source=str(folder))


def test_a_row_of_code4struct_is_the_mention_it_was_made_of(tmp_path: Path) -> None:
    ours = read_corpus("test")
    write(tmp_path, *(row_of(one, line_idx=int(one.number)) for one in ours))
    theirs = read_code4struct(tmp_path, "test")
    assert [one._replace(number="") for one in theirs] == [one._replace(number="") for one in ours]
    problem = load_problems(TaskSpec(name="eae", source=str(tmp_path)), "test")[0]
    assert problem.problem_id == "eae/test/1-0"
    assert problem.model_copy(update={"problem_id": ""}) == load_problems(TaskSpec(name="eae"), "test")[0].model_copy(
        update={"problem_id": ""}
    )


def test_the_second_event_of_a_sentence_is_a_mention_of_its_own(tmp_path: Path) -> None:
    first = row_of(mention("[Gunmen|Attacker PER] *shot* at [a bus|Target VEH] ."))
    second = {**first["event_mentions"][0], "trigger": {"start": 3, "end": 4}, "arguments": []}
    write(tmp_path, {**first, "event_idx": 1, "event_mentions": [*first["event_mentions"], second]})
    (found,) = read_code4struct(tmp_path, "test")
    assert (found.number, found.trigger, found.arguments) == ("3-1", (3, 4), ())


def test_asterisks_go_from_triggers_of_several_words_and_stay_elsewhere() -> None:
    assert unmarked(["he", "**set", "off**", "**", "on", "**foot"], (1, 3)) == (
        "he",
        "set",
        "off",
        "**",
        "on",
        "**foot",
    )
    assert unmarked(["**ran**"], (0, 1)) == ("ran",)


E0 = {"id": "E0", "entity_type": "PER"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"event_idx": 2}, "line 1: event_idx: the row has 1 event_mentions, got 2"),
        ({"entity_mentions": []}, "line 1: entity_mentions: no entity has the id 'E0'"),
        ({"parent_cls_name": "Life"}, "line 1: code_context: defines no class 'Life'"),
        ({"code_context": "class ("}, "line 1: invalid syntax"),
        ({"full_prompt": None}, "line 1: full_prompt"),
        ({"sentence": ""}, "line 1: sentence: has 0 tokens, and trigger is 1 to 2 of them"),
        ({"entity_mentions": [E0 | {"start": 5, "end": 7}]}, "sentence: has 6 tokens, and E0 is 5 to 7 of them"),
        ({"entity_mentions": [E0 | {"start": 1, "end": 1}]}, "sentence: has 6 tokens, and E0 is 1 to 1 of them"),
        ({"cur_cls_name": "Attack); print(1"}, "line 1: cur_cls_name"),
        ({"code_context": "-" * 100_000 + "1"}, "line 1: "),
        ({"code_context": "\0"}, "line 1: source code string cannot contain null bytes"),
    ],
)
def test_a_broken_row_is_one_line_with_file_and_column(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    found = mention("[Gunmen|Attacker PER] *shot* at a bus .")
    spec = write(tmp_path, row_of(found, **changes))
    with pytest.raises(UsageError) as caught:
        load_problems(spec, "test")
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_mention_that_stands_twice_is_refused(tmp_path: Path) -> None:
    row = row_of(mention("[Gunmen|Attacker PER] *shot* at [a bus|Target VEH] ."))
    with pytest.raises(UsageError, match=r"line 2: line_idx: 3-0 .* stands twice"):
        load_problems(write(tmp_path, row, row), "test")


def test_a_folder_has_one_file_of_the_split(tmp_path: Path) -> None:
    spec = write(tmp_path, name="eae-v6.4-test.jsonl")
    write(tmp_path, name="test.jsonl")
    with pytest.raises(UsageError, match=r"has 2 files \*test\.jsonl"):
        load_problems(spec, "test")
    with pytest.raises(UsageError, match=r"has 0 files \*train\.jsonl"):
        load_problems(spec, "train")
    with pytest.raises(UsageError, match=r"has 0 files \*dev\.jsonl"):
        load_problems(spec, "validation")
