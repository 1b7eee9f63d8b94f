"""Where a text stands in a sentence, and which word stands for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.tasks.eae.spans import find, head, load_parser, loosened, without_article

SENTENCE = ["The", "mayor", "of", "Karsa", "met", "the", "mayor", "of", "Lorran", "in", "Karsa", "."]
MET = (4, 5)


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ("mayor", (6, 7)),  # one word from the trigger's end, where the other is two from its start
        ("The mayor", (0, 2)),
        ("Karsa", (3, 4)),
        ("mayor of", (1, 3)),  # one token before the trigger as well as behind it: the first counts
        ("mayor of Karsa", (1, 4)),
        ("karsa", None),
        ("Karsa .", (10, 12)),
        ("Karsa . .", None),
        ("", None),
    ],
)
def test_a_text_is_found_as_whole_tokens_nearest_the_trigger(words: str, place: tuple[int, int] | None) -> None:
    assert find(words.split(), SENTENCE, MET) == place


def test_of_places_equally_near_the_first_counts() -> None:
    assert find(["a"], ["a", "x", "went", "x", "a"], (2, 3)) == (0, 1)


tokens = st.lists(st.sampled_from(["a", "b", "-"]), min_size=1, max_size=9)


@given(tokens, st.data())
def test_whatever_stands_in_a_sentence_is_found_where_it_stands(sentence: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(sentence) - 1))
    end = data.draw(st.integers(start + 1, len(sentence)))
    trigger = data.draw(st.integers(0, len(sentence) - 1))
    found = find(sentence[start:end], sentence, (trigger, trigger + 1))
    assert found is not None
    assert sentence[slice(*found)] == sentence[start:end]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Anne-Marie Lund", "anne - marie lund"),
        ("U.S.-led forces", "u.s. - led forces"),
        ("two - way", "two - way"),
        ("PLAIN", "plain"),
        ("-", "-"),
    ],
)
def test_loosened_words_are_lower_case_with_hyphens_apart(text: str, pieces: str) -> None:
    assert loosened(text.split()) == pieces.split()


@pytest.mark.parametrize(
    ("text", "left"), [("the old jail", "old jail"), ("An aide", "aide"), ("a", "a"), ("old the", "old the")]
)
def test_a_leading_article_is_dropped_unless_it_is_all(text: str, left: str) -> None:
    words = text.split()
    start, end = without_article((0, len(words)), words)
    assert words[start:end] == left.split()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("president", "president"),
        ("two hundred protesters", "protesters"),
        ("the embassy of Tessaly in Marwick", "embassy"),
        ("Judge Nora Finch", "Finch"),
        ("troops , tanks", "troops"),
        ("a man who fled", "man"),
        ("of course", "course"),
    ],
)
def test_without_a_parse_the_head_stands_before_what_follows_it(text: str, word: str) -> None:
    words = ["Then", *text.split(), "rested"]
    assert words[head((1, len(words) - 1), words, None)] == word


def test_with_a_parse_the_head_is_reached_by_climbing_as_long_as_the_span_lasts() -> None:
    # the(1) old(2) jail(5) of(2) stone(3) fell(5): arrows to heads; "fell" is the root.
    words = ["the", "old", "jail", "of", "stone", "fell"]
    heads = [2, 2, 5, 2, 3, 5]
    assert words[head((0, 5), words, heads)] == "jail"
    assert words[head((3, 5), words, heads)] == "of"
    assert words[head((4, 5), words, heads)] == "stone"
    assert words[head((0, 6), words, heads)] == "fell"


@pytest.fixture
def fresh_parser() -> Iterator[None]:
    """Lets a test look for spaCy anew, and those after it too."""
    load_parser.cache_clear()
    yield
    load_parser.cache_clear()


@pytest.mark.usefixtures("fresh_parser")
def test_without_spacy_there_is_no_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    assert load_parser() is None


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_parser")
def test_spacys_parse_makes_the_noun_the_head() -> None:
    pytest.importorskip("spacy", reason="spaCy, an extra, is not installed")
    parser = load_parser()
    if parser is None:
        pytest.skip("spaCy has no en_core_web_sm; get it with `python -m spacy download en_core_web_sm`")
    words = ["Rebels", "shelled", "the", "old", "airport", "of", "Karsa", "."]
    assert words[head((2, 7), words, parser(words))] == "airport"
