"""The structural check: every field known, of the right type, at any depth, and the input left as it was."""

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leti_ctl.backends.argo.check import check_structure
from leti_ctl.backends.argo.templates import workflow_template
from leti_ctl.config.profiles import load_profile, profile_names

Body = dict[str, Any]
FREE = ("labels", "annotations", "nodeSelector", "requests", "limits")
"""Mappings whose keys are the user's."""


@cache
def _rendered(profile: str) -> Body:
    return workflow_template(load_profile(profile))


def rendered(profile: str = "gke-h100") -> Body:
    body: Body = json.loads(json.dumps(_rendered(profile)))  # no part shared with another
    return body


def template(body: Body, name: str) -> Body:
    return next(each for each in body["spec"]["templates"] if each["name"] == name)


def mappings(value: Any, key: str = "") -> Iterator[tuple[str, Body]]:
    if isinstance(value, dict):
        yield key, value
        for name, item in value.items():
            yield from mappings(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from mappings(item, key)


@pytest.mark.parametrize("profile", profile_names())
def test_what_render_makes_is_accepted(profile: str) -> None:
    assert check_structure(rendered(profile)) == []


def test_the_input_is_left_as_it_was() -> None:
    body = rendered()
    before = json.dumps(body)
    check_structure(body)
    assert json.dumps(body) == before


@given(data=st.data())
@settings(max_examples=60)
def test_an_unknown_field_is_refused_in_whatever_object_it_stands(data: st.DataObject) -> None:
    body = rendered()
    objects = [found for key, found in mappings(body) if key not in FREE]
    place = data.draw(st.integers(0, len(objects) - 1))
    objects[place]["containerz"] = {}
    lines = check_structure(body)
    assert len(lines) == 1 and "containerz: is no field of" in lines[0]


def _misspell(owner: Callable[[Body], Body], right: str, wrong: str) -> Callable[[Body], None]:
    def change(body: Body) -> None:
        owner(body)[wrong] = owner(body).pop(right)

    return change


def _set(owner: Callable[[Body], Body], key: str, value: Any) -> Callable[[Body], None]:
    return lambda body: owner(body).__setitem__(key, value)


def _generate(body: Body) -> Body:
    return template(body, "generate")


def _task(body: Body) -> Body:
    found: Body = template(body, "iteration")["dag"]["tasks"][1]
    return found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_misspell(_task, "depends", "depend"), ("spec.templates[iteration].dag.tasks[", ".depend:", "depends?")),
        (_misspell(_generate, "retryStrategy", "retryStrategie"), ("[generate].retryStrategie", "retryStrategy?")),
        (_misspell(lambda b: _generate(b)["container"], "volumeMounts", "volumeMount"), ("volumeMounts?",)),
        (_misspell(lambda b: b["metadata"], "labels", "label"), ("metadata.label: ", "labels?")),
        (_set(_generate, "runtimeClassName", "gvisor"), ("runtimeClassName", "podSpecPatch")),
        (_set(_generate, "pendingTimeout", "5m"), ("pendingTimeout", "no field")),
        (_set(_generate, "activeDeadlineSeconds", 600), ("is 600, not a string; quote it",)),
        (_set(lambda b: b["spec"]["arguments"]["parameters"][3], "value", 0), ("parameters[start].value", "quote")),
        (_set(_generate, "volumes", {}), ("volumes: is {}, not a list",)),
        (_set(lambda b: _generate(b)["container"], "env", [{"value": "x"}]), ("env[0].name: is missing",)),
        (_set(lambda b: template(b, "iteration")["dag"], "failFast", "no"), ("failFast: is 'no', not true or false",)),
    ],
)
def test_a_mistake_is_named_with_its_path_and_remedy(change: Callable[[Body], None], words: tuple[str, ...]) -> None:
    body = rendered()
    change(body)
    lines = check_structure(body)
    assert len(lines) == 1 and all(word in lines[0] for word in words), lines


def test_other_kinds_are_refused_in_one_line() -> None:
    assert len(check_structure({"apiVersion": "v1", "kind": "Pod"})) == 1
    assert len(check_structure({})) == 1


def test_every_mistake_is_told_at_once() -> None:
    body = rendered()
    body["spec"]["entrypont"] = body["spec"].pop("entrypoint")
    body["spec"]["paralelism"] = 3
    assert sorted(re.findall(r"\w+\?", " ".join(check_structure(body)))) == ["entrypoint?", "parallelism?"]


def test_steps_are_lists_of_lists_and_checked_as_deep() -> None:
    body = rendered()
    (first, *_), *_ = template(body, "finish")["steps"]
    first["continueOn"] = {"faild": True}
    assert any("continueOn.faild" in line for line in check_structure(body))
