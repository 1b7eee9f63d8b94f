"""The rule-based evaluator of event argument extraction (paper section 3.5 and Figure 5), and its scores.

It judges the portrait that the tests make of the event a solution instantiates, apart from the solution. Five checks,
in this order, the first that fails is the feedback: every role holds something that can be iterated; of what has a
name; every argument is one of the event's; and is so in its role; none of them is missing.

Where the official evaluator depends on the order of a Python set, this one goes by role and then as the solution lists
its arguments. It also counts an argument once that a solution lists under several entity types.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, TypeAdapter

from stages.contract.records import Execution, Problem
from stages.tasks.eae.spans import Span, find, head, loosened
from stages.tasks.task import Judgement, Observation, Ratio

PORTRAY = """\
nameless = object()


def portray_entity(entity):
    name = nameless if type(entity) is str else getattr(entity, "name", nameless)
    text = entity if type(entity) is str else name
    return {
        "type": "type" if isinstance(entity, type) else type(entity).__name__,
        "named": name is not nameless,
        "text": text if type(text) is str else None,
    }


def portray_role(role, value):
    iterable = hasattr(value, "__iter__")
    entities = [portray_entity(entity) for entity in value] if iterable else []
    return {"role": role, "type": type(value).__name__, "iterable": iterable, "entities": entities}
"""
"""Runs before the test: what it draws of an event is plain data, whatever the solution put there."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Entity(_Model):
    """What an event holds in one place of one role."""

    type: str
    named: bool
    """Whether it has a name."""
    text: str | None
    """The name, or the text itself where a string stands in place of an entity."""


class Role(_Model):
    """What an event holds under one of its attributes."""

    role: str
    """In lower case."""
    type: str
    iterable: bool
    entities: tuple[Entity, ...]

    @property
    def name(self) -> str:
        """As the ontology spells it."""
        return self.role[:1].upper() + self.role[1:]


class Gold(NamedTuple):
    """An argument of the event: the index of its head word, and what it is."""

    head: int
    role: str
    entity_type: str


class Facts(_Model):
    """What the evaluator knows of a mention (`Problem.facts`)."""

    event_type: str
    tokens: tuple[str, ...]
    trigger: Span
    gold: tuple[Gold, ...]
    heads: tuple[int, ...] | None = None
    """The parse; None where spaCy was not at hand."""
    lower_heads: tuple[int, ...] | None = None
    """The parse of the sentence in lower case, in which texts are looked up that do not stand there as written."""

    def locate(self, text: str) -> int | None:
        """Return the head of the text's place in the sentence; None where the sentence has no such words."""
        words, lower = text.split(), [token.lower() for token in self.tokens]
        if span := find(words, self.tokens, self.trigger):
            return head(span, self.tokens, self.heads)
        if span := find(loosened(words), lower, self.trigger):
            return head(span, lower, self.lower_heads)
        return None


class Reading(NamedTuple):
    """The arguments that a solution names."""

    predicted: tuple[Gold, ...]
    """Each once, by role and then as listed."""
    hallucinated: int
    """Texts that are not in the sentence. As in the official evaluator they are not held against a solution."""


UNREADABLE = "The event holds too much to be read, or text that is no Unicode"


def portrait(variable: str, attributes: Sequence[str]) -> str:
    """Return the test that portrays the event of that name."""
    return f"exhibit = [portray_role(role, getattr({variable}, role, ())) for role in {tuple(attributes)!r}]"


def evaluate(problem: Problem, solution: str, observation: Observation | None) -> Judgement:
    """Judge the event a solution instantiated; a program that failed by itself keeps its own feedback."""
    assert observation is not None, "the solutions of this task are programs"
    facts = Facts.model_validate(problem.facts)
    if observation.outcome != "passed":
        nothing = measures(Reading((), 0), facts.gold)
        return Judgement(observation.outcome, observation.error_type, observation.feedback, None, nothing)
    roles = _ROLES.validate_python(observation.exhibit) if observation.exhibit is not None else None
    reading = read(roles or (), facts)
    complaint = UNREADABLE if roles is None else complain(roles, reading, facts)
    found = measures(reading, facts.gold)
    answer = "; ".join(f"{one.role}: {facts.tokens[one.head]}" for one in reading.predicted)
    if complaint is None:
        return Judgement("passed", None, "", answer, found)
    return Judgement("failed", "ValueError", f"ValueError: {complaint}\n", answer, found)


def read(roles: Iterable[Role], facts: Facts) -> Reading:
    """Return the arguments that the portrayed event names, those that can be found in the sentence."""
    predicted: dict[Gold, None] = {}
    hallucinated = 0
    for role in roles:
        for entity in role.entities:
            if entity.text is None:
                continue
            at = facts.locate(entity.text)
            if at is None:
                hallucinated += 1
            else:
                predicted[Gold(at, role.name, entity.type)] = None
    return Reading(tuple(predicted), hallucinated)


def complain(roles: Sequence[Role], reading: Reading, facts: Facts) -> str | None:
    """Return what the first failing check has to say, or None where all five hold."""
    return _misformed(roles) or _mistaken(reading, facts) or _incomplete(reading, facts)


def measures(reading: Reading, gold: Sequence[Gold]) -> dict[str, float]:
    """Return the counts behind precision and recall: an item is a head word, a role and an entity type.

    Of a mention no more count as right than it has. The official scorer has no such bound, and a solution that lists
    one argument under every entity type has a recall of several hundred percent there.
    """
    heads, pairs, most = {one.head for one in gold}, {(one.head, one.role) for one in gold}, len(set(gold))
    return {
        "gold": most,
        "predicted": len(reading.predicted),
        "identified": min(most, sum(one.head in heads for one in reading.predicted)),
        "classified": min(most, sum((one.head, one.role) in pairs for one in reading.predicted)),
        "hallucinated": reading.hallucinated,
    }


def figures(problem: Problem, executions: Sequence[Execution]) -> Mapping[str, Ratio]:
    """Return precision, recall and F1 of identification and classification, as ratios that are summed over problems.

    Beside them, which is not official, the share of a solution's texts that its sentence does not have.
    """
    counts = ("gold", "predicted", "identified", "classified", "hallucinated")
    gold, predicted, identified, classified, hallucinated = (
        sum(one.measures[name] for one in executions) for name in counts
    )
    ratios = {}
    for name, right in (("arg_i", identified), ("arg_c", classified)):
        ratios[f"{name}_precision"] = Ratio(right, predicted)
        ratios[f"{name}_recall"] = Ratio(right, gold)
        ratios[f"{name}_f1"] = Ratio(2 * right, predicted + gold)
    return {**ratios, "hallucinated": Ratio(hallucinated, predicted + hallucinated)}


def _misformed(roles: Iterable[Role]) -> str | None:
    for role in roles:
        if not role.iterable:
            return f"Role {role.role} takes a list of Entity instances, but got <class '{role.type}'>"
        for entity in role.entities:
            if not entity.named:
                wrong = f"a list of <class '{entity.type}'>"
                return f"Role {role.role} takes a list of Entity instances with a .name attribute, but got {wrong}"
            if entity.text is None:
                return f"The .name of an Entity is a string, but role {role.role} has another kind of name"
    return None


def _mistaken(reading: Reading, facts: Facts) -> str | None:
    heads, pairs = {one.head for one in facts.gold}, {(one.head, one.role) for one in facts.gold}
    for one in reading.predicted:
        if one.head not in heads:
            return f'The identified argument "{facts.tokens[one.head]}" does not match any ground-truth argument'
        if (one.head, one.role) not in pairs:
            word = facts.tokens[one.head]
            return f'The argument "{word}" is identified successfully but assigned to the wrong role "{one.role}"'
    return None


def _incomplete(reading: Reading, facts: Facts) -> str | None:
    wanted = {(one.head, one.role) for one in facts.gold}
    found = {(one.head, one.role) for one in reading.predicted}
    if found == wanted:
        return None
    words = [facts.tokens[at] for at in sorted({at for at, _ in found})]
    return f"Only {len(found)} out of {len(wanted)} arguments are identified correctly: {words}"


_ROLES = TypeAdapter(tuple[Role, ...])
