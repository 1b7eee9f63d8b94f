"""Addresses keep their options at the end, and folders their question marks."""

from __future__ import annotations

import pytest

from stages.contract.run import Run
from stages.contract.store import address


@pytest.mark.parametrize(
    ("uri", "joined"),
    [
        ("s3://bucket", "s3://bucket/a/b"),
        ("s3://bucket/team/?region=eu-1&settle=10", "s3://bucket/team/a/b?region=eu-1&settle=10"),
        ("/data/what?/", "/data/what?/a/b"),
    ],
)
def test_what_is_joined_comes_before_the_options(uri: str, joined: str) -> None:
    assert address.join(uri, "a/b") == joined
    assert "".join(address.split(joined)) == joined


def test_a_run_in_a_folder_with_a_question_mark_is_opened_by_its_own_address() -> None:
    run = Run.open("/data/what?now/runs/r")
    assert (run.name, run.store.uri, run.uri) == ("r", "/data/what?now", "/data/what?now/runs/r")
