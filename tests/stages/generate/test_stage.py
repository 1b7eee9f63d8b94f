"""One part of a sampling pass, run as a container runs it: same bytes on a rerun, reward tokens, exact errors.

python -m pytest tests/stages/generate/test_stage.py -q
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stages.contract.artifacts import Part, Ref
from stages.contract.errors import SpecError, UsageError
from stages.contract.records import Problem, Sample
from stages.contract.run import Run
from stages.contract.spec import GenerateSpec, RunSpec
from stages.contract.store import LocalStore
from stages.entrypoint import Job
from stages.generate.engine import Request
from stages.generate.reference import ReferenceEngine
from stages.generate.stage import generate
from tests.conftest import StartStage
from tests.loop import commit_checkpoint, commit_problems
from tests.models import make_model

SAMPLES = Ref("samples", 0, "train")


def spec(**changes: object) -> RunSpec:
    small = {"samples_per_problem": 3, "max_new_tokens": 8, "batch_size": 4, "parts": 2}
    return RunSpec(generate=GenerateSpec.model_validate({**small, **changes}))


def make_run(folder: Path, run_spec: RunSpec, problems: int = 5) -> tuple[Run, list[Problem]]:
    """A run whose problems and checkpoints 0 and 1 (the same tiny model) are committed."""
    folder.mkdir(parents=True)
    run = Run(LocalStore(folder / "store"), "r1")
    run.create(run_spec)
    model = make_model(folder / "model", initializer_range=0.4)
    for iteration in (0, 1):
        commit_checkpoint(run, folder, model, iteration)
    return run, commit_problems(run, folder, problems)


def run_parts(run: Run, scratch: Path, iteration: int = 0) -> list[Sample]:
    for number in range(2):
        generate(Job(run, "generate", iteration, "train", Part(number, 2), scratch))
    return list(run.read(Ref("samples", iteration, "train"), Sample))


def write_script(path: Path, problems: int, *solutions: str) -> str:
    lines = [{"problem_id": f"test/{number}", "solutions": solutions} for number in range(problems)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


GIVEN = {"solutions": "reference", "samples_per_problem": 1, "reward_token": "none"}


def test_references_are_taken_as_the_data_set_has_them(tmp_path: Path) -> None:
    run, problems = make_run(tmp_path / "a", spec(**GIVEN))
    taken = problems[0].model_copy(update={"reference": "def f(x):\r\n    return x\r\n"})
    engine = ReferenceEngine([taken], run.fetch(Ref("checkpoint", 0), tmp_path))
    request = Request(taken.problem_id, taken.prompt, "", (1,))
    (answer,) = engine.generate([request], GenerateSpec(), lambda samples, tokens: None)
    (one,) = answer.completions
    assert one.text == "\ndef f(x):\r\n    return x\r\n" and one.finish_reason == "eos" and one.token_ids
    (answer,) = engine.generate([request._replace(prompt="x\n")], GenerateSpec(), lambda samples, tokens: None)
    assert answer.completions[0].text == taken.reference


def test_a_data_set_without_solutions_cannot_be_the_training_data(tmp_path: Path) -> None:
    run, problems = make_run(tmp_path / "a", spec(**GIVEN))
    with pytest.raises(SpecError, match=f"{problems[0].problem_id} comes without a solution"):
        run_parts(run, tmp_path)


def test_rows_stand_in_problem_order_then_sample_order(tmp_path: Path) -> None:
    run, problems = make_run(tmp_path / "a", spec())
    rows = run_parts(run, tmp_path)
    assert [(row.problem_id, row.sample) for row in rows] == [
        (problem.problem_id, number) for problem in problems for number in range(3)
    ]


def test_seeds_differ_and_do_not_depend_on_the_division_into_parts(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path / "a", spec())
    whole, _ = make_run(tmp_path / "b", spec(parts=1))
    rows = run_parts(run, tmp_path)
    generate(Job(whole, "generate", 0, "train", Part(0, 1), tmp_path))
    assert len({row.seed for row in rows}) == len(rows)
    assert rows == list(whole.read(SAMPLES, Sample))


def test_the_reward_token_stands_before_prompts_from_iteration_1_on(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path / "a", spec())
    base, first = run_parts(run, tmp_path, 0), run_parts(run, tmp_path, 1)
    assert {row.reward_token for row in base} == {"none"} and {row.reward_token for row in first} == {"good"}
    assert [row.num_prompt_tokens + 1 for row in base] == [row.num_prompt_tokens for row in first]
    assert [row.solution for row in base] != [row.solution for row in first]


def test_iterations_draw_different_numbers(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path / "a", spec(reward_token="none"))
    base, first = run_parts(run, tmp_path, 0), run_parts(run, tmp_path, 1)
    assert not {row.seed for row in base} & {row.seed for row in first}


def test_the_part_record_tells_inputs_and_speed(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path / "a", spec())
    run_parts(run, tmp_path)
    record = run.find_part(SAMPLES, Part(0, 2))
    assert record is not None
    assert {one.ref for one in record.inputs} == {"problems/train", "iterations/0000/checkpoint"}
    assert record.made.counters["samples"] == record.rows == 6
    assert {"tokens", "tokens_per_second", "load_seconds", "prefill_seconds"} <= record.made.counters.keys()


@pytest.mark.slow
def test_a_part_comes_out_the_same_byte_for_byte_in_another_process(tmp_path: Path, start_stage: StartStage) -> None:
    digests = []
    for name in ("a", "b"):
        run, _ = make_run(tmp_path / name, spec(parts=1, temperature=1.0, max_new_tokens=40))
        done = start_stage("generate", run)
        assert done.returncode == 0, done.stderr
        digests.append(run.get_index(SAMPLES).objects)
    assert digests[0] == digests[1] and digests[0][0].rows == 15


@pytest.mark.slow
def test_progress_counts_samples(tmp_path: Path, start_stage: StartStage) -> None:
    run, _ = make_run(tmp_path / "a", spec(parts=1))
    done = start_stage("generate", run, LETI_LOG="json")
    entries = [json.loads(line) for line in done.stderr.splitlines() if '"progress"' in line]
    assert (entries[-1]["done"], entries[-1]["total"], entries[-1]["unit"]) == (15, 15, "samples")
    assert entries[-1]["tokens_per_second"] > 0


def test_the_scripted_engine_replays_and_starts_over(tmp_path: Path) -> None:
    first, second = "\ndef f(x):\n    return x\n", "\npass"
    script = write_script(tmp_path / "s.jsonl", 5, first, second)
    run, _ = make_run(tmp_path / "a", spec(engine="scripted", script=script))
    rows = run_parts(run, tmp_path)
    assert [row.solution for row in rows[:3]] == [
        "\ndef f(x):\n    return x\n",
        "\npass",
        "\ndef f(x):\n    return x\n",
    ]
    assert all(row.finish_reason == "eos" and row.token_ids for row in rows)


def test_the_scripted_engine_does_without_torch(tmp_path: Path, start_stage: StartStage) -> None:
    script = write_script(tmp_path / "s.jsonl", 5, "\npass")
    run, _ = make_run(tmp_path / "a", spec(engine="scripted", script=script, parts=1))
    (tmp_path / "block").mkdir()
    for name in ("torch", "transformers"):
        (tmp_path / "block" / f"{name}.py").write_text("raise ImportError('not for the scripted engine')")
    done = start_stage("generate", run, PYTHONPATH=str(tmp_path / "block"))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"problem_id": "test/0", "solutions": []}', "line 1: solutions"),
        ('{"problem_id": "test/0"}', "line 1: solutions"),
        ('{"problem_id": "elsewhere", "solutions": ["x"]}', "no line for test/0"),
        ("[", "line 1: Invalid JSON"),
    ],
)
def test_a_bad_script_is_named_with_line_and_field(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "s.jsonl").write_text(text + "\n")
    run, _ = make_run(tmp_path / "a", spec(engine="scripted", script=str(tmp_path / "s.jsonl")))
    with pytest.raises(UsageError, match=said):
        run_parts(run, tmp_path)
