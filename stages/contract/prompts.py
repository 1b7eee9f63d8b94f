"""Every string a model sees, and the special tokens between them. Pure functions; `parse` inverts `render`.

A training sequence (paper section 2.3) is, with no separator anywhere:

    <|good|> prompt solution
    <|bad|> <|text_feedback|> feedback <|/text_feedback|> prompt solution

Two fences keep text that a candidate produced from posing as a special token: here every `<|name|>` in free text gets
a backslash (`<\\|name|>`, undone by `unescape`), and `build` tokenises free text with special tokens switched off.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from stages.contract.errors import ArtifactError
from stages.contract.records import RewardToken

_SPECIAL = re.compile(r"<(\\*)\|(/?\w+)\|>")
_ESCAPED = re.compile(r"<\\(\\*)\|(/?\w+)\|>")
# Everything a terminal or a tokenizer could act on, or a reader cannot see: control, bidirectional, zero-width and tag
# characters, line separators, lone surrogates. Newline and tab are ordinary in program text.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_PARTS = re.compile(r"<\|(/?\w+)\|>")


class SpecialTokens(NamedTuple):
    """The four tokens LETI adds, spelled `<|name|>`, in the order they are given ids."""

    bad: str = "<|bad|>"
    good: str = "<|good|>"
    feedback_open: str = "<|text_feedback|>"
    feedback_close: str = "<|/text_feedback|>"

    def reward(self, token: RewardToken) -> str:
        """Return the string that stands before a prompt: the good or bad token, or nothing."""
        return {"good": self.good, "bad": self.bad, "none": ""}[token]


class Parts(NamedTuple):
    """The parts of one training sequence; `text` is prompt and solution together."""

    passed: bool
    feedback: str
    text: str


def mbpp_prompt(text: str, tests: Sequence[str], *, shown: int = 1) -> str:
    """Return MBPP's prompt: a docstring of the description and the first `shown` asserts, with no final newline.

    The model itself must write the newline that ends the docstring's line (reference format of the paper's runs).
    """
    return '"""\n' + "\n".join([text, *tests[:shown]]) + '\n"""'


def escape(text: str) -> str:
    """Return `text` with one backslash more in everything that spells a special token; `unescape` is the inverse."""
    return _SPECIAL.sub(r"<\1\\|\2|>", text)


def unescape(text: str) -> str:
    """Return what `escape` was given."""
    return _ESCAPED.sub(r"<\1|\2|>", text)


def sanitize(text: str) -> str:
    """Return feedback fit for a training row: one line end, visible control characters, no lone surrogates.

    CR LF and CR become LF; other control, bidirectional and zero-width characters and lone surrogates become their
    Python escapes, so that nothing hides in a row and the text always encodes as UTF-8.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _HIDDEN.sub(lambda match: _python_escape(match.group()), text)


def cap(text: str, characters: int) -> str:
    """Return at most `characters` of `text`, keeping its end: the last lines of a traceback say what went wrong."""
    if len(text) <= characters:
        return text
    mark = "[...]\n"
    if characters <= len(mark):
        return text[len(text) - characters :]
    return mark + text[len(text) - characters + len(mark) :]


def render(parts: Parts, tokens: SpecialTokens, *, hints: bool = False) -> str:
    """Return the training sequence as text, free text escaped; for people, goldens and `parse`.

    A success carries feedback only in a run whose spec has hints (`task.hint`).
    """
    if parts.passed and parts.feedback and not hints:
        raise ArtifactError("a passed sample carries feedback; only failures may")
    reward = tokens.good if parts.passed else tokens.bad
    block = f"{tokens.feedback_open}{escape(parts.feedback)}{tokens.feedback_close}" if parts.feedback else ""
    return f"{reward}{block}{escape(parts.text)}"


def parse(sequence: str, tokens: SpecialTokens, *, hints: bool = False) -> Parts:
    """Return the parts of a rendered sequence; `ArtifactError` where special tokens stand out of place."""
    reward = next((token for token in (tokens.good, tokens.bad) if sequence.startswith(token)), None)
    if reward is None:
        raise ArtifactError(f"a sequence starts with {tokens.good} or {tokens.bad}, got {sequence[:20]!r}")
    rest, feedback = sequence.removeprefix(reward), ""
    if rest.startswith(tokens.feedback_open):
        feedback, closed, rest = rest.removeprefix(tokens.feedback_open).partition(tokens.feedback_close)
        if not closed:
            raise ArtifactError(f"{tokens.feedback_open} is never closed by {tokens.feedback_close}")
        if reward == tokens.good and not hints:
            raise ArtifactError("a passed sample carries feedback; only failures may")
        if not feedback:
            raise ArtifactError("empty feedback is written as no block at all")
    for free in (feedback, rest):
        if stray := next((m.group() for m in _PARTS.finditer(free)), None):
            raise ArtifactError(f"special token {stray} inside free text")
    return Parts(reward == tokens.good, unescape(feedback), unescape(rest))


def _python_escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
