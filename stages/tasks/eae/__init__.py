"""Event argument extraction as code (paper section 3.5): complete the instantiation of an event class.

Without `task.source` the mentions are leti's own: news-like sentences made up for it, with nine kinds of events. With
a folder of Code4Struct's files they are ACE 2005's, which is what the paper measures on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stages.contract.records import Problem
from stages.contract.spec import Split, TaskSpec
from stages.tasks.eae.evaluator import PORTRAY, Facts, Gold, evaluate, figures, portrait
from stages.tasks.eae.mentions import Mention, read_code4struct, read_corpus
from stages.tasks.eae.spans import Parser, head, load_parser, without_article
from stages.tasks.task import Task

HEADER = "from __future__ import annotations"
"""Makes `List[A | B]` legal on every Python, as in the official code."""


def load(spec: TaskSpec, split: Split) -> list[Problem]:
    """Return the split's mentions in file order."""
    mentions = read_code4struct(Path(spec.source), split) if spec.source is not None else read_corpus(split)
    parser = load_parser()
    return [to_problem(mention, split, parser) for mention in mentions]


def to_problem(mention: Mention, split: Split, parser: Parser | None) -> Problem:
    """Return the mention as a problem, its gold arguments reduced to their head words."""
    heads = parser(mention.tokens) if parser else None
    lower_heads = parser([token.lower() for token in mention.tokens]) if parser else None
    facts = Facts(
        event_type=mention.event_type,
        tokens=mention.tokens,
        trigger=mention.trigger,
        gold=gold(mention, heads),
        heads=heads,
        lower_heads=lower_heads,
    )
    return Problem(
        problem_id=f"eae/{split}/{mention.number}",
        prompt=mention.prompt,
        program_prompt=headed(mention.prompt),
        setup=PORTRAY,
        tests=(portrait(mention.variable, mention.attributes),),
        reference=mention.reference,
        facts=facts.model_dump(mode="json"),
    )


def gold(mention: Mention, heads: Sequence[int] | None) -> tuple[Gold, ...]:
    """Return the arguments of a mention, each once, by place."""
    spans = [(one, without_article(one.span, mention.tokens)) for one in mention.arguments]
    return tuple(sorted({Gold(head(span, mention.tokens, heads), one.role, one.entity_type) for one, span in spans}))


def headed(prompt: str) -> str:
    """Return the prompt with the header on its first line, so that line numbers stay those the model sees."""
    first = prompt.partition("\n")[0]
    if not first:
        return HEADER + prompt
    return f"{HEADER}{'; ' if first.startswith(('from ', 'import ')) else chr(10)}{prompt}"


TASK = Task(load=load, evaluate=evaluate, figures=figures)
