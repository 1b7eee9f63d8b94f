"""From the text of an argument to the one token that stands for it: its place in the sentence, then its head word.

The official evaluator compares heads found by spaCy's dependency parse. Where spaCy and its model are installed the
parse is made once, when the problems are loaded, and travels with them; so the evaluator itself needs neither. Without
spaCy the head is found by a rule: an English noun phrase ends with its head, but for what follows it, so the head is
the last word before the first preposition, relative word, comma or bracket.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cache

Span = tuple[int, int]
"""Start and end of some tokens, the end exclusive."""
Parser = Callable[[Sequence[str]], list[int]]
"""From tokens to each token's head: the index of the token it depends on; a root is its own."""

SPACY_MODEL = "en_core_web_sm"
ARTICLES = frozenset({"a", "an", "the"})
_FOLLOWERS = """\
, ; : ( [ -- about above across after against along among around as aboard at before behind below beside between beyond
by during for from in inside into like near of off on onto outside over since than through to toward towards under until
upon via with within without who whom whose which that where when"""
FOLLOWERS = frozenset(_FOLLOWERS.split())
"""What begins the part of a noun phrase behind its head."""

log = logging.getLogger("leti")


@cache
def load_parser() -> Parser | None:
    """Return spaCy's dependency parser, or None where spaCy or its small English model is not installed."""
    try:
        import spacy
        from spacy.tokens import Doc

        nlp = spacy.load(SPACY_MODEL)
    except (ImportError, OSError):
        log.info("spaCy with %s is not installed: head words are found by rule", SPACY_MODEL)
        return None
    return lambda tokens: [token.head.i for token in nlp(Doc(nlp.vocab, words=list(tokens)))]


def find(words: Sequence[str], tokens: Sequence[str], trigger: Span) -> Span | None:
    """Return where the words stand among the tokens, of several places the one nearest the trigger."""
    if not words:
        return None
    starts = [at for at in range(len(tokens) - len(words) + 1) if list(tokens[at : at + len(words)]) == list(words)]
    if not starts:
        return None
    nearest = min(starts, key=lambda at: abs(trigger[0] - at - len(words)) if at < trigger[0] else abs(at - trigger[1]))
    return nearest, nearest + len(words)


def loosened(words: Sequence[str]) -> list[str]:
    """Return the words in lower case with hyphens as words of their own, as tokenizers of news text cut them."""
    return [
        piece
        for word in words
        for piece in (word.lower().replace("-", " - ").split() if len(word) > 1 else [word.lower()])
    ]


def without_article(span: Span, tokens: Sequence[str]) -> Span:
    """Return the span without a leading article, unless that is all there is."""
    start, end = span
    return (start + 1, end) if end - start > 1 and tokens[start].lower() in ARTICLES else span


def head(span: Span, tokens: Sequence[str], heads: Sequence[int] | None) -> int:
    """Return the index of the span's head: up the parse as far as it stays inside, or by the rule without a parse."""
    start, end = span
    if heads is None:
        return next((at - 1 for at in range(start + 1, end) if tokens[at].lower() in FOLLOWERS), end - 1)
    at = start
    while heads[at] != at and start <= heads[at] < end:
        at = heads[at]
    return at
