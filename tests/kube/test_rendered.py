"""The rendered manifest under the fake controller, its pods ended by hand: when iterations start, and when they end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from leti_ctl.backends.argo.templates import workflow_template
from leti_ctl.backends.argo.workflow import workflow
from leti_ctl.config.profiles import load_profile
from stages.contract.spec import RunSpec
from tests.kube.kinds import SECRETS, TEMPLATES, WORKFLOWS
from tests.kube.test_controller import Bench

PASSES = '[{"split": "test", "chains": [{"split": "test", "part": "0/1", "generate": "true"}]}]'
PLAN = {"chains": "[]", "passes": "[]", "builds": "[]", "train": "false", "evaluate-train": "false", "next": "false",
        "patient": "false"}  # fmt: skip


def part(number: int, *, generate: bool) -> dict[str, str]:
    """Return a part of the training pass as the plan step lists it."""
    return {"split": "train", "part": f"{number}/2", "generate": "true" if generate else "false"}


class Loop(Bench):
    """A run that begins with its second iteration, so that nothing is to prepare."""

    def __init__(self) -> None:
        super().__init__("{}")
        profile = load_profile("kind")
        self.objects.delete(WORKFLOWS, "leti", "w")
        self.objects.create(TEMPLATES, "leti", workflow_template(profile))
        self.objects.create(SECRETS, "leti", {"metadata": {"name": "leti-executor.service-account-token"}})
        body = workflow("demo", "s3://bucket/leti/runs/demo", RunSpec(), profile, start=1)
        body["metadata"]["name"] = "w"
        self.objects.create(WORKFLOWS, "leti", body)
        self.sync()

    def running(self) -> list[str]:
        """Return the nodes of the running pods, without what the names of all begin with."""
        return [name.removeprefix("w.iteration.").removesuffix("(0)") for name in self.pods()]

    def plan(self, place: str = "", **said: str) -> dict[str, Any]:
        return self.end(f"w.iteration.{place}plan(0)", **{**PLAN, **said})

    def done(self, node: str, code: int = 0) -> dict[str, Any]:
        return self.end(f"w.iteration.{node}(0)", code)


@pytest.fixture
def loop() -> Loop:
    return Loop()


def test_a_run_goes_on_where_it_is_told_to_and_prepares_nothing(loop: Loop) -> None:
    assert loop.phases()["w.prepare"] == "Skipped" and loop.running() == ["plan"]


def test_nothing_to_do_and_no_next_iteration_is_the_end(loop: Loop) -> None:
    loop.plan()
    assert loop.pods() == ["w.onExit[0].finalize(0)"]
    assert loop.end("w.onExit[0].finalize(0)")["phase"] == "Succeeded"


def test_held_out_passes_do_not_hold_up_the_next_iteration(loop: Loop) -> None:
    loop.plan(passes=PASSES, train="true", next="true")
    loop.done("train")
    assert len(loop.running()) == 2 and "next.plan" in loop.running()


def test_with_patience_the_next_iteration_waits_for_held_out_scores(loop: Loop) -> None:
    loop.plan(passes=PASSES, train="true", next="true", patient="true")
    loop.done("train")
    (generating,) = loop.running()
    assert generating.endswith(".generate")
    loop.done(generating)
    loop.done(generating.replace(".generate", ".execute"))
    (scoring,) = loop.running()
    assert scoring.endswith(".evaluate-test")
    loop.done(scoring)
    assert loop.running() == ["next-patient.plan"]


def test_parts_execute_while_others_generate_and_what_is_generated_is_not_again(loop: Loop) -> None:
    chains = [part(0, generate=True), part(1, generate=False)]
    loop.plan(chains=json.dumps(chains), builds='[{"part": "0/1"}]')
    first, second = loop.running()
    assert first.endswith(".generate") and second.endswith(".execute")
    loop.done(first)
    assert all(name.endswith(".execute") for name in loop.running())
    loop.done(second)
    assert not any("build" in name for name in loop.running())
    loop.done(first.replace(".generate", ".execute"))
    assert loop.running() == ["build(0:part:0/1)"]


def test_a_chain_that_fails_for_good_lets_the_others_finish_and_ends_the_run(loop: Loop) -> None:
    chains = [part(0, generate=False), part(1, generate=False)]
    loop.plan(chains=json.dumps(chains), builds='[{"part": "0/1"}]', train="true", next="true")
    first, second = loop.running()
    loop.done(first, code=65)
    assert loop.running() == [second]
    loop.done(second)
    assert loop.pods() == ["w.onExit[0].finalize(0)"]
    assert loop.end("w.onExit[0].finalize(0)")["phase"] == "Failed"
