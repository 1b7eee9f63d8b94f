"""Prompts, sequences and the fences around free text."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stages.contract.errors import ArtifactError
from stages.contract.prompts import (
    Parts,
    SpecialTokens,
    cap,
    escape,
    mbpp_prompt,
    parse,
    render,
    sanitize,
    unescape,
)

GOLDEN = Path(__file__).parents[2] / "golden"
TOKENS = SpecialTokens()
CODE_STYLE = SpecialTokens(feedback_open="<|lang_feedback|>", feedback_close="<|/lang_feedback|>")
SPELLS_TOKEN = re.compile(r"<\|/?\w+\|>")

# Text made of the pieces an adversary would use, and anything else Python can hold.
hostile = st.lists(
    st.sampled_from(["<", "|", "\\", "/", ">", "good", "text_feedback", "\n", "\r", "\t", "\x00", "ö", *TOKENS])
    | st.text(max_size=3),
    max_size=20,
).map("".join)
any_text = st.text(st.characters(exclude_categories=()), max_size=40)

SOLUTION = "\ndef first(xs):\n    return xs[0]\n"
PROMPT = mbpp_prompt("Write a function to return the first item.", ["assert first([1]) == 1", "assert first([2]) == 2"])
FEEDBACK = (
    "Traceback (most recent call last):\n"
    '  File "<string>", line 9, in <module>\n'
    "    assert first([]) is None\n"
    "IndexError: list index out of range\n"
)


@given(hostile)
@example("<\\|good|>")
@example("<\\\\|good|><|good|>")
@example("<|good<|good|>|>")
def test_unescape_inverts_escape(text: str) -> None:
    assert unescape(escape(text)) == text


@given(hostile)
def test_nothing_escaped_spells_a_special_token(text: str) -> None:
    escaped = escape(text)
    assert not SPELLS_TOKEN.search(escaped)
    assert not any(token in escaped for token in (*TOKENS, *CODE_STYLE, "<|endoftext|>"))


@given(st.booleans(), hostile, hostile, st.sampled_from([TOKENS, CODE_STYLE]))
def test_parse_inverts_render(passed: bool, feedback: str, text: str, tokens: SpecialTokens) -> None:
    parts = Parts(passed, "" if passed else feedback, text)
    assert parse(render(parts, tokens), tokens) == parts


@given(st.booleans(), hostile, hostile)
def test_where_a_run_has_hints_a_success_may_carry_feedback(passed: bool, feedback: str, text: str) -> None:
    parts = Parts(passed, feedback, text)
    assert parse(render(parts, TOKENS, hints=True), TOKENS, hints=True) == parts


@given(st.lists(st.sampled_from([*TOKENS, "<\\|good|>", "a", "\n"]), max_size=6).map("".join))
def test_render_inverts_parse_or_parse_refuses(sequence: str) -> None:
    try:
        parts = parse(sequence, TOKENS)
    except ArtifactError:
        return
    assert render(parts, TOKENS) == sequence


@pytest.mark.parametrize(
    ("sequence", "message"),
    [
        ("def f(): pass", "starts with <|good|> or <|bad|>"),
        ("<|bad|><|text_feedback|>no end", "never closed"),
        ("<|bad|>x<|good|>", "special token <|good|> inside free text"),
        ("<|bad|>x<|endoftext|>", "special token <|endoftext|> inside free text"),
        ("<|good|><|text_feedback|>praise<|/text_feedback|>x", "passed sample carries feedback"),
        ("<|bad|><|text_feedback|><|/text_feedback|>x", "empty feedback"),
    ],
)
def test_a_sequence_out_of_order_is_refused(sequence: str, message: str) -> None:
    with pytest.raises(ArtifactError, match=re.escape(message)):
        parse(sequence, TOKENS)


def test_a_passed_sample_with_feedback_is_refused() -> None:
    with pytest.raises(ArtifactError, match="only failures may"):
        render(Parts(True, "well done", "x"), TOKENS)


def test_no_reward_token_is_no_text() -> None:
    assert (TOKENS.reward("good"), TOKENS.reward("bad"), TOKENS.reward("none")) == ("<|good|>", "<|bad|>", "")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("prompt-mbpp.txt", PROMPT),
        ("sequence-passed.txt", render(Parts(True, "", PROMPT + SOLUTION), TOKENS)),
        ("sequence-failed.txt", render(Parts(False, FEEDBACK, PROMPT + SOLUTION), TOKENS)),
    ],
)
def test_what_a_model_reads_is_the_golden_file_to_the_byte(name: str, text: str) -> None:
    assert text.encode() == (GOLDEN / name).read_bytes()


@given(st.text(max_size=20), st.lists(st.text(max_size=20), min_size=1, max_size=4), st.integers(1, 5))
def test_the_prompt_shows_the_first_asserts_and_ends_without_a_newline(text: str, tests: list[str], shown: int) -> None:
    prompt = mbpp_prompt(text, tests, shown=shown)
    assert prompt == "\n".join(['"""', text, *tests[:shown], '"""'])


@given(hostile | any_text)
def test_sanitize_is_idempotent_and_always_encodes(text: str) -> None:
    clean = sanitize(text)
    assert sanitize(clean) == clean
    clean.encode()


@given(any_text)
def test_sanitized_text_hides_nothing(text: str) -> None:
    reorders = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    for character in sanitize(text):
        assert character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")
        assert unicodedata.bidirectional(character) not in reorders


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("a\r\nb\rc\n", "a\nb\nc\n"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\ud800", "\\ud800"),
        ("\u202eevil", "\\u202eevil"),
        ("\u061c\u00ad\u180e", "\\u061c\\xad\\u180e"),
        ("\U000e0041", "\\U000e0041"),
        ("tab\tstays, ünïcode 雪 🙂 stays", "tab\tstays, ünïcode 雪 🙂 stays"),
    ],
)
def test_sanitize_spells_what_it_takes_away(text: str, clean: str) -> None:
    assert sanitize(text) == clean


@given(st.text(max_size=60), st.integers(0, 70))
def test_cap_keeps_the_end_within_the_limit(text: str, characters: int) -> None:
    capped = cap(text, characters)
    assert len(capped) <= characters
    if len(text) <= characters:
        assert capped == text
    else:
        kept = capped.removeprefix("[...]\n")
        assert text.endswith(kept)
        assert len(kept) >= characters - len("[...]\n")
