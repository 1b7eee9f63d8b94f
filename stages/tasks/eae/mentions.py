"""Event mentions: a sentence, its trigger and the arguments of the event, from our own corpus or from Code4Struct's.

Our own corpus marks up the sentence: `[Gunmen|Attacker PER] *ambushed* [a patrol|Target ORG] .` is a line with two
arguments, each with its role and entity type, around a trigger. Code4Struct's files (Wang et al. 2023, arXiv
2210.12810) carry ACE 2005, which is licensed and not distributed: its README says how to make them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

from stages.contract.errors import UsageError
from stages.contract.spec import Split
from stages.tasks import rows
from stages.tasks.eae import ontology
from stages.tasks.eae.spans import Span

CORPUS = Path(__file__).parent
INSTRUCTION = (
    '"""\nTranslate the sentence below into an instance of {child}. '
    'The words that trigger the event stand between **double asterisks**.\n"{sentence}"\n"""\n'
)
_MARKED = re.compile(r"\[(?P<argument>[^|\]]+)\|(?P<role>\w+) (?P<entity>\w+)\]|\*(?P<trigger>[^*]+)\*|(?P<word>\S+)")


class Argument(NamedTuple):
    """One argument of an event: some tokens of its sentence."""

    role: str
    entity_type: str
    span: Span


class Mention(NamedTuple):
    """One event in one sentence, and the prompt that asks for it."""

    number: str
    """Of the mention within its split."""
    event_type: str
    tokens: tuple[str, ...]
    trigger: Span
    arguments: tuple[Argument, ...]
    prompt: str
    """Classes, instruction, sentence, and the line that begins the instance."""
    variable: str
    """The name that line gives the instance."""
    attributes: tuple[str, ...]
    """What an instance carries: roles in lower case."""
    reference: str
    """What completes the prompt to the right instance."""


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class Marked(_Row):
    """A line of our own corpus."""

    event_type: str
    sentence: str

    def to_mention(self, number: int) -> Mention:
        """Return the mention; `ValueError` where the mark-up is wrong."""
        tokens: list[str] = []
        arguments: list[Argument] = []
        triggers: list[Span] = []
        for match in _MARKED.finditer(self.sentence):
            words = (match["argument"] or match["trigger"] or match["word"]).split()
            span = len(tokens), len(tokens) + len(words)
            tokens += words
            if match["argument"]:
                arguments.append(Argument(match["role"], match["entity"], span))
            elif match["trigger"]:
                triggers.append(span)
        if len(triggers) != 1:
            raise ValueError(f"sentence: one *trigger* is needed, got {len(triggers)}")
        return Mention(
            str(number),
            self.event_type,
            tuple(tokens),
            triggers[0],
            tuple(arguments),
            prompt=_prompt(self.event_type, tokens, triggers[0]),
            variable=ontology.variable(self.event_type),
            attributes=ontology.load().attributes(self.event_type),
            reference=completion(tokens, arguments),
        )


class _Trigger(_Row):
    start: NonNegativeInt
    end: NonNegativeInt

    @property
    def span(self) -> Span:
        return self.start, self.end


class _Filler(_Row):
    entity_id: str
    role: str


class _Event(_Row):
    event_type: str
    trigger: _Trigger
    arguments: tuple[_Filler, ...]


class _Entity(_Trigger):
    id: str
    entity_type: str


class Code4Struct(_Row):
    """A line of Code4Struct's processed ACE 2005 (version 6.4, with marked triggers); other columns are ignored."""

    line_idx: NonNegativeInt
    event_idx: NonNegativeInt
    parent_cls_name: str
    cur_cls_name: str = Field(pattern=r"^[^\W\d]\w*$")
    """Also in the name of the instance, which the tests read."""
    sentence: str
    code_context: str
    full_prompt: str
    instantiation_prompt: str
    gt_instance_code: str
    event_mentions: tuple[_Event, ...]
    entity_mentions: tuple[_Entity, ...]

    def to_mention(self, number: int) -> Mention:
        """Return the mention; `ValueError` where the row speaks of an event or an entity that it does not hold."""
        if self.event_idx >= len(self.event_mentions):
            raise ValueError(f"event_idx: the row has {len(self.event_mentions)} event_mentions, got {self.event_idx}")
        event = self.event_mentions[self.event_idx]
        entities = {entity.id: entity for entity in self.entity_mentions}
        if unknown := [one.entity_id for one in event.arguments if one.entity_id not in entities]:
            raise ValueError(f"entity_mentions: no entity has the id {unknown[0]!r}")
        fillers = [(one.role, entities[one.entity_id]) for one in event.arguments]
        tokens, trigger = self.sentence.split(), event.trigger.span
        for name, span in (("trigger", trigger), *((entity.id, entity.span) for _, entity in fillers)):
            if not span[0] < span[1] <= len(tokens):
                raise ValueError(f"sentence: has {len(tokens)} tokens, and {name} is {span[0]} to {span[1]} of them")
        return Mention(
            f"{self.line_idx}-{self.event_idx}",
            event.event_type,
            unmarked(tokens, trigger),
            trigger,
            tuple(Argument(role, entity.entity_type, entity.span) for role, entity in fillers),
            prompt=self.full_prompt,
            variable=f"{self.cur_cls_name.lower()}_event",
            attributes=_assigned(self.code_context, self.parent_cls_name),
            reference=self.gt_instance_code.removeprefix(self.instantiation_prompt),
        )


def read_corpus(split: Split) -> list[Mention]:
    """Return the mentions of our own corpus."""
    return list(_read(CORPUS / f"{split}.jsonl", Marked))


def read_code4struct(folder: Path, split: Split) -> list[Mention]:
    """Return the mentions of the one file in the folder whose name ends in the split's: `eae-v6.4-train.jsonl`."""
    ending = {"train": "train", "validation": "dev", "test": "test"}[split]
    found = sorted(folder.glob(f"*{ending}.jsonl"))
    if len(found) != 1:
        raise UsageError(
            f"task.source: {folder} has {len(found)} files *{ending}.jsonl; name a folder with one of Code4Struct's"
        )
    return list(_read(found[0], Code4Struct))


def unmarked(tokens: list[str], trigger: Span) -> tuple[str, ...]:
    """Return the tokens without the asterisks around the trigger."""
    start, end = trigger
    bare = [
        (token.removeprefix("**") if at == start else token).removesuffix("**" if at == end - 1 else "")
        for at, token in enumerate(tokens)
    ]
    return tuple(bare)


def completion(tokens: list[str], arguments: list[Argument]) -> str:
    """Return the source that completes a prompt to the instance with these arguments, roles in order."""
    lines = []
    for role in sorted({argument.role for argument in arguments}):
        filled = (one for one in arguments if one.role == role)
        items = (f"        {one.entity_type}({_quoted(' '.join(tokens[slice(*one.span)]))}),\n" for one in filled)
        lines.append(f"    {role.lower()}=[\n{''.join(items)}    ],\n")
    return "".join(lines) + ")\n"


def _prompt(event_type: str, tokens: list[str], trigger: Span) -> str:
    marked = list(tokens)
    marked[trigger[0]] = "**" + marked[trigger[0]]
    marked[trigger[1] - 1] += "**"
    child = ontology.class_names(event_type)[1]
    instruction = INSTRUCTION.format(child=child, sentence=" ".join(marked))
    return ontology.load().classes(event_type) + "\n\n" + instruction + ontology.instantiation(event_type)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _assigned(classes: str, name: str) -> tuple[str, ...]:
    """Return the attributes that the class of that name gives itself, in order."""
    try:
        tree = ast.parse(classes)
    except (MemoryError, RecursionError):
        raise ValueError("code_context: is nested too deeply to be parsed") from None
    found = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    if not found:
        raise ValueError(f"code_context: defines no class {name!r}, which parent_cls_name names")
    stored = [
        node for node in ast.walk(found[0]) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    ]
    return tuple(node.attr for node in stored)


def _read(path: Path, kind: type[Marked] | type[Code4Struct]) -> Iterator[Mention]:
    seen: set[str] = set()
    for number, row in enumerate(rows.read_file(str(path), kind, benchmark="Code4Struct"), 1):
        try:
            mention = row.to_mention(number)
            if mention.number in seen:
                raise ValueError(f"line_idx: {mention.number} (line_idx-event_idx) stands twice")
        except (ValueError, SyntaxError) as error:
            raise UsageError(f"{path}, line {number}: {error}; correct the line") from error
        seen.add(mention.number)
        yield mention
