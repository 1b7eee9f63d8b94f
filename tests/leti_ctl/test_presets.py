"""The presets that come with leti: families of them, and what sets one apart from another."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from click.testing import CliRunner

from leti_ctl import layers, presets
from leti_ctl.commands.presets import presets as command
from leti_ctl.config import specs
from leti_ctl.presets import family
from stages.build.stage import schedule
from stages.contract.errors import LetiError, SpecError, UsageError
from stages.contract.spec import RunSpec

FAMILY = """
name: leti-{size}-{n}
about: fewer samples
summary: "{size}, {n} samples"
extends: leti-{size}
axes:
  size: {350m: {say: small}, 2b: {say: large}}
  n: {n4: {say: "4", set: {generate: {samples_per_problem: 4}}}, n8: {say: "8", set: {seed: 8}}}
set: {generate: {samples_per_problem: 8, top_k: 3}}
"""


def load(name: str) -> RunSpec:
    return specs.load_spec(preset=name, file=None, overrides=(), iterations=None)


def value_of(spec: Any, path: str) -> Any:
    for name in path.split("."):
        spec = getattr(spec, name)
    return spec


def differences(first: RunSpec, second: RunSpec) -> dict[str, Any]:
    """Dotted fields in which two specs differ, with the second's values."""
    known = [path for path, _, _ in specs.fields()]
    return {path: value_of(second, path) for path in known if value_of(first, path) != value_of(second, path)}


def test_a_family_is_every_choice_of_a_point_per_axis() -> None:
    found = {one.name: one for one in family.parse(FAMILY, "test").members()}
    assert list(found) == ["leti-350m-n4", "leti-350m-n8", "leti-2b-n4", "leti-2b-n8"]
    assert found["leti-2b-n4"].summary == "large, 4 samples"
    assert layers.mapping(found["leti-2b-n4"].text(), "test") == {
        "extends": "leti-2b",
        "generate": {"samples_per_problem": 4, "top_k": 3},
    }
    assert found["leti-350m-n8"].spec["generate"]["samples_per_problem"] == 8


def test_a_family_is_listed_in_one_line() -> None:
    assert family.parse(FAMILY, "test").pattern == "leti-{350m,2b}-{n4,n8}"


@pytest.mark.parametrize("broken", ["name: x", FAMILY.replace("about: fewer samples", ""), FAMILY + "sets: {}\n"])
def test_a_broken_family_is_one_line_that_names_its_file(broken: str) -> None:
    with pytest.raises(LetiError) as caught:
        family.parse(broken, "presets/x.family.yaml")
    assert isinstance(caught.value, SpecError) and "\n" not in str(caught.value)


def test_every_name_is_listed_once_and_described() -> None:
    listed = [name for line in presets.lines() for name in line.members]
    assert sorted(listed) == presets.names() and len(set(listed)) == len(listed)
    assert all(len(one.summary) > 20 for one in presets.entries().values())


def test_an_unknown_preset_is_told_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean leti-350m"):
        presets.text("leti-350n")


@pytest.mark.parametrize("size", ["350m", "2b"])
def test_ablations_differ_from_the_main_run_in_what_they_are_called_after(size: str) -> None:
    base = load(f"leti-{size}")
    assert differences(base, load(f"leti-{size}-n16")) == {"generate.samples_per_problem": 16}
    assert differences(base, load(f"leti-{size}-p128")) == {"task.train_problems": 128}
    assert differences(base, load(f"leti-{size}-no-regularization")) == {"train.objective": "fcft"}
    binary = differences(base, load(f"leti-{size}-binary-only"))
    assert binary.pop("iterations", 50) in (30, 50) and binary == {"build.textual_feedback": False}


OFFICIAL = {
    "model.tokens.feedback_open": "<|lang_feedback|>",
    "model.tokens.feedback_close": "<|/lang_feedback|>",
    "model.new_token_embeddings": "keep",
    "model.dtype": "bfloat16",
    "generate.length_mode": "total",
    "execute.feedback_chars": 20_000,
    "build.order": "generation",
    "build.solution_ids": "retokenized",
    "build.truncate": "right",
    "train.parameters": "bfloat16",
    "train.zero_stage": 0,
    "evaluate.length_mode": "total",
    "evaluate.splits": ("test",),
    "evaluate.select_on": "test",
}


@pytest.mark.parametrize(
    "row",
    [
        "leti-350m", "leti-2b", "leti-2b-binary-only", "leti-350m-no-regularization", "leti-350m-only-pretraining",
        "leti-2b-n16", "leti-350m-p64", "leti-2b-binary-only-p128", "leti-2b-postprocess-legacy",
        "leti-2b-postprocess-legacy-hint", "leti-350m-postprocess-legacy-hint-only", "sft-350m", "sft-2b", "eae-350m",
    ],
)  # fmt: skip
def test_official_code_differs_from_the_papers_text_in_the_same_way_in_every_run(row: str) -> None:
    code = load(f"{row}-official-code")
    assert {path: value_of(code, path) for path in OFFICIAL} == OFFICIAL
    assert set(differences(load(row), code)) <= set(OFFICIAL)


@pytest.mark.parametrize("task", ["mbpp", "humaneval", "gsm8k", "bbh-direct", "bbh-cot"])
@pytest.mark.parametrize("mode", ["", "-good", "-official-code", "-bad-official-code"])
def test_evaluations_of_any_run_say_nothing_of_its_model(task: str, mode: str) -> None:
    assert load(task + mode).model == RunSpec().model


# Steps of one iteration, both streams together (paper, section 2.4 and appendix A; checkpoints of the official code).
STEPS = {
    "leti-350m": 2244, "leti-2b": 2244, "leti-2b-official-code": 2244, "leti-2b-no-regularization": 1122,
    "leti-350m-n64": 1122, "leti-350m-p128": 768, "leti-350m-p64": 384, "leti-2b-p16": 96, "sft-350m": 6,
}  # fmt: skip


@pytest.mark.parametrize(("preset", "steps"), STEPS.items())
def test_an_iteration_takes_the_papers_steps(preset: str, steps: int) -> None:
    spec = load(preset)
    examples = (spec.task.train_problems or 374) * spec.generate.samples_per_problem
    fcft = {group.step for group in schedule(examples, spec.train, seed=None)}
    assert len(fcft) * (2 if spec.train.objective == "alternate" else 1) == steps


@pytest.mark.parametrize(
    ("preset", "samples", "temperature", "top_p", "tokens", "token"),
    [
        ("leti-350m", 16, 0.1, 1.0, 512, "good"),
        ("leti-2b-only-pretraining", 16, 0.1, 1.0, 512, "none"),
        ("sft-2b", 16, 0.1, 1.0, 512, "none"),
        ("mbpp-2b", 16, 0.1, 1.0, 512, "none"),
        ("mbpp-2b-first-block-legacy-good", 16, 0.1, 1.0, 512, "good"),
        ("gsm8k-350m-bad", 40, 0.7, 0.95, 1536, "bad"),
        ("bbh-direct-2b", 1, 0.0, 1.0, 1536, "none"),
        ("bbh-cot-2b-good", 1, 0.0, 1.0, 2048, "good"),
        ("eae-350m", 16, 0.1, 1.0, 1280, "good"),
        ("eae-greedy-350m", 1, 0.0, 1.0, 1280, "none"),
    ],
)
def test_held_out_problems_are_sampled_as_in_the_paper(
    preset: str, samples: int, temperature: float, top_p: float, tokens: int, token: str
) -> None:
    one = load(preset).get_pass("test").sampling
    found = (one.samples_per_problem, one.temperature, one.top_p, one.max_new_tokens, one.reward_token)
    assert found == (samples, temperature, top_p, tokens, token)
    assert one.top_k == 0


def test_two_presets_never_run_the_same() -> None:
    found = [(name, load(name).digest()) for name in presets.names()]
    same = [(a, b) for (a, first), (b, second) in itertools.combinations(found, 2) if first == second]
    assert same == []


def test_the_list_names_every_group_and_with_all_every_preset() -> None:
    text = CliRunner().invoke(command, []).output
    assert all(heading in text for heading in {presets.GROUPS[line.group] for line in presets.lines()})
    assert "leti-{350m,2b}{,-binary-only}-{n16,n64}" in text
    every = CliRunner().invoke(command, ["--all"]).output
    assert all(f"  {name} " in every or f"  {name}\n" in every for name in presets.names())
