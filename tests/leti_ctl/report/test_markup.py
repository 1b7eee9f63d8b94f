"""Markup: whatever text is put in, the text is what a browser reads, and nothing else."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leti_ctl.report.markup import Markup, embedded, join, printable, raw, tag, text
from tests.leti_ctl.report.hostile import ATTACKS


class Reader(HTMLParser):
    """What a page says: its elements with attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data!r}")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(f"a declaration: {decl!r}")


visible = st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"]))


@given(visible)
def test_text_is_read_as_it_was_given(value: str) -> None:
    read = Reader(tag("p", value))
    assert (read.elements, read.words) == ([("p", {})], value)


@given(visible)
def test_an_attribute_is_read_as_it_was_given(value: str) -> None:
    assert Reader(tag("p", title=value)).elements == [("p", {"title": value})]


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_make_no_element(attack: str) -> None:
    names = {name for name, _ in Reader(tag("p", attack, title=attack)).elements}
    assert names <= {"p", "span"}


def test_characters_nobody_can_see_are_spelled_out() -> None:
    assert Reader(text("a\u202eb\x00c")).words == "aU+202EbU+0000c"


leaves = st.none() | st.text() | st.integers()
values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(values)
def test_embedded_json_is_the_value_and_ends_no_element(value: Any) -> None:
    written = embedded(value)
    assert json.loads(written) == value
    assert "<" not in written and written.isascii()


def test_embedded_json_has_null_for_what_json_cannot_say() -> None:
    assert json.loads(embedded({"loss": [float("nan"), 1.5, float("inf")]})) == {"loss": [None, 1.5, None]}


def test_data_for_figures_holds_no_character_that_ends_a_line_of_script() -> None:
    given_ = {"data": [{"kind": "a\u2028b", "n": 1}], "sort": ["a\u2028b"]}
    assert printable(given_) == {"data": [{"kind": "aU+2028b", "n": 1}], "sort": ["aU+2028b"]}


def test_children_may_be_nested_and_absent() -> None:
    assert join("a", [None, ("b", [Markup("<i>c</i>")])], 1) == "ab<i>c</i>1"


@pytest.mark.parametrize("content", ["</script>", "</STYLE", "<!--"])
def test_raw_content_that_would_end_its_element_is_refused(content: str) -> None:
    with pytest.raises(AssertionError):
        raw("script", content)
