"""MBPP's rows as problems: splits, prompts to the last character, one clear line for a broken file.

python -m pytest tests/stages/tasks/test_mbpp.py -q
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stages.contract.errors import UsageError
from stages.contract.spec import Split, TaskSpec
from stages.tasks import load_problems

ROOT = Path(__file__).parents[3]
REAL = ROOT.parent / "shared" / "data" / "mbpp.jsonl"
GOLDEN = ROOT / "tests" / "golden"


def row(task_id: int, **changes: Any) -> dict[str, Any]:
    """One line with MBPP's columns."""
    plain = {
        "text": "Write a function to square a number.",
        "code": "def square(x):\r\n\treturn x * x",
        "task_id": task_id,
        "test_setup_code": "",
        "test_list": ["assert square(2) == 4", "assert square(-3) == 9"],
        "challenge_test_list": ["assert square(0) == 1"],
    }
    return {**plain, **changes}


def write(path: Path, *rows: dict[str, Any]) -> TaskSpec:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return TaskSpec(name="mbpp", source=str(path))


@pytest.mark.parametrize(("split", "kept"), [("train", [601, 974]), ("validation", [511, 600]), ("test", [11, 510])])
def test_splits_go_by_task_id_and_sort_by_it(tmp_path: Path, split: Split, kept: list[int]) -> None:
    spec = write(tmp_path / "m.jsonl", *(row(number) for number in (974, 601, 600, 511, 510, 11, 10, 1, 975)))
    assert [one.problem_id for one in load_problems(spec, split)] == [f"mbpp/{number}" for number in kept]


def test_a_row_becomes_a_problem_with_every_assert_and_the_setup(tmp_path: Path) -> None:
    spec = write(tmp_path / "m.jsonl", row(700, test_setup_code="import math"))
    (problem,) = load_problems(spec, "train")
    assert problem.tests == ("assert square(2) == 4", "assert square(-3) == 9")
    assert (problem.setup, problem.reference) == ("import math", "def square(x):\r\n\treturn x * x")


def test_prompts_match_the_golden_file_to_the_last_character(tmp_path: Path) -> None:
    strange = row(
        602,
        text="Tabs\tand  blanks ,  and a quote ''' stay.\r\nSo does this.",
        test_list=["assert f('\\n')", "assert g"],
    )
    spec = write(tmp_path / "m.jsonl", row(601), strange)
    shown = "\n".join(
        f"--- {one.problem_id}, {count} shown\n{one.prompt!r}"
        for count in (1, 2)
        for one in load_problems(spec.model_copy(update={"asserts_shown": count}), "train")
    )
    assert shown + "\n" == (GOLDEN / "prompts-mbpp.txt").read_text()


def test_counts_cut_a_split_in_file_order(tmp_path: Path) -> None:
    spec = write(tmp_path / "m.jsonl", *(row(number) for number in range(601, 610)))
    cut = spec.model_copy(update={"train_problems": 2})
    assert [one.problem_id for one in load_problems(cut, "train")] == ["mbpp/601", "mbpp/602"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: Invalid JSON"),
        (json.dumps(row(602, text=None)), "line 2: text"),
        (json.dumps({**row(602), "task_id": "602"}), "line 2: task_id"),
        (json.dumps(row(602, test_list=[])), "line 2: test_list"),
        (json.dumps(row(602, test_list=["assert x", 3])), "line 2: test_list.1"),
        (json.dumps({"task_id": 602}), "line 2: text"),
        (json.dumps(row(601)), "line 2: task_id: 601 stands twice"),
        ("", "line 2: Invalid JSON"),
    ],
)
def test_a_broken_line_is_named_with_file_line_and_field(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps(row(601)) + "\n" + line + "\n")
    with pytest.raises(UsageError) as caught:
        load_problems(TaskSpec(name="mbpp", source=str(path)), "train")
    assert f"{path}, {said}" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_and_an_empty_split_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*none\.jsonl"):
        load_problems(TaskSpec(name="mbpp", source=str(tmp_path / "none.jsonl")), "train")
    with pytest.raises(UsageError, match="no test problem"):
        load_problems(write(tmp_path / "m.jsonl", row(601)), "test")


def test_basics_takes_no_source() -> None:
    with pytest.raises(UsageError, match=r"task\.source: basics comes with leti"):
        load_problems(TaskSpec(name="basics", source="x.jsonl"), "train")


def test_basics_are_problems_in_file_order() -> None:
    problems = load_problems(TaskSpec(name="basics", validation_problems=3), "validation")
    assert [one.problem_id for one in problems] == ["basics/1001", "basics/1002", "basics/1003"]


@pytest.mark.slow
def test_datasets_reads_a_folder_as_it_would_a_hub_name(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    write(tmp_path / "train.jsonl", row(601), row(12))
    problems = load_problems(TaskSpec(name="mbpp", source=str(tmp_path)), "test")
    assert [one.problem_id for one in problems] == ["mbpp/12"]


@pytest.mark.skipif(not REAL.is_file(), reason="MBPP's file is not beside the repository")
def test_the_real_file_has_the_papers_split_sizes() -> None:
    spec = TaskSpec(name="mbpp", source=str(REAL))
    splits: tuple[Split, ...] = ("train", "validation", "test")
    assert [len(load_problems(spec, split)) for split in splits] == [374, 90, 500]
