from __future__ import annotations

import pytest

from tests.kube.expressions import Malformed, Unresolved, decide, evaluate
from tests.kube.templating import substitute

SCOPE = {"retries": "2", "inputs.parameters.iteration": "3", "lastRetry.exitCode": "137", "lastRetry.status": "Failed",
         "lastRetry.message": "main: OOMKilled (exit code 137)", "workflow.parameters.train-nodes": "4"}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("asInt(inputs.parameters.iteration) + 1", 4),
        ("asInt(retries) < 3 ? 'Exists' : 'DoesNotExist'", "Exists"),
        ("lastRetry.status == 'Error' || asInt(lastRetry.exitCode) in [75, 137, 143]", True),
        ("lastRetry.message matches '(?i)oomkilled' && !(asInt(retries) > 5)", True),
        ("asInt(workflow.parameters['train-nodes']) * 2 - 1", 7),
        ("1 + 2 * 3 == 7 and not false", True),
        ("lastRetry.status not in ['Error', 'Skipped']", True),
        ("true ? false ? 1 : 2 : 3", 2),
    ],
)
def test_expressions_have_the_value_that_argo_gives_them(text: str, value: object) -> None:
    assert evaluate(text, SCOPE) == value


@pytest.mark.parametrize(
    "text",
    [
        "retries < 3",
        "lastRetry.exitCode in [137]",
        "retries == 2",
        "asInt('x')",
        "1 +",
        "(1",
        "sprig.int(retries)",
        "a ? b",
    ],
)
def test_what_argo_would_make_false_or_fail_on_is_an_error(text: str) -> None:
    with pytest.raises((Malformed, Unresolved)):
        evaluate(text, SCOPE)


def test_names_in_the_branch_not_taken_must_resolve_too() -> None:
    with pytest.raises(Unresolved, match=r"tasks\.plan"):
        evaluate("true ? 1 : tasks.plan.outputs.parameters.x", SCOPE)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("true == true", True),
        ("heads == tails", False),
        ("'a' != 'b' && 1 < 2", True),
        ("false || no == no", True),
    ],
)
def test_when_takes_bare_words_for_strings(text: str, value: bool) -> None:
    assert decide(text) is value


@pytest.mark.parametrize("text", ["true == 'true'", "Succeeded", "", "1"])
def test_a_when_that_is_no_decision_is_an_error(text: str) -> None:
    with pytest.raises(Malformed):
        decide(text)


def test_tags_are_replaced_wherever_strings_are() -> None:
    made = substitute({"a": ["{{retries}}/{{=asInt(retries) + 1}}"], "b": 1}, SCOPE)
    assert made == {"a": ["2/3"], "b": 1}


def test_a_tag_that_does_not_resolve_is_kept_or_an_error() -> None:
    assert substitute("{{item.part}}", SCOPE, keep=True) == "{{item.part}}"
    with pytest.raises(Unresolved, match=r"item\.part"):
        substitute("{{item.part}}", SCOPE)


def test_the_first_characters_of_a_text() -> None:
    assert evaluate("workflow.failures[:3]", {"workflow.failures": "abcdef"}) == "abc"
    assert evaluate("workflow.failures[:9]", {"workflow.failures": "abcdef"}) == "abcdef"
