"""Names: whatever a person calls a run, Kubernetes accepts what is made of it, and two runs never share it."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from leti_ctl.backends.argo import names
from stages.contract.errors import UsageError

RUN_NAMES = st.text(st.sampled_from("abcxyzABC019._-"), min_size=1, max_size=80)
LONGEST_POD = "-i9999-node-0-999-abcde"


@given(RUN_NAMES)
@example("leti-350m-no-regularization-20261121-170208-ab12")
@example("0")
@example("-")
@example("é")
def test_a_slug_is_a_dns_label_that_leaves_room_for_a_pod_of_its_jobset(name: str) -> None:
    slug = names.slug(name)
    assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", slug)
    assert len(slug) <= names.SLUG_CHARS
    assert len(slug + LONGEST_POD) <= 63


@given(st.sets(RUN_NAMES, min_size=2, max_size=2))
def test_different_runs_have_different_slugs(pair: set[str]) -> None:
    first, second = pair
    assert names.slug(first) != names.slug(second)


def test_no_name_takes_the_slug_that_another_was_given() -> None:
    given_to_another = names.slug("Demo")
    assert names.slug(given_to_another) != given_to_another
    assert given_to_another.startswith("demo-")


@given(st.from_regex(r"[a-z]([a-z0-9]|-(?=[a-z0-9])){0,20}", fullmatch=True))
def test_a_plain_name_is_its_own_slug(name: str) -> None:
    if not re.search(r"-[0-9a-f]{8}$", name):
        assert names.slug(name) == name


def test_attempts_have_names_of_their_own_and_repeat_exactly() -> None:
    assert names.workflow_name("demo", 0) == names.workflow_name("demo", 0) == "demo-0"
    assert len({names.workflow_name("demo", attempt) for attempt in range(20)}) == 20


@pytest.mark.parametrize("name", ["", "-a", "a-", "a b", "a/b", "a" * 64, "ü"])
def test_a_name_that_is_no_label_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--name"):
        names.check_run_name(name)


@pytest.mark.parametrize("name", ["a", "A.b_c-d", "a" * 63, "0"])
def test_a_name_that_is_a_label_is_taken(name: str) -> None:
    names.check_run_name(name)
