"""BIG-Bench-Hard: prompts to the last space, both ways to score, and the figures made of them.

python -m pytest tests/stages/tasks/test_bbh.py -q
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from stages.contract.errors import UsageError
from stages.contract.records import Problem
from stages.contract.spec import TaskSpec
from stages.tasks import load_problems, load_task
from stages.tasks.bbh import PUBLISHED, RULER, STEPS, Style, answer_of, is_lenient_match, normalized
from tests.stages.tasks.passes import make_pass

ROOT = Path(__file__).parents[3]
REAL = ROOT.parent / "shared" / "data" / "bbh"
GOLDEN = ROOT / "tests" / "golden" / "prompts-bbh.txt"
needs_real_rows = pytest.mark.skipif(not REAL.is_dir(), reason="BIG-Bench-Hard's files are not beside the repository")

# Two tasks made up in the benchmark's form: one asks for a word, one for a letter.
CANARY = "PLEASE DO NOT TRAIN ON THIS."
PARITY = (
    "Say whether a number is even.",
    [("Is 4 even?", "4 is two times two.", "yes"), ("Is 7 even?", "7 = 3 + 4.\n\n4 is even, 3 is not.", "no")],
    [("Is 10 even?", "yes"), ("Is 1 even?", "no"), ("Is 0  even? ", "yes")],
)
FRUIT = (
    "Choose the fruit.",
    [("Which one grows on trees?\nOptions:\n(A) apples\n(B) potatoes", "Potatoes grow in the ground.", "(A)")],
    [("Which one is yellow?\nOptions:\n(A) cherry\n(B) banana", "(B)")],
)
TASKS = {"parity": PARITY, "fruit": FRUIT}


def make_checkout(folder: Path, *, published: bool = False) -> TaskSpec:
    """Write the made-up tasks in the benchmark's layout."""
    for name, (description, exemplars, questions) in TASKS.items():
        write(folder / "bbh" / f"{name}.json", json.dumps({"canary": CANARY, "examples": pairs(questions)}))
        thoughts = [f"Q: {q}\n{STEPS}\n{thought} So the answer is {a}." for q, thought, a in exemplars]
        text = CANARY + RULER + "\n\n".join([description, *thoughts])
        write(folder / "cot-prompts" / f"{name}.txt", text)
        if published:
            shots = "\n\n".join([description, *(f"Q: {q}\nA: {a}" for q, _, a in exemplars)])
            outputs = [{"input": f"{shots}\n\nQ: {q}\nA:", "prediction": a, "target": a} for q, a in questions]
            write(folder / PUBLISHED.format(task=name), json.dumps({"canary": CANARY, "outputs": outputs}))
    return TaskSpec(name="bbh", source=str(folder))


def pairs(questions: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"input": question, "target": target} for question, target in questions]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def load(spec: TaskSpec, style: Style = "direct", **changes: Any) -> list[Problem]:
    return load_problems(spec.model_copy(update={"style": style, **changes}), "test")


def test_prompts_match_the_golden_file_to_the_last_space(tmp_path: Path) -> None:
    spec = make_checkout(tmp_path)
    styles: tuple[Style, ...] = ("direct", "cot")
    shown = "".join(
        f"=== {style} {one.problem_id}\n{one.prompt}|\n"
        for style in styles
        for one in load(spec, style)
        if one.problem_id.endswith(("/0", "/2"))
    )
    assert shown == GOLDEN.read_text()


def test_a_question_is_a_problem_of_its_task_without_tests(tmp_path: Path) -> None:
    problems = load(make_checkout(tmp_path))
    assert [one.problem_id for one in problems] == ["bbh/fruit/0", "bbh/parity/0", "bbh/parity/1", "bbh/parity/2"]
    assert {one.tests for one in problems} == {()}
    assert problems[0].facts == {"task": "fruit", "target": "(B)", "style": "direct", "scoring": "lenient"}
    assert not load_task("bbh").is_program


def test_exemplars_cut_from_chains_of_thought_are_the_published_ones(tmp_path: Path) -> None:
    derived = load(make_checkout(tmp_path / "derived"))
    published = load(make_checkout(tmp_path / "published", published=True))
    assert [one.prompt for one in derived] == [one.prompt for one in published]


@pytest.mark.parametrize("style", ["direct", "cot"])
@pytest.mark.parametrize("published", [False, True])
def test_the_folder_may_hold_the_task_files_themselves_and_their_prompts(
    tmp_path: Path, style: Style, published: bool
) -> None:
    wanted = load(make_checkout(tmp_path / "checkout", published=published), style)
    checkout = tmp_path / "checkout"
    assert load(TaskSpec(name="bbh", source=str(checkout / "bbh")), style) == wanted
    (checkout / "cot-prompts").rename(checkout / "bbh" / "cot-prompts")
    for source in (checkout, checkout / "bbh"):
        assert load(TaskSpec(name="bbh", source=str(source)), style) == wanted


def test_published_outputs_have_the_last_word_on_the_direct_prompt(tmp_path: Path) -> None:
    spec = make_checkout(tmp_path, published=True)
    path = tmp_path / PUBLISHED.format(task="fruit")
    path.write_text(path.read_text().replace("potatoes", "carrots"))
    assert "(B) carrots" in load(spec)[0].prompt
    assert "(B) potatoes" in load(spec, "cot")[0].prompt


TRICKY: list[tuple[Style, str, str, bool, bool]] = [
    # style, solution, target, lenient, strict
    ("direct", " True", "True", True, True),
    ("direct", "\n\nTrue\n\nQ: more", "True", True, True),
    ("direct", " Truely", "True", True, False),
    ("direct", " true", "True", False, True),
    ("direct", " True.", "True", True, True),
    ("direct", " True and not false", "True", True, False),
    ("direct", " The answer is True", "True", False, False),
    ("direct", "", "True", False, False),
    ("direct", " \n ", "True", False, False),
    ("direct", " (B)", "(B)", True, True),
    ("direct", " B", "(B)", False, True),
    ("direct", " (B) 12/25/1937", "(B)", True, False),
    ("direct", " valid", "invalid", False, False),
    ("direct", " invalid", "valid", False, False),
    ("direct", " ] ]", "] ]", True, True),
    ("direct", " ] ] >", "] ]", True, False),
    ("direct", " ]  ]", "] ]", False, True),
    ("direct", " -50", "-5", True, False),
    ("direct", "-5", " -5", True, True),
    ("direct", " No, not", "No", True, False),
    ("direct", "Q: True", "True", False, False),
    ("cot", "\nAll cats do. So the answer is valid.", "valid", True, True),
    ("cot", "\nNone does. So the answer is invalid.", "valid", True, False),
    ("cot", "\nNot so. So the answer is Yes.", "No", True, False),
    ("cot", "\nSo the answer is (A).\n\nQ: Next?\nA: So the answer is (B).", "(B)", False, False),
    ("cot", "\nWe think the answer is (A). But wait: So the answer is (B).", "(B)", True, True),
    ("cot", "\nSo the answer is 3.5.", "3.5", True, True),
    ("cot", "\nSo the answer is 3.", "3.5", False, False),
    ("cot", "\nSo the answer is -219", "-219", True, True),
    ("cot", "\nSo the answer is -2190.", "-219", True, False),
    ("cot", "\n(A) is wrong, (B) is right.", "(B)", True, False),
    ("cot", "\nSo the answer is ) ] >. Good.", ") ] >", True, True),
    ("cot", "\nSO THE ANSWER IS: **(C)**.", "(C)", True, True),
    ("cot", '\nSo the answer is "apple pear".', "apple pear", True, True),
    ("cot", "\nSo the answer is\napple pear", "apple pear", True, True),
    ("cot", "", "True", False, False),
]


@pytest.mark.parametrize(("style", "solution", "target", "lenient", "strict"), TRICKY)
def test_lenient_is_the_papers_match_and_strict_an_equal_answer(
    style: Style, solution: str, target: str, lenient: bool, strict: bool
) -> None:
    assert is_lenient_match(solution, target, style) == lenient
    assert (answer_of(solution, style) == normalized(target)) == strict


@pytest.mark.parametrize("style", ["direct", "cot"])
def test_references_are_right_by_either_score(tmp_path: Path, style: Style) -> None:
    for problem in load(make_checkout(tmp_path), style):
        judgement = evaluated(problem, problem.reference)
        assert judgement.measures == {"lenient": 1.0, "strict": 1.0}


def evaluated(problem: Problem, solution: str) -> Any:
    evaluate = load_task("bbh").evaluate
    assert evaluate is not None
    return evaluate(problem, solution, None)


def test_the_spec_says_which_score_makes_a_pass_and_both_are_measured(tmp_path: Path) -> None:
    spec = make_checkout(tmp_path)
    lenient, strict = load(spec)[1], load(spec, scoring="strict")[1]
    assert [evaluated(one, " yes, it is").outcome for one in (lenient, strict)] == ["passed", "failed"]
    failed = evaluated(strict, " yes, it is")
    assert failed.measures == {"lenient": 1.0, "strict": 0.0}
    assert (failed.answer, failed.error_type) == ("yes, it is", None)
    assert failed.feedback == "Expected 'yes', got the answer 'yes, it is'.\n"
    assert evaluated(strict, "").feedback == "Expected 'yes', got no answer.\n"


def test_a_pass_scores_text_without_a_sandbox(tmp_path: Path) -> None:
    make_checkout(tmp_path)
    solutions = {"bbh/fruit/0": [" (B)"], "bbh/parity/0": [" yes"], "bbh/parity/1": [" nope"], "bbh/parity/2": [" no"]}
    _, executions, metrics = make_pass(tmp_path, {"name": "bbh", "source": str(tmp_path)}, solutions)
    assert [row.outcome for row in executions] == ["passed", "passed", "passed", "failed"]
    assert {row.isolation for row in executions} == {"none"}
    assert {name: figure.value for name, figure in metrics.figures.items()} == {
        "lenient": 3 / 4,
        "strict": 2 / 4,
        "lenient/fruit": 1.0,
        "strict/fruit": 1.0,
        "lenient/parity": pytest.approx(2 / 3),
        "strict/parity": pytest.approx(1 / 3),
    }
    assert metrics.pass_at_k["1"].value == 3 / 4


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("bbh/fruit.json", "{", "bbh/fruit.json: Invalid JSON"),
        ("bbh/fruit.json", '{"examples": []}', "bbh/fruit.json: examples"),
        ("bbh/fruit.json", '{"examples": [{"input": "a"}]}', "bbh/fruit.json: examples.0.target"),
        ("bbh/fruit.json", '{"examples": [{"input": "a", "target": " "}]}', "bbh/fruit.json: examples.0.target"),
        ("cot-prompts/fruit.txt", "Q: no ruler", "fruit.txt has no line of five dashes"),
        ("cot-prompts/fruit.txt", f"x{RULER}Choose.\n\nQ: a\nA: b", "fruit.txt has an exemplar without"),
        (PUBLISHED.format(task="fruit"), '{"outputs": []}', "0-255000.json: outputs"),
        (PUBLISHED.format(task="fruit"), '{"outputs": [{"input": "abc"}]}', "0-255000.json its inputs do not begin"),
    ],
)
def test_a_broken_file_is_one_line_that_names_it(tmp_path: Path, path: str, text: str, said: str) -> None:
    spec = make_checkout(tmp_path)
    write(tmp_path / path, text)
    with pytest.raises(UsageError) as caught:
        load(spec)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    spec = make_checkout(tmp_path)
    with pytest.raises(UsageError, match=r"only a test split.*set iterations to 0"):
        load_problems(spec, "train")
    with pytest.raises(UsageError, match="needs a checkout"):
        load(TaskSpec(name="bbh"))
    with pytest.raises(UsageError, match=r"has no bbh/\*\.json"):
        load(TaskSpec(name="bbh", source=str(tmp_path / "cot-prompts")))
    (tmp_path / "cot-prompts" / "parity.txt").unlink()
    with pytest.raises(UsageError, match=r"cannot read .*parity\.txt: No such file"):
        load(spec, "cot")


# SHA-256 of the first input among code-davinci-002's published direct outputs of each task.
PUBLISHED_PROMPTS = {
    "boolean_expressions": "562b2252f188bb2e10ac74853eeeb425d10388561010c1032dcc803f389545be",
    "dyck_languages": "399333ef1aca851cd89bc8f9c9ea5f5f66b4c96af25dccf100193d2fba12a0c9",
    "multistep_arithmetic_two": "ac2534b0e398a1918ea58b3d6b7cafd82184bc53cb6feb0196783f3dd83a6707",
    "word_sorting": "3f37d2e8b71e9043724e2ed2c8ad1d8589c25ed1a61b6210f0f77925c7cc354f",
}
MENDED = ("date_understanding", "5170b38be3502a2711d674c8ee0086be687cc310be2f2c4a448658c575b03103")


@pytest.fixture
def real() -> TaskSpec:
    """The real files: tasks, and their prompts in a folder within."""
    return TaskSpec(name="bbh", source=str(REAL))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@needs_real_rows
def test_prompts_made_of_the_real_chains_of_thought_are_those_that_were_published(real: TaskSpec) -> None:
    prompts = {one.problem_id: one.prompt for one in load(real)}
    for task, published in PUBLISHED_PROMPTS.items():
        assert digest(prompts[f"bbh/{task}/0"]) == published, task
    task, published = MENDED
    ours = prompts[f"bbh/{task}/0"]
    assert digest(ours) != published
    assert digest(ours.replace("(B) 01/03/1963", "(B) 01/03/1961")) == published


@needs_real_rows
@pytest.mark.parametrize("style", ["direct", "cot"])
def test_every_real_question_is_answered_right_by_its_target_alone(real: TaskSpec, style: Style) -> None:
    problems = load(real, style)
    assert len(problems) == len({one.problem_id for one in problems}) == 1250
    for problem in problems:
        assert evaluated(problem, problem.reference).measures == {"lenient": 1.0, "strict": 1.0}
        wrong = evaluated(problem, " (Z) 0" if style == "direct" else "\nSo the answer is (Z) 0.")
        assert wrong.measures["strict"] == 0.0
