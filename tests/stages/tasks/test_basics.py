"""The project's own problem set: well formed, solvable by its references, and not solvable by accident.

python -m pytest tests/stages/tasks/test_basics.py -q
"""

import ast
import json
import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

BASICS = Path(__file__).parents[3] / "stages" / "tasks" / "basics"
SPLITS = ("train", "validation", "test")
COLUMNS = {"task_id", "text", "code", "test_list", "test_setup_code", "challenge_test_list"}

# Runs programs given as a JSON list on stdin and prints, for each, whether it ended without an exception.
RUNNER = """
import json, sys
def passes(program):
    try:
        exec(program, {})
    except Exception:
        return False
    return True
json.dump([passes(program) for program in json.load(sys.stdin)], sys.stdout)
"""

Row = dict[str, Any]


def read(split: str) -> list[Row]:
    return [json.loads(line) for line in (BASICS / f"{split}.jsonl").read_text("ascii").splitlines()]


ROWS = [row for split in SPLITS for row in read(split)]


def run(programs: list[str]) -> list[bool]:
    """One verdict per program, from one interpreter without site packages or the repository on its path."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", RUNNER],
        input=json.dumps(programs),
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    verdicts: list[bool] = json.loads(done.stdout)
    assert len(verdicts) == len(programs)
    return verdicts


def program(row: Row, solution: str) -> str:
    return "\n".join([solution, *row["test_list"]])


def definition(row: Row) -> ast.FunctionDef:
    (function,) = ast.parse(row["code"]).body
    assert isinstance(function, ast.FunctionDef), row["code"]
    return function


def comparison(test: str) -> tuple[ast.Call, ast.expr]:
    """The two sides of ``assert call == expected``."""
    match ast.parse(test).body:
        case [ast.Assert(test=ast.Compare(left=ast.Call() as call, ops=[ast.Eq()], comparators=[value]))]:
            return call, value
    raise AssertionError(f"not of the form 'assert call == value': {test}")


def wrong_answers(row: Row) -> list[str]:
    """Bodies that ignore the problem: return None, a parameter, a boolean or a value that a test expects."""
    parameters = [argument.arg for argument in definition(row).args.args]
    expected = [ast.unparse(comparison(test)[1]) for test in row["test_list"]]
    return list(dict.fromkeys(["None", "True", "False", *parameters, *expected]))


class Renamed(ast.NodeTransformer):
    """Gives a function and its parameters fixed names, so that two copies of one solution look alike."""

    def __init__(self, function: ast.FunctionDef) -> None:
        parameters = [argument.arg for argument in function.args.args]
        self.names = {function.name: "f"} | {name: f"p{i}" for i, name in enumerate(parameters)}

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self.names.get(node.id, node.id), node.ctx)


def body(row: Row) -> str:
    function = definition(row)
    return ast.dump(ast.Module([Renamed(function).visit(statement) for statement in function.body], []))


def words(row: Row) -> set[str]:
    return set(row["text"].lower().rstrip(".").split())


def test_every_reference_passes_its_own_tests() -> None:
    verdicts = run([program(row, row["code"]) for row in ROWS])
    assert [row["task_id"] for row, passed in zip(ROWS, verdicts, strict=True) if not passed] == []


def test_constant_and_identity_solutions_fail() -> None:
    attempts = [
        (row, f"def {definition(row).name}({ast.unparse(definition(row).args)}):\n    return {answer}")
        for row in ROWS
        for answer in wrong_answers(row)
    ]
    verdicts = run([program(row, solution) for row, solution in attempts])
    assert [solution for (_, solution), passed in zip(attempts, verdicts, strict=True) if passed] == []


def test_the_runner_tells_wrong_from_right() -> None:
    assert run(["assert 1 == 1", "assert 1 == 2", "def f(:", "f()"]) == [True, False, False, False]


@pytest.mark.parametrize(("split", "size", "first"), [("train", 80, 1), ("validation", 32, 1001), ("test", 64, 2001)])
def test_task_ids_count_up_from_the_first_of_the_split(split: str, size: int, first: int) -> None:
    assert [row["task_id"] for row in read(split)] == list(range(first, first + size))


def test_rows_have_the_columns_of_mbpp() -> None:
    for row in ROWS:
        assert set(row) == COLUMNS
        assert (row["test_setup_code"], row["challenge_test_list"]) == ("", [])


@pytest.mark.parametrize("key", ["text", "code", "name"])
def test_no_two_problems_share_a(key: str) -> None:
    values = [definition(row).name if key == "name" else row[key] for row in ROWS]
    assert [value for value, count in Counter(values).items() if count > 1] == []


def test_no_two_problems_say_the_same_in_another_order() -> None:
    assert [(a["text"], b["text"]) for a, b in combinations(ROWS, 2) if words(a) == words(b)] == []


def test_no_two_problems_have_the_same_solution() -> None:
    by_body: dict[str, list[str]] = {}
    for row in ROWS:
        by_body.setdefault(body(row), []).append(row["text"])
    assert [texts for texts in by_body.values() if len(texts) > 1] == []


def test_texts_are_one_sentence_in_the_manner_of_mbpp() -> None:
    for row in ROWS:
        text = row["text"]
        assert text.startswith("Write a function to ") and text.endswith("."), text
        assert text == " ".join(text.split()) and '"""' not in text, text


def test_problems_have_three_different_asserts_that_call_the_reference() -> None:
    for row in ROWS:
        calls = {ast.unparse(comparison(test)[0]) for test in row["test_list"]}
        names = {ast.unparse(comparison(test)[0].func) for test in row["test_list"]}
        assert len(row["test_list"]) == len(calls) == 3, row["task_id"]
        assert names == {definition(row).name}, row["task_id"]


def test_arguments_and_expected_values_are_literals() -> None:
    for test in (test for row in ROWS for test in row["test_list"]):
        call, value = comparison(test)
        assert not call.keywords, test
        for expression in (*call.args, value):
            ast.literal_eval(expression)


def test_files_are_ascii_with_lf_line_endings() -> None:
    assert sorted(path.name for path in BASICS.glob("*.jsonl")) == sorted(f"{split}.jsonl" for split in SPLITS)
    for content in (path.read_bytes() for path in BASICS.glob("*.jsonl")):
        assert content.isascii() and b"\r" not in content
        assert content.endswith(b"}\n") and b"\n\n" not in content
    assert not any("\r" in row["code"] or "\t" in row["code"] for row in ROWS)
