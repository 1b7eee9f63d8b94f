"""The run spec: every field documented and checked, every conflict explained, the digest what it should be."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from stages.contract.records import first_fault
from stages.contract.spec import RunSpec, is_compatible, strip_compatible, task_names

GOLDEN = Path(__file__).parents[2] / "golden/spec-defaults.json"
# Another valid value for fields whose type alone does not tell one.
OTHER: dict[str, Any] = {
    "model.from_iteration": 3,
    "model.tokens.bad": "<|worse|>",
    "model.tokens.good": "<|better|>",
    "model.tokens.feedback_open": "<|lang_feedback|>",
    "model.tokens.feedback_close": "<|/lang_feedback|>",
    "task.tolerance": 0.001,
    "task.train_problems": 8,
    "task.validation_problems": 8,
    "task.test_problems": 8,
    "pretraining.max_blocks": 8,
    "train.pretraining_batch_size": 8,
    "generate.top_p": 0.9,
    "evaluate.top_p": 0.9,
    "evaluate.temperatures": [0.2, 0.6],
    "evaluate.splits": ["test", "validation"],
    "evaluate.select_on": "test",
    "evaluate.k": [1],
    "train.betas": [0.9, 0.95],
    "train.gradient_clip": 1.0,
    "stop.max_gpu_hours": 100.0,
    "stop.patience": 3,
    "stop.min_improvement": 0.01,
}
ONE_VALUE_ONLY = {"train.engine"}
BOTH_OR_NEITHER = {"generate.engine", "generate.script"}
# What a change of the field needs beside it for the spec to stay possible.
WITH: dict[str, dict[str, Any]] = {
    "task.postprocess": {"build.solution_ids": "retokenized"},
    "build.pack_length": {"train.micro_batch_tokens": 32_768},
    "build.max_length": {"build.pack_length": 4096},
    "model.from_iteration": {"model.from_run": "first"},
    "generate.solutions": {"generate.samples_per_problem": 1, "generate.reward_token": "none"},
    "task.hint": {"task.postprocess": "first_block", "build.solution_ids": "retokenized"},
    "task.execute_original": {
        "task.postprocess": "first_block",
        "task.hint": True,
        "build.solution_ids": "retokenized",
    },
    "feedback.keep_traceback": {"feedback.source": "linter"},
    "feedback.successes": {"feedback.source": "linter"},
    "feedback.notes": {"feedback.source": "notes", "feedback.notes": "n.jsonl"},
    "feedback.missing": {"feedback.source": "notes", "feedback.notes": "n.jsonl"},
}
CONFLICTS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"evaluate.k": [1, 17]}, ("evaluate.k", "17", "evaluate.samples_per_problem is 16", "raise it or drop that k")),
    ({"model.from_iteration": 3}, ("model.from_iteration", "3", "model.from_run")),
    (
        {"generate.solutions": "reference"},
        ("generate.samples_per_problem", "128", "each problem has one", "set 1"),
    ),
    (
        {"generate.solutions": "reference", "generate.samples_per_problem": 1},
        ("generate.reward_token", "'good'", "set none"),
    ),
    ({"task.hint": True}, ("task.hint", "'none'", "set it to false")),
    ({"task.execute_original": True}, ("task.execute_original", "hint is false", "postprocess to none")),
    ({"model.from_run": "a/b"}, ("model.from_run", "'a/b'", "leti-ctl runs")),
    ({"task.source": "a\0b"}, ("task.source", r"'a\x00b'", "null character", "take it out")),
    ({"build.parts": 100_000}, ("build.parts", "100000", "at most 99999", "set fewer")),
    ({"generate.script": "\0"}, ("generate.script", "null character", "take it out")),
    ({"evaluate.k": []}, ("evaluate.k", "empty", "name at least one")),
    (
        {"evaluate.splits": ["test"], "evaluate.select_on": "validation"},
        ("evaluate.select_on", "'validation'", "add it to evaluate.splits"),
    ),
    ({"task.name": "humaneval"}, ("iterations", "12", "humaneval has no training split", "set 0")),
    (
        {"task.name": "bbh", "iterations": 0, "evaluate.splits": ["validation", "test"]},
        ("evaluate.splits", "bbh has no validation split, only test", "leave it out"),
    ),
    (
        {"evaluate.splits": ["validation", "validation"]},
        ("evaluate.splits", "validation, validation", "name each once"),
    ),
    ({"evaluate.splits": []}, ("evaluate.splits", "empty", "name validation, test or both")),
    ({"evaluate.temperatures": []}, ("evaluate.temperatures", "empty", "set it to null")),
    ({"evaluate.temperatures": [0.2, 0.2]}, ("evaluate.temperatures", "0.2", "each temperature once")),
    ({"evaluate.temperatures": [0.2, 0.2000000001]}, ("evaluate.temperatures", "0.2", "each temperature once")),
    ({"build.pack_length": 1024}, ("build.pack_length", "1024", "raise it or lower max_length")),
    ({"train.micro_batch_tokens": 2047}, ("train.micro_batch_tokens", "2047", "raise it or lower pack_length")),
    (
        {"pretraining.block_length": 32_768},
        ("train.micro_batch_tokens", "pretraining.block_length 32768", "raise it or shorten the blocks"),
    ),
    (
        {"train.parameters": "bfloat16", "train.zero_stage": 1},
        ("train.parameters", "bfloat16", "set train.zero_stage to 0"),
    ),
    (
        {"train.engine": "torch", "train.zero_stage": 2},
        ("train.zero_stage", "2 is DeepSpeed's", "set zero_stage to 0 or the engine to deepspeed"),
    ),
    ({"generate.engine": "scripted"}, ("generate.script", "'scripted'", "set both or neither")),
    ({"generate.script": "s.jsonl"}, ("generate.script", "'s.jsonl'", "set both or neither")),
    ({"feedback.source": "notes"}, ("feedback.notes", "'notes'", "set both or neither")),
    ({"feedback.notes": "n.jsonl"}, ("feedback.notes", "'n.jsonl'", "set both or neither")),
    ({"feedback.keep_traceback": False}, ("feedback.keep_traceback", "leaves nothing", "name another source")),
    ({"feedback.successes": True}, ("feedback.successes", "'traceback'", "name another source")),
    ({"feedback.missing": "stop"}, ("feedback.missing", "'traceback'", "the source to notes")),
    ({"task.postprocess": "first_block"}, ("build.solution_ids", "'first_block'", "set build.solution_ids")),
    (
        {"evaluate.length_mode": "total", "evaluate.max_new_tokens": 128},
        ("evaluate.max_new_tokens", "128", "set more than 128 or use length_mode new_tokens"),
    ),
    (
        {"generate.length_mode": "total", "generate.max_new_tokens": 100},
        ("generate.max_new_tokens", "100", "set more than 128 or use length_mode new_tokens"),
    ),
    (
        {"model.tokens.bad": "<|good|>"},
        ("model.tokens", "must differ", "<|good|>"),
    ),
]


def fields(section: BaseModel, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted path, field, value) of every leaf."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from fields(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", field, value


LEAVES = {path: (field, value) for path, field, value in fields(RunSpec())}


def make(changes: dict[str, Any]) -> RunSpec:
    """Return the default spec with dotted fields replaced."""
    data = RunSpec().model_dump(mode="json")
    for path, value in changes.items():
        *sections, name = path.split(".")
        section = data
        for one in sections:
            section = section[one]
        section[name] = value
    return RunSpec.model_validate_json(json.dumps(data))


def other(path: str) -> Any:
    """Return a valid value that is not the field's default."""
    field, value = LEAVES[path]
    if path in OTHER:
        return OTHER[path]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2
    choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str) and choice != value]
    return choices[0] if choices else "another"


def refusal(changes: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        make(changes)
    return first_fault(caught.value)


def test_the_defaults_are_possible_and_survive_json() -> None:
    spec = RunSpec()
    assert RunSpec.model_validate_json(spec.to_json()) == spec
    assert spec.to_json().endswith("}\n")


@pytest.mark.parametrize("path", LEAVES)
def test_every_field_says_what_it_is(path: str) -> None:
    assert LEAVES[path][0].description


def test_every_section_says_what_it_is() -> None:
    for name, field in RunSpec.model_fields.items():
        assert field.description, name


@pytest.mark.parametrize("path", sorted(LEAVES.keys() - ONE_VALUE_ONLY - BOTH_OR_NEITHER))
def test_every_field_survives_json_and_counts_in_the_digest_unless_compatible(path: str) -> None:
    alone = make(WITH.get(path, {}))
    changed = make({**WITH.get(path, {}), path: other(path)})
    assert changed != alone
    assert RunSpec.model_validate_json(changed.to_json()) == changed
    assert (changed.digest() == alone.digest()) == is_compatible(LEAVES[path][0])


def test_the_script_counts_in_the_digest() -> None:
    specs = [make({"generate.engine": "scripted", "generate.script": name}) for name in ("a.jsonl", "b.jsonl")]
    assert len({spec.digest() for spec in (*specs, RunSpec())}) == 3


def test_the_compatible_fields_are_those_that_change_no_row() -> None:
    compatible = {path for path, (field, _) in LEAVES.items() if is_compatible(field)}
    stop = {"stop.max_gpu_hours", "stop.patience", "stop.min_improvement"}
    assert compatible == {"iterations", "execute.workers", *stop}


def test_the_digest_of_the_defaults_stays_what_it_was() -> None:
    """A change here means that runs made before cannot be resumed: say so in the changelog."""
    golden = GOLDEN.read_text()
    assert json.loads(json.dumps(strip_compatible(RunSpec()))) == json.loads(golden)
    assert RunSpec().digest() == hashlib.sha256(golden.encode()).hexdigest()


def test_a_whole_number_is_the_same_number_as_its_float() -> None:
    assert make({"generate.temperature": 1}).digest() == make({"generate.temperature": 1.0}).digest()


@pytest.mark.parametrize(("changes", "parts"), CONFLICTS, ids=[", ".join(c) for c, _ in CONFLICTS])
def test_a_conflict_names_the_field_the_value_and_the_remedy(changes: dict[str, Any], parts: tuple[str, ...]) -> None:
    message = refusal(changes)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize("path", LEAVES)
def test_a_wrong_type_names_the_field_and_the_value(path: str) -> None:
    message = refusal({path: {"not": "this"}})
    assert message.startswith(path)
    assert "'not'" in message


@pytest.mark.parametrize("section", ["", "model.", "model.tokens.", "task.", "generate.", "train.", "evaluate."])
def test_an_unknown_key_is_refused_by_name(section: str) -> None:
    assert refusal({f"{section}tempperature": 1}).startswith(f"{section}tempperature: Extra inputs are not permitted")


@pytest.mark.parametrize("text", ["1", "true", '"1"', "1.5"])
def test_nothing_is_converted_silently(text: str) -> None:
    data = f'{{"generate": {{"script": {text}}}, "iterations": {text}, "build": {{"append_eos": {text}}}}}'
    with pytest.raises(ValidationError) as caught:
        RunSpec.model_validate_json(data)
    assert len(caught.value.errors()) >= 2


@pytest.mark.parametrize("path", [path for path, (_, value) in LEAVES.items() if isinstance(value, float)])
@pytest.mark.parametrize("value", [math.inf, math.nan, -1.0])
def test_a_number_is_finite_and_not_negative(path: str, value: float) -> None:
    assert refusal({path: value}).startswith(path)


@pytest.mark.parametrize("betas", [[1.0, 0.999], [0.9, -0.1], [0.9], [math.nan, 0.9]])
def test_betas_are_two_decay_rates(betas: list[float]) -> None:
    assert refusal({"train.betas": betas}).startswith("train.betas")


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RunSpec().seed = 1  # type: ignore[misc]


def test_one_pass_per_split_and_temperature_training_first() -> None:
    spec = make({"evaluate.temperatures": [0.2, 0.6], "evaluate.splits": ["validation", "test"], "evaluate.parts": 3})
    names = ["train", "validation-t0.2", "validation-t0.6", "test-t0.2", "test-t0.6"]
    assert [one.name for one in spec.passes()] == names
    assert [one.parts for one in spec.passes()] == [1, 3, 3, 3, 3]
    assert spec.get_pass("test-t0.6").sampling.temperature == 0.6
    assert spec.get_pass("test-t0.6").split == "test"
    assert [one.name for one in RunSpec().passes()] == ["train", "validation", "test"]
    with pytest.raises(KeyError):
        RunSpec().get_pass("test-t0.2")


@pytest.mark.parametrize(
    ("changes", "splits", "select_on"),
    [
        ({}, ("validation", "test"), "validation"),
        ({"evaluate": {"splits": ["test"]}}, ("test",), "test"),
        ({"evaluate": {"select_on": "test"}}, ("validation", "test"), "test"),
        ({"task": {"name": "humaneval"}, "iterations": 0}, ("test",), "test"),
    ],
)
def test_models_are_selected_on_validation_where_a_task_has_it(
    changes: dict[str, Any], splits: tuple[str, ...], select_on: str
) -> None:
    spec = RunSpec.model_validate_json(json.dumps(changes))
    assert (spec.evaluate.splits, spec.evaluate.select_on) == (splits, select_on)
    assert RunSpec.model_validate_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("objective", "samples", "pretraining"),
    [("alternate", True, True), ("sum", True, True), ("fcft", True, False), ("pretraining", False, True)],
)
def test_the_objective_decides_what_training_reads(objective: str, samples: bool, pretraining: bool) -> None:
    spec = make({"train.objective": objective})
    assert (spec.uses_samples(), spec.uses_pretraining()) == (samples, pretraining)


def test_without_pretraining_its_blocks_need_not_fit() -> None:
    make({"train.objective": "fcft", "pretraining.block_length": 32_768})


def test_the_tasks_are_listed() -> None:
    assert "basics" in task_names()
