"""The five checks in their order, and the counts behind precision, recall and F1, on cases worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.contract.records import Execution, Outcome, Problem
from stages.contract.spec import Split, TaskSpec
from stages.tasks import load_problems
from stages.tasks.eae import to_problem
from stages.tasks.eae.evaluator import UNREADABLE, evaluate, figures
from stages.tasks.eae.mentions import Marked, Mention
from stages.tasks.task import Judgement, Observation

SENTENCE = (
    "[The rebels of Karsa|Attacker PER] *shelled* [the airport|Target FAC] and [a bus|Target VEH] near "
    "[Anne - Marie bridge|Place FAC] with mortars while the Rebels sang ."
)


def make_problem(sentence: str = SENTENCE, event_type: str = "Conflict:Attack") -> tuple[Problem, Mention]:
    mention = Marked(event_type=event_type, sentence=sentence).to_mention(1)
    return to_problem(mention, "test", None), mention


PROBLEM, MENTION = make_problem()


def run(completion: str, problem: Problem = PROBLEM) -> Any:
    """Run a trusted completion in this process and return what the test exhibits, over the wire's JSON."""
    space: dict[str, Any] = {}
    exec("\n".join((f"{problem.program_prompt}{completion}", problem.setup, *problem.tests)), space)
    return json.loads(json.dumps(space["exhibit"]))


def judge(completion: str) -> Judgement:
    return evaluate(PROBLEM, completion, Observation("passed", None, "", run(completion)))


def complaint(completion: str) -> str:
    judgement = judge(completion)
    assert (judgement.outcome, judgement.error_type) == ("failed", "ValueError")
    assert judgement.feedback.startswith("ValueError: ") and judgement.feedback.endswith("\n")
    return judgement.feedback.removeprefix("ValueError: ").removesuffix("\n")


RIGHT = 'attacker=[PER("The rebels of Karsa")], target=[FAC("the airport"), VEH("a bus")], place=[FAC("bridge")])'


def test_the_facts_hold_head_words() -> None:
    tokens = MENTION.tokens
    assert [(tokens[at], role, kind) for at, role, kind in PROBLEM.facts["gold"]] == [  # type: ignore[union-attr,misc]
        ("rebels", "Attacker", "PER"),
        ("airport", "Target", "FAC"),
        ("bus", "Target", "VEH"),
        ("bridge", "Place", "FAC"),
    ]


@pytest.mark.parametrize(
    "completion",
    [
        PROBLEM.reference,
        RIGHT,
        RIGHT.replace("PER(", "GPE("),
        RIGHT.replace('"The rebels of Karsa"', '"THE REBELS"'),
        RIGHT.replace('"bridge"', '"Anne-Marie bridge"'),
        RIGHT.replace("target=[", "target=[FAC('a palace'), "),
        RIGHT.replace('VEH("a bus")', 'VEH("a bus"), VEH("bus")'),
        RIGHT.replace("place=[", "place=(").replace('"bridge")]', '"bridge"),)'),
    ],
)
def test_the_right_arguments_pass_however_they_are_written(completion: str) -> None:
    judgement = judge(completion)
    assert (judgement.outcome, judgement.error_type, judgement.feedback) == ("passed", None, "")
    # By role, in the order of the event's attributes.
    assert judgement.answer == "Attacker: rebels; Place: bridge; Target: airport; Target: bus"


@pytest.mark.parametrize(
    ("completion", "said"),
    [
        # 1. a role is iterable
        ('attacker=PER("x"))', "Role attacker takes a list of Entity instances, but got <class 'PER'>"),
        ("attacker=None)", "Role attacker takes a list of Entity instances, but got <class 'NoneType'>"),
        ("place=3, target=['x'])", "Role place takes a list of Entity instances, but got <class 'int'>"),
        # 2. what it holds has a name
        (
            'target=["the airport"])',
            "Role target takes a list of Entity instances with a .name attribute, but got a list of <class 'str'>",
        ),
        (
            'target="airport")',
            "Role target takes a list of Entity instances with a .name attribute, but got a list of <class 'str'>",
        ),
        (
            "target=[FAC])",
            "Role target takes a list of Entity instances with a .name attribute, but got a list of <class 'type'>",
        ),
        (
            "target=[[FAC('airport')]])",
            "Role target takes a list of Entity instances with a .name attribute, but got a list of <class 'list'>",
        ),
        ("target=[FAC(7)])", "The .name of an Entity is a string, but role target has another kind of name"),
        # The first two checks go before the others, whatever the role.
        ('attacker=[PER("airport")], target=["x"])', "Role target takes a list of Entity instances with a .name"),
        # 3. an argument is one of the event's
        ('instrument=[WEA("mortars")])', 'The identified argument "mortars" does not match any ground-truth argument'),
        # 4. in its role
        (
            'target=[PER("the rebels")])',
            'The argument "rebels" is identified successfully but assigned to the wrong role "Target"',
        ),
        # 3 and 4 are checked argument by argument.
        ('attacker=[FAC("airport")], instrument=[WEA("mortars")])', 'The argument "airport" is identified'),
        ('attacker=[PER("sang")], instrument=[PER("rebels")])', 'The identified argument "sang" does not match'),
        # 5. none is missing
        (")", "Only 0 out of 4 arguments are identified correctly: []"),
        (
            'target=[VEH("bus"), FAC("airport")])',
            "Only 2 out of 4 arguments are identified correctly: ['airport', 'bus']",
        ),
        ('target=[VEH("a castle")])', "Only 0 out of 4 arguments are identified correctly: []"),
        ('target=[VEH("")])', "Only 0 out of 4 arguments are identified correctly: []"),
        # An argument under two entity types is one argument. (Officially it counts twice, and four out of four pass.)
        (
            'target=[VEH("bus"), FAC("bus"), PER("bus"), WEA("bus")])',
            "Only 1 out of 4 arguments are identified correctly: ['bus']",
        ),
    ],
)
def test_the_first_check_that_fails_is_the_feedback(completion: str, said: str) -> None:
    assert complaint(completion).startswith(said)


@pytest.mark.parametrize(
    ("completion", "counts"),
    [
        # gold, predicted, identified, classified, hallucinated
        (RIGHT, (4, 4, 4, 4, 0)),
        (")", (4, 0, 0, 0, 0)),
        ('target=[FAC("airport"), FAC("the airport"), VEH("airport")])', (4, 2, 2, 2, 0)),
        ('attacker=[FAC("airport")], place=[WEA("mortars")])', (4, 2, 1, 0, 0)),
        ('target=[FAC("palace"), FAC("airport")], place=[FAC("moon")])', (4, 1, 1, 1, 2)),
        # A role that cannot be read leaves the others to count, and a string counts as the text it is.
        ('target=7, attacker=["rebels"], place=[3, FAC("bridge")])', (4, 2, 2, 2, 0)),
    ],
)
def test_counts_are_of_heads_roles_and_entity_types(completion: str, counts: tuple[int, ...]) -> None:
    names = ("gold", "predicted", "identified", "classified", "hallucinated")
    assert judge(completion).measures == dict(zip(names, counts, strict=True))


def test_no_more_arguments_are_right_than_there_are() -> None:
    types = ", ".join(f'{kind}("{{0}}")' for kind in ("PER", "ORG", "FAC", "VEH", "WEA", "LOC", "GPE"))
    every = ", ".join(types.format(word) for word in ("rebels", "airport", "bus", "bridge"))
    spam = judge(f"attacker=[{every}], target=[{every}], place=[{every}])").measures
    assert spam == {"gold": 4, "predicted": 84, "identified": 4, "classified": 4, "hallucinated": 0}
    assert max(scores([spam, judge(RIGHT).measures]).values()) <= 1


def test_a_role_twice_for_one_word_is_two_arguments() -> None:
    problem, mention = make_problem("[Tessaly|Entity GPE] *met* itself .", "Contact:Meet")
    twice = mention._replace(arguments=(*mention.arguments, mention.arguments[0]._replace(role="Place")))
    assert len(to_problem(twice, "test", None).facts["gold"]) == 2  # type: ignore[arg-type]
    typed = mention._replace(arguments=(*mention.arguments, mention.arguments[0]._replace(entity_type="ORG")))
    other = to_problem(typed, "test", None)
    assert evaluate(other, "", Observation("failed", "NameError", "")).measures["gold"] == 2
    again = mention._replace(arguments=(*mention.arguments, *mention.arguments))
    assert to_problem(again, "test", None).facts == problem.facts


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_every_reference_passes(split: Split) -> None:
    for problem in load_problems(TaskSpec(name="eae"), split):
        shown = Observation("passed", None, "", run(problem.reference, problem))
        assert evaluate(problem, problem.reference, shown).outcome == "passed", problem.problem_id


@pytest.mark.parametrize("outcome", ["failed", "timed_out", "out_of_memory", "output_limit"])
def test_a_program_that_fails_by_itself_keeps_its_feedback_and_predicts_nothing(outcome: Outcome) -> None:
    judgement = evaluate(PROBLEM, "", Observation(outcome, "TypeError", "TypeError: no\n"))
    assert (judgement.outcome, judgement.error_type, judgement.feedback) == (outcome, "TypeError", "TypeError: no\n")
    assert judgement.measures == {"gold": 4, "predicted": 0, "identified": 0, "classified": 0, "hallucinated": 0}
    assert judgement.answer is None


def test_an_event_that_cannot_be_shown_does_not_pass() -> None:
    judgement = evaluate(PROBLEM, "", Observation("passed", None, "", None))
    assert (judgement.outcome, judgement.feedback) == ("failed", f"ValueError: {UNREADABLE}\n")


# Scores


def execution(measures: Mapping[str, float]) -> Execution:
    return Execution(
        problem_id="p", sample=0, program_sha256="0" * 64, outcome="failed", error_type=None, feedback="",
        isolation="test", measures=dict(measures),
    )  # fmt: skip


def scores(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Sum the shares of problems with one execution each, as `evaluate` does."""
    shares = [figures(PROBLEM, [execution(row)]) for row in rows]
    return {
        name: top / bottom if (bottom := sum(share[name].denominator for share in shares)) else 0.0
        for name in shares[0]
        for top in (sum(share[name].numerator for share in shares),)
    }


def test_scores_are_ratios_of_sums() -> None:
    wrong = 'attacker=[FAC("airport")], place=[WEA("mortars"), FAC("moon")])'
    rows = [judge(text).measures for text in (RIGHT, ")", wrong)]
    # Gold 12, predicted 4 + 0 + 2; identified 4 + 0 + 1; classified 4; and one text more that is not there.
    assert scores(rows) == pytest.approx(
        {
            "arg_i_precision": 5 / 6,
            "arg_i_recall": 5 / 12,
            "arg_i_f1": 2 * (5 / 6) * (5 / 12) / (5 / 6 + 5 / 12),
            "arg_c_precision": 4 / 6,
            "arg_c_recall": 4 / 12,
            "arg_c_f1": 2 * (4 / 6) * (4 / 12) / (4 / 6 + 4 / 12),
            "hallucinated": 1 / 7,
        }
    )


counts = st.integers(0, 9)


@given(st.lists(st.tuples(counts, counts, counts), min_size=1, max_size=5))
def test_f1_is_the_harmonic_mean_of_the_summed_precision_and_recall(rows: list[tuple[int, int, int]]) -> None:
    nothing = {"classified": 0, "hallucinated": 0}
    measured = [
        {"gold": gold, "predicted": predicted, "identified": min(right, gold, predicted), **nothing}
        for gold, predicted, right in rows
    ]
    found = scores(measured)
    precision, recall = found["arg_i_precision"], found["arg_i_recall"]
    expected = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    assert found["arg_i_f1"] == pytest.approx(expected)
    assert found["arg_c_f1"] == 0.0
