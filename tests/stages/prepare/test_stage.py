"""`prepare` as a container runs it: everything a run starts from, the same bytes twice, one line when it cannot.

python -m pytest tests/stages/prepare/test_stage.py -q
"""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.contract.artifacts import Ref
from stages.contract.errors import LetiError, RetryableError
from stages.contract.records import Problem
from stages.contract.run import Run
from stages.contract.spec import EvaluateSpec, ModelSpec, PretrainingSpec, RunSpec, TaskSpec, Tokens, TrainSpec
from stages.contract.store import LocalStore
from stages.entrypoint import Job
from stages.prepare.stage import prepare
from tests.conftest import StartStage
from tests.models import make_model


def make_run(folder: Path, model: Path, **changes: object) -> Run:
    run = Run(LocalStore(folder), "r1")
    sections: dict[str, object] = {
        "model": ModelSpec(source=str(model)),
        "task": TaskSpec(train_problems=4, test_problems=2),
        "pretraining": PretrainingSpec(num_files=3, block_length=64, max_blocks=5),
        "evaluate": EvaluateSpec(splits=("validation", "test")),
        **changes,
    }
    run.create(RunSpec.model_validate(sections))
    return run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model(tmp_path / "model")


def test_everything_a_run_starts_from_is_committed(tmp_path: Path, model: Path) -> None:
    run = make_run(tmp_path / "store", model)
    job = Job(run, "prepare", scratch=tmp_path)
    prepare(job)
    counts = {
        split: len(list(run.read(Ref("problems", split=split), Problem))) for split in ("train", "validation", "test")
    }
    assert counts == {"train": 4, "validation": 32, "test": 2}
    assert run.get_index(Ref("pretraining")).rows == 5
    assert (run.fetch(Ref("checkpoint", 0), tmp_path) / "model.safetensors").is_file()
    assert job.is_done()


def test_no_stream_is_cut_when_training_reads_none(tmp_path: Path, model: Path) -> None:
    run = make_run(tmp_path / "store", model, train=TrainSpec(objective="fcft"))
    prepare(Job(run, "prepare", scratch=tmp_path))
    assert run.find_index(Ref("pretraining")) is None


def test_a_run_that_only_evaluates_starts_from_held_out_problems_and_a_model(tmp_path: Path, model: Path) -> None:
    run = make_run(tmp_path / "store", model, iterations=0)
    job = Job(run, "prepare", scratch=tmp_path)
    prepare(job)
    committed = [str(ref) for ref in job.outputs]
    assert committed == ["problems/validation", "problems/test", "iterations/0000/checkpoint"] and job.is_done()


def take_over(store: Run, **model: object) -> Run:
    """A run that starts from a checkpoint of `store`."""
    run = Run(store.store, "r2")
    chosen = store.spec.model.model_copy(update={"from_run": store.name, "from_iteration": 0, **model})
    run.create(store.spec.model_copy(update={"iterations": 0, "model": chosen}))
    return run


def test_another_runs_checkpoint_is_copied_as_it_is(tmp_path: Path, model: Path) -> None:
    first = make_run(tmp_path / "store", model, iterations=0)
    prepare(Job(first, "prepare", scratch=tmp_path))
    second = take_over(first)
    prepare(Job(second, "prepare", scratch=tmp_path))
    ref = Ref("checkpoint", 0)
    assert second.get_index(ref).objects == first.get_index(ref).objects
    assert str(second.get_index(ref).inputs[0].ref) == "runs/r1/iterations/0000/checkpoint"
    assert second.get_index(ref).inputs[0].sha256 == first.get_index(ref).digest()


@pytest.mark.parametrize(
    ("model_fields", "message"),
    [
        ({"from_iteration": 3}, "has no checkpoint 3, only 0; runs do not wait"),
        ({"from_iteration": None}, "leti-ctl, which looks up the best"),
        ({"tokens": Tokens(bad="<|no|>")}, r"model\.tokens"),
    ],
)
def test_a_checkpoint_that_is_not_there_or_of_another_kind_is_no_matter_of_retrying(
    tmp_path: Path, model: Path, model_fields: dict[str, object], message: str
) -> None:
    first = make_run(tmp_path / "store", model, iterations=0)
    prepare(Job(first, "prepare", scratch=tmp_path))
    with pytest.raises(LetiError, match=message) as caught:
        prepare(Job(take_over(first, **model_fields), "prepare", scratch=tmp_path))
    assert not isinstance(caught.value, RetryableError)


@pytest.mark.soak
@pytest.mark.slow
def test_two_processes_commit_the_same_bytes(tmp_path: Path, model: Path, start_stage: StartStage) -> None:
    objects = []
    for name in ("a", "b"):
        run = make_run(tmp_path / name, model)
        done = start_stage("prepare", run)
        assert done.returncode == 0, done.stderr
        refs = (Ref("problems", split="train"), Ref("pretraining"), Ref("checkpoint", 0))
        objects.append([run.get_index(ref).objects for ref in refs])
    assert objects[0] == objects[1]


@pytest.mark.slow
def test_a_bad_model_ends_with_one_line_and_its_exit_code(tmp_path: Path, model: Path, start_stage: StartStage) -> None:
    (model / "model.safetensors").write_bytes(b"half a downl")
    done = start_stage("prepare", make_run(tmp_path / "store", model))
    assert done.returncode == 66
    errors = [line for line in done.stderr.splitlines() if "ERROR" in line]
    assert len(errors) == 1 and "model.source" in errors[0] and "Traceback" not in done.stderr


@pytest.mark.slow
def test_smollm2_comes_out_of_its_wheel_and_writes_python(tmp_path: Path) -> None:
    from stages.contract.spec import Sampling
    from stages.generate.engine import Request
    from stages.generate.transformer import TransformersEngine
    from stages.prepare import smollm2
    from stages.prepare.checkpoint import Source, write_checkpoint

    try:
        folder = smollm2.cached_folder()
    except RetryableError as error:
        pytest.skip(f"no model: {error}")
    write_checkpoint(Source(folder, "smollm2"), ModelSpec(), tmp_path / "checkpoint", seed=0)
    engine = TransformersEngine(tmp_path / "checkpoint", batch_size=2, dtype="float32")
    prompt = '"""\nWrite a function to add two numbers.\nassert add(1, 2) == 3\n"""'
    requests = [Request("add", prompt, "", (0,))]
    (answer,) = engine.generate(requests, Sampling(temperature=0.0, max_new_tokens=24), lambda samples, tokens: None)
    assert "def add(" in answer.completions[0].text and "return" in answer.completions[0].text


def test_a_wheel_with_other_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.prepare import smollm2

    (tmp_path / "w.whl").write_bytes(b"not the wheel")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LETI_MODEL_WHEEL", str(tmp_path / "w.whl"))
    with pytest.raises(LetiError, match="SHA-256"):
        smollm2.cached_folder()
    monkeypatch.setenv("LETI_MODEL_WHEEL", str(tmp_path / "gone.whl"))
    with pytest.raises(LetiError, match="cannot read"):
        smollm2.cached_folder()
    assert not list((tmp_path / "cache" / "leti").iterdir())
