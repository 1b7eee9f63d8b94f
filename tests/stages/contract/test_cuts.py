"""Where a solution ends, rule by rule."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.contract.cuts import CUTS, cut
from stages.contract.spec import CutName


def test_a_spec_can_name_every_rule_and_no_other() -> None:
    assert get_args(CutName) == tuple(CUTS)


@given(st.sampled_from(sorted(CUTS)), st.text('\nQ:#@ "defclasprintif<|/x', max_size=60))
def test_a_rule_keeps_a_beginning_and_cuts_nothing_more_the_second_time(name: str, solution: str) -> None:
    left = cut(name, solution)
    assert solution.startswith(left)
    if name != "humaneval_official":
        assert cut(name, left) == left


@pytest.mark.parametrize(
    "stop", ["\nclass A: pass", "\nassert f()", '\n"""', "\nprint(f())", "\nif x: pass", "\n<|/text_feedback|>"]
)
def test_first_block_ends_where_a_foreign_line_begins(stop: str) -> None:
    solution = "\ndef f():\n    if True:\n        print(1)\n    return 4 / 2  "
    assert cut("first_block", solution + stop) == solution.rstrip()


def test_first_block_keeps_what_only_looks_foreign() -> None:
    solution = "\ndef f():\n    return '<' + '/'\n\ndef classy():\n    return a // b"
    assert cut("first_block", solution) == solution


@pytest.mark.parametrize(
    ("solution", "left"),
    [
        ("\ndef f(a):\n    return a / 2", "\ndef f(a):\n    return a"),
        ("\ndef f(a):\n    return a // 2\nprint(1)", "\ndef f(a):\n    return a"),
        ("\n# see http://x\ndef f(): pass", "\n# see http:"),
        ("\ndef f(): pass\n<b>", "\ndef f(): pass"),
        ("\ndef f(): pass\nif x: pass", "\ndef f(): pass"),
    ],
)
def test_the_legacy_cut_also_stops_at_the_first_slash_and_at_a_tag(solution: str, left: str) -> None:
    assert cut("first_block_legacy", solution) == left


def test_the_usual_rule_for_humaneval_keeps_the_first_block() -> None:
    assert cut("stop_words", "    return 1\n\ndef g():\n    pass\nprint(1)") == "    return 1\n"
    assert cut("stop_words", "    return 1  # one\n") == "    return 1  # one\n"


def test_the_official_rule_for_humaneval_drops_the_last_block_or_everything() -> None:
    assert (
        cut("humaneval_official", "    return 1\n\ndef g():\n    pass\nprint(1)")
        == "    return 1\n\ndef g():\n    pass"
    )
    assert cut("humaneval_official", "    return 1\n") == ""


def test_a_question_of_the_models_own_ends_its_answer() -> None:
    assert cut("question", "def solution():\n    return 1\nQ: next\n# solution") == "def solution():\n    return 1"
    assert cut("question", "it asks Q: here") == "it asks Q: here"


@pytest.mark.parametrize("stop", ['"""', "class", "print", "#"])
def test_an_event_ends_wherever_something_else_begins(stop: str) -> None:
    assert cut("event", f"agent=[PER('a')],)\nx = {stop} b") == "agent=[PER('a')],)\nx = "
