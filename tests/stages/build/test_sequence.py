from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from stages.build.hint import QUOTED
from stages.build.sequence import Encoder, Example, Segments, length, shorten
from stages.contract.errors import ArtifactError, ModelError
from stages.contract.prompts import SpecialTokens
from stages.contract.records import Execution, Sample
from stages.contract.spec import RunSpec
from tests.loop import judged_samples
from tests.models import END, make_tokenizer

GOLDEN = Path(__file__).parents[2] / "golden"
PROMPT = '"""\nReturn one.\nassert f() == 1\n"""'
FEEDBACK = 'Traceback (most recent call last):\n  File "<string>", line 7, in <module>\nAssertionError\n'
SOLUTION = "\ndef f():\n    return 2\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(path)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def make_spec(**build: Any) -> RunSpec:
    return RunSpec.model_validate({"build": build})


def judged(tokenizer: Tokenizer, *, outcome: str = "failed", **changes: Any) -> tuple[Sample, Execution]:
    feedback = changes.pop("feedback", "" if outcome == "passed" else FEEDBACK)
    solution = changes.pop("solution", SOLUTION)
    sample = Sample(
        problem_id="p",
        sample=0,
        reward_token="none",
        solution=solution,
        token_ids=changes.pop("token_ids", tuple(tokenizer.encode(solution).ids)),
        finish_reason=changes.pop("finish_reason", "eos"),
        num_prompt_tokens=3,
        seed=0,
    )
    execution = Execution.model_validate(
        {
            "problem_id": "p",
            "sample": 0,
            "program_sha256": "",
            "outcome": outcome,
            "error_type": None,
            "feedback": feedback,
            "isolation": "process",
        }
    )
    return sample, execution


def encode(folder: Path, spec: RunSpec, pair: tuple[Sample, Execution]) -> Example:
    (example,) = Encoder(folder, spec).encode([pair], {"p": PROMPT})
    return example


def spell(tokenizer: Tokenizer, example: Example) -> str:
    return str(tokenizer.decode(example.ids.tolist(), skip_special_tokens=False))


def test_a_failure_is_bad_feedback_prompt_solution(folder: Path, tokenizer: Tokenizer) -> None:
    example = encode(folder, make_spec(), judged(tokenizer))
    assert spell(tokenizer, example) == f"<|bad|><|text_feedback|>{FEEDBACK}<|/text_feedback|>{PROMPT}{SOLUTION}"
    assert not example.passed


def test_a_success_is_good_prompt_solution(folder: Path, tokenizer: Tokenizer) -> None:
    example = encode(folder, make_spec(), judged(tokenizer, outcome="passed"))
    assert spell(tokenizer, example) == f"<|good|>{PROMPT}{SOLUTION}"
    assert example.passed


def test_without_textual_feedback_the_reward_token_stays(folder: Path, tokenizer: Tokenizer) -> None:
    example = encode(folder, make_spec(textual_feedback=False), judged(tokenizer))
    assert spell(tokenizer, example) == f"<|bad|>{PROMPT}{SOLUTION}"


def test_a_failure_that_said_nothing_has_no_block(folder: Path, tokenizer: Tokenizer) -> None:
    example = encode(folder, make_spec(), judged(tokenizer, outcome="timed_out", feedback=""))
    assert spell(tokenizer, example) == f"<|bad|>{PROMPT}{SOLUTION}"


SUPERVISED = {"form": "supervised", "solution_ids": "retokenized"}


@pytest.mark.parametrize("outcome", ["passed", "failed"])
def test_a_supervised_row_is_the_golden_file_whatever_the_verdict(
    folder: Path, tokenizer: Tokenizer, outcome: str
) -> None:
    example = encode(folder, make_spec(**SUPERVISED), judged(tokenizer, outcome=outcome, finish_reason="length"))
    assert spell(tokenizer, example) == (GOLDEN / "sequence-supervised.txt").read_text()
    end = tokenizer.token_to_id(END)
    assert example.ids[1:-1].tolist() == tokenizer.encode(PROMPT + SOLUTION).ids
    assert (example.ids[0], example.ids[-1], example.first_target) == (end, end, 1)


def test_a_tokenizer_without_a_first_token_begins_supervised_rows_with_its_last(tmp_path: Path) -> None:
    make_tokenizer(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**settings, "bos_token": None}))
    assert Encoder(tmp_path, make_spec(**SUPERVISED)).bos == 0
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ModelError, match="eos_token is None"):
        Encoder(tmp_path, make_spec(**SUPERVISED))


def hinted(**task: Any) -> RunSpec:
    given = {"postprocess": "first_block", "hint": True, **task}
    return RunSpec.model_validate({"task": given, "build": {"solution_ids": "retokenized"}})


@pytest.mark.parametrize("outcome", ["passed", "failed"])
def test_a_hint_is_the_golden_file(folder: Path, tokenizer: Tokenizer, outcome: str) -> None:
    example = encode(folder, hinted(), judged(tokenizer, outcome=outcome, solution=f"{SOLUTION}print(f())\n"))
    assert spell(tokenizer, example) == (GOLDEN / f"sequence-hint-{outcome}.txt").read_text()
    ids = example.ids.tolist()
    assert ids[ids.index(tokenizer.token_to_id("<|/text_feedback|>")) - 1] == tokenizer.token_to_id(END)


def test_what_was_not_cut_has_no_hint_and_what_was_is_trained_on_whole_where_it_ran_whole(
    folder: Path, tokenizer: Tokenizer
) -> None:
    whole = judged(tokenizer, outcome="passed")
    assert spell(tokenizer, encode(folder, hinted(), whole)) == f"<|good|>{PROMPT}{SOLUTION.rstrip()}"
    cut = judged(tokenizer, outcome="passed", solution=f"{SOLUTION}print(f())\n")
    text = spell(tokenizer, encode(folder, hinted(execute_original=True), cut))
    assert text.endswith(
        f"[print(f())]. End the solution there with {END}<|/text_feedback|>{PROMPT}{SOLUTION}print(f())\n"
    )


def test_a_hint_quotes_so_many_characters_and_no_special_token(folder: Path, tokenizer: Tokenizer) -> None:
    rest = f"print('<|good|>{'x' * 200}')"
    example = encode(folder, hinted(), judged(tokenizer, outcome="passed", solution=f"{SOLUTION}{rest}"))
    assert f"[{rest[:QUOTED]}]" in spell(tokenizer, example)
    assert example.ids.tolist().count(tokenizer.token_to_id("<|good|>")) == 1


def test_a_long_traceback_loses_its_start_and_never_the_hint(folder: Path, tokenizer: Tokenizer) -> None:
    spec = hinted().model_copy(update={"execute": hinted().execute.model_copy(update={"feedback_chars": 200})})
    pair = judged(tokenizer, solution=f"{SOLUTION}print(f())\n", feedback="no " * 300)
    assert f"there with {END}<|/text_feedback|>" in spell(tokenizer, encode(folder, spec, pair))


def test_sampled_ids_are_trained_on_as_they_are(folder: Path, tokenizer: Tokenizer) -> None:
    letters = tuple(tokenizer.token_to_id(letter) for letter in "return")
    example = encode(folder, make_spec(), judged(tokenizer, token_ids=letters, solution="return"))
    assert tuple(example.ids[-6:]) == letters


def test_retokenized_solutions_are_tokenised_with_their_prompt(folder: Path, tokenizer: Tokenizer) -> None:
    letters = tuple(tokenizer.token_to_id(letter) for letter in "return")
    pair = judged(tokenizer, outcome="passed", token_ids=letters, solution="return")
    example = encode(folder, make_spec(solution_ids="retokenized"), pair)
    assert example.ids[1:].tolist() == tokenizer.encode(PROMPT + "return").ids


@pytest.mark.parametrize("name", [*SpecialTokens(), END])
@pytest.mark.parametrize("ids", ["generated", "retokenized"])
def test_text_that_spells_a_special_token_never_becomes_it(
    folder: Path, tokenizer: Tokenizer, name: str, ids: str
) -> None:
    forged = f"print('{name}')"
    pair = judged(tokenizer, feedback=f"{FEEDBACK}ValueError: {name}\n", solution=forged, token_ids=(5, 6))
    example = encode(folder, make_spec(solution_ids=ids), pair)
    forger = tokenizer.token_to_id(name)
    allowed = 1 if name in (SpecialTokens().bad, SpecialTokens().feedback_open, SpecialTokens().feedback_close) else 0
    assert example.ids.tolist().count(forger) == allowed


@pytest.mark.parametrize("name", [*SpecialTokens(), END])
def test_a_special_id_that_was_sampled_is_dropped_and_counted(folder: Path, tokenizer: Tokenizer, name: str) -> None:
    encoder = Encoder(folder, make_spec())
    pair = judged(tokenizer, outcome="passed", token_ids=(65, tokenizer.token_to_id(name), 66))
    (example,) = encoder.encode([pair], {"p": PROMPT})
    assert example.ids[-2:].tolist() == [65, 66]
    assert example.dropped_special_ids == 1


def test_passed_with_feedback_is_refused(folder: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(ArtifactError, match="p, sample 0: passed and yet has feedback"):
        encode(folder, make_spec(), judged(tokenizer, outcome="passed", feedback="no"))


def test_feedback_is_sanitised_and_capped(folder: Path, tokenizer: Tokenizer) -> None:
    example = encode(folder, make_spec(), judged(tokenizer, feedback="x" * 3000 + "\x1b[31m\r\nend"))
    block = spell(tokenizer, example).partition("<|text_feedback|>")[2].partition("<|/text_feedback|>")[0]
    assert len(block) == 2000
    assert block.startswith("[...]\n") and block.endswith("\\x1b[31m\nend")


@pytest.mark.parametrize(("reason", "ends"), [("eos", True), ("length", False)])
def test_end_of_sequence_only_where_the_model_ended(
    folder: Path, tokenizer: Tokenizer, reason: str, ends: bool
) -> None:
    example = encode(folder, make_spec(append_eos="ended"), judged(tokenizer, finish_reason=reason))
    assert (example.ids[-1] == tokenizer.token_to_id(END)) == ends


def test_a_cut_solution_was_not_ended_by_the_model(folder: Path, tokenizer: Tokenizer) -> None:
    build = {"append_eos": "ended", "solution_ids": "retokenized"}
    spec = RunSpec.model_validate({"build": build, "task": {"postprocess": "first_block"}})
    cut = encode(folder, spec, judged(tokenizer, solution="\ndef f():\n    return 1\nprint(f())"))
    assert spell(tokenizer, cut).endswith("return 1")
    teach = spec.model_copy(update={"build": spec.build.model_copy(update={"append_eos": "ended_or_cut"})})
    taught = encode(folder, teach, judged(tokenizer, solution="\ndef f():\n    return 1\nprint(f())"))
    assert spell(tokenizer, taught).endswith(f"return 1{END}")
    whole = encode(folder, spec, judged(tokenizer, solution="\ndef f():\n    return 1\n"))
    assert spell(tokenizer, whole).endswith(f"return 1{END}")


def test_targets_are_what_loss_on_says(folder: Path, tokenizer: Tokenizer) -> None:
    pair = judged(tokenizer)
    prompt, solution = len(tokenizer.encode(PROMPT).ids), len(pair[0].token_ids)
    expected = {"all": 1, "without_feedback": prompt + solution, "solution": solution}
    for loss_on, targets in expected.items():
        example = encode(folder, make_spec(loss_on=loss_on), pair)
        wanted = len(example.ids) - 1 if loss_on == "all" else targets
        assert len(example.ids) - example.first_target == wanted


def test_an_overlong_sequence_loses_the_start_of_its_feedback(folder: Path, tokenizer: Tokenizer) -> None:
    example = encode(folder, make_spec(max_length=50), judged(tokenizer))
    assert len(example.ids) == 50 and example.truncated
    block = spell(tokenizer, example).partition("<|text_feedback|>")[2]
    assert FEEDBACK.endswith(block.partition("<|/text_feedback|>")[0])
    assert block.endswith(f"<|/text_feedback|>{PROMPT}{SOLUTION}")


def test_truncating_right_loses_the_end(folder: Path, tokenizer: Tokenizer) -> None:
    whole = encode(folder, make_spec(), judged(tokenizer))
    cut = encode(folder, make_spec(max_length=40, truncate="right"), judged(tokenizer))
    assert cut.ids.tolist() == whole.ids[:40].tolist() and cut.truncated


@given(st.lists(st.integers(1, 9), max_size=9), st.integers(1, 9), st.integers(1, 9), st.integers(4, 40))
def test_shortening_keeps_prompt_and_solution_whole(
    feedback: list[int], prompt: int, solution: int, longest: int
) -> None:
    segments = Segments(0, feedback, [1] * prompt, [2] * solution)
    short = shorten(segments, longest, "feedback")
    assert (short.prompt, short.solution) == (segments.prompt, segments.solution)
    assert length(short) <= longest or not short.feedback
    assert feedback[len(feedback) - len(short.feedback) :] == short.feedback


def test_chunks_of_samples_give_what_one_by_one_gives(folder: Path) -> None:
    from stages.contract.records import Problem

    problem = Problem(problem_id="p", prompt=PROMPT, tests=())
    pairs = judged_samples([problem], 8)
    together = list(Encoder(folder, make_spec()).encode(pairs, {"p": PROMPT}))
    for pair, example in zip(pairs, together, strict=True):
        (alone,) = Encoder(folder, make_spec()).encode([pair], {"p": PROMPT})
        assert alone.ids.tolist() == example.ids.tolist()


def test_a_model_without_the_tokens_is_named(folder: Path, tokenizer: Tokenizer) -> None:
    spec = RunSpec.model_validate({"model": {"tokens": {"good": "<|fine|>"}}})
    with pytest.raises(ModelError, match=r"no '<\|fine\|>'"):
        Encoder(folder, spec)


def test_a_model_without_a_fast_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(ModelError, match=r"no tokenizer\.json, only vocab\.json"):
        Encoder(tmp_path, make_spec())
