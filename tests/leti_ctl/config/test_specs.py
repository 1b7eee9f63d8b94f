"""From YAML and --set to a RunSpec, and one line for whatever is wrong."""

from pathlib import Path

import pytest

from leti_ctl import presets
from leti_ctl.config import specs
from stages.contract.errors import LetiError, SpecError, UsageError
from stages.contract.spec import RunSpec


def load(*overrides: str, text: str = "", tmp_path: Path | None = None, preset: str | None = None) -> RunSpec:
    file = None
    if tmp_path:
        file = tmp_path / "run.yaml"
        file.write_text(text)
    return specs.load_spec(preset=preset, file=file, overrides=overrides, iterations=None)


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_loads_and_says_what_it_is(name: str) -> None:
    assert load(preset=name).digest()
    assert len(presets.summary(name)) > 20


def test_a_later_source_wins(tmp_path: Path) -> None:
    spec = load("seed=3", preset="quickstart", text="seed: 2\ntrain: {epochs: 7}\n", tmp_path=tmp_path)
    assert (spec.seed, spec.train.epochs, spec.task.name) == (3, 7, "basics")


def test_exponents_without_a_dot_are_numbers() -> None:
    assert load("train.learning_rate=1e-5").train.learning_rate == 1e-5


def test_a_file_may_extend_a_preset(tmp_path: Path) -> None:
    spec = load(text="extends: leti-350m\ntrain: {epochs: 1}\n", tmp_path=tmp_path)
    assert (spec.model.source, spec.train.epochs) == ("Salesforce/codegen-350M-mono", 1)


def test_yaml_of_a_spec_loads_back_to_the_same_spec(tmp_path: Path) -> None:
    spec = load(preset="leti-2b-official-code")
    assert load(text=specs.to_yaml(spec), tmp_path=tmp_path) == spec


def test_existing_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load("model.source=model").model.source == str(tmp_path / "model")


def test_every_field_is_listed_with_its_meaning() -> None:
    fields = specs.fields()
    assert all(meaning for _, _, meaning in fields)
    assert ("train.learning_rate", 1e-5) in [(path, default) for path, default, _ in fields]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.lr=1", ("train.lr", "unknown field", "train.learning_rate")),
        ("trian.epochs=1", ("trian", "unknown field", "train")),
        ("train.learning_rate=fast", ("train.learning_rate", '"fast"', "number")),
        ("train.epochs=2.5", ("train.epochs", "2.5", "integer")),
        ("train.epochs=true", ("train.epochs", "true")),
        ("seed=-1", ("seed", "-1", "0")),
        ("task.name=mbbp", ("task.name", "mbbp", "'mbpp'")),
        ("train=3", ("train", "3")),
        ("evaluate.k=[32]", ("evaluate.k", "32", "16", "raise it")),
        ("build.pack_length=8", ("build.pack_length", "8", "2048")),
        ("train.zero_stage=4", ("train.zero_stage", "4", "3")),
        ("generate.engine=scripted", ("generate.script", "set both")),
        ("generate.top_p=0", ("generate.top_p", "0")),
        ("model.tokens.good=good", ("model.tokens.good", "good")),
        ("model.tokens.good=<|bad|>", ("model.tokens", "differ", "<|bad|>")),
        ("nothing", ("--set", "field=value")),
        ("=1", ("--set", "field=value")),
        ("a..b=1", ("--set", "field=value")),
    ],
)
def test_a_mistake_is_one_line_that_names_field_value_and_remedy(override: str, words: tuple[str, ...]) -> None:
    with pytest.raises(LetiError) as caught:
        load(override)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("seed: 1\nseed: 2\n", SpecError, ("line 2", "seed", "twice")),
        ("seed: [1\n", SpecError, ("not YAML", "line")),
        ("- 1\n", SpecError, ("mapping", "list")),
        ("extends: nope\n", UsageError, ("nope", "leti-ctl presets")),
    ],
)
def test_a_broken_file_is_one_line(text: str, error: type[LetiError], words: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(error) as caught:
        load(text=text, tmp_path=tmp_path)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_override_keeps_what_it_does_not_name() -> None:
    spec = load(preset="quickstart")
    longer = specs.override(spec, overrides=(), iterations=5)
    assert longer.iterations == 5 and longer.digest() == spec.digest()
