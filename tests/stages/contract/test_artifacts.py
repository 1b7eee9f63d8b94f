"""Keys, parts and the stage table."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stages.contract.artifacts import ARTIFACTS, DataObject, Part, Ref, objects_digest, parse_part
from stages.contract.errors import UsageError
from stages.contract.flow import STAGES, outputs
from stages.contract.records import first_fault
from stages.contract.spec import RunSpec


@given(st.integers(1, 400), st.data())
def test_parse_part_inverts_its_spelling(of: int, data: st.DataObject) -> None:
    part = Part(data.draw(st.integers(0, of - 1)), of)
    assert parse_part(str(part)) == part


@pytest.mark.parametrize(
    "text", ["", "0", "1/1", "2/1", "-1/2", "0/0", "0/-1", "a/b", "0/1/2", "0.0/1", " 0/1", "0/100001"]
)
def test_a_part_that_is_none_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(UsageError, match=r"write K/N with K from 0 to N-1") as caught:
        parse_part(text)
    assert repr(text) in str(caught.value)


@given(st.integers(0, 1000), st.integers(1, 50))
def test_slices_partition_the_items_evenly_and_in_order(count: int, of: int) -> None:
    slices = [Part(number, of).slice(count) for number in range(of)]
    assert [item for share in slices for item in share] == list(range(count))
    assert max(map(len, slices)) - min(map(len, slices)) <= 1


@pytest.mark.parametrize(
    ("ref", "prefix"),
    [
        (Ref("pretraining"), "pretraining"),
        (Ref("problems", split="train"), "problems/train"),
        (Ref("checkpoint", 0), "iterations/0000/checkpoint"),
        (Ref("samples", 12, "test-t0.2"), "iterations/0012/samples/test-t0.2"),
    ],
)
def test_a_key_spells_the_coordinates(ref: Ref, prefix: str) -> None:
    assert ref.prefix == str(ref) == prefix


def test_part_keys_sort_as_their_numbers() -> None:
    stems = [Part(number, 1200).stem for number in range(1200)]
    assert sorted(stems) == stems


def test_no_two_artifacts_share_a_key() -> None:
    spec = RunSpec.model_validate_json(json.dumps({"evaluate": {"splits": ["validation", "test"]}}))
    refs = [
        ref
        for stage in STAGES
        for iteration in range(3)
        for one in spec.passes()
        for ref in outputs(stage, spec, iteration=iteration, split=one.name)
    ]
    by_prefix = {ref.prefix: ref for ref in refs}
    assert len(by_prefix) == len(set(refs))
    assert not [(a, b) for a in by_prefix for b in by_prefix if a != b and b.startswith(a + "/")]


def test_stages_read_and_write_artifacts_of_the_table() -> None:
    for contract in STAGES.values():
        assert {*contract.inputs, *contract.outputs} <= ARTIFACTS.keys()


def test_outputs_are_what_the_stage_table_promises() -> None:
    spec = RunSpec.model_validate_json('{"feedback": {"source": "notes", "notes": "n.jsonl"}}')
    for stage, contract in STAGES.items():
        refs = outputs(stage, spec, iteration=3, split="train")
        assert {ref.artifact for ref in refs} == set(contract.outputs)
        for ref in refs:
            coordinates = ARTIFACTS[ref.artifact].coordinates
            assert (ref.iteration is not None, ref.split is not None) == (
                "iteration" in coordinates,
                "split" in coordinates,
            )


def test_notes_are_written_where_the_spec_takes_some_and_before_the_executions() -> None:
    spec = RunSpec.model_validate_json('{"feedback": {"source": "notes", "notes": "n.jsonl"}}')
    executions = Ref("executions", 3, "train")
    assert outputs("execute", spec, iteration=3, split="train") == (Ref("notes", 3, "train"), executions)
    assert outputs("execute", RunSpec(), iteration=3, split="train") == (executions,)
    assert outputs("execute", spec, iteration=3, split="test") == (Ref("executions", 3, "test"),)


def test_training_writes_the_next_iterations_model_last() -> None:
    assert outputs("train", RunSpec(), iteration=3, split="train") == (
        Ref("steps", 3),
        Ref("optimizer", 4),
        Ref("checkpoint", 4),
    )


def test_the_stream_and_the_optimizer_are_written_only_where_the_spec_has_them() -> None:
    spec = RunSpec.model_validate_json('{"train": {"objective": "fcft", "keep_optimizer": false}}')
    assert Ref("pretraining") not in outputs("prepare", spec, iteration=0, split="train")
    assert outputs("train", spec, iteration=0, split="train") == (Ref("steps", 0), Ref("checkpoint", 1))


def objects(*keys: str) -> tuple[DataObject, ...]:
    return tuple(DataObject(key=key, sha256=f"{number:064x}", size=1) for number, key in enumerate(keys))


def test_the_digest_of_objects_depends_on_names_digests_and_order() -> None:
    one, two = objects("a", "b")
    variants = {(one, two), (two, one), (one,), objects("a", "c"), ()}
    assert len({objects_digest(items) for items in variants}) == len(variants)


@pytest.mark.parametrize("key", ["../secret", "a/../../b", "/etc/passwd", "a//b", "", "./a", "a/", "a\0b"])
def test_an_object_cannot_lie_outside_its_run(key: str) -> None:
    with pytest.raises(ValidationError) as caught:
        objects(key)
    assert first_fault(caught.value).startswith("key: ")
    assert repr(key) in first_fault(caught.value)
