"""The critical path on schedules made by hand."""

from __future__ import annotations

from leti_ctl.pipeline import Plan, Unit, plan
from leti_ctl.report.timeline import Link, Span, critical_path, path_summary
from stages.contract.spec import RunSpec


def _whole() -> Plan:
    return plan(
        RunSpec.model_validate_json('{"iterations": 1, "generate": {"parts": 2}, "evaluate": {"splits": ["test"]}}')
    )


def _named(whole: Plan) -> dict[str, Unit]:
    return {unit.id: unit for unit in whole.units}


def _played(whole: Plan, seconds: dict[str, float], late: dict[str, float]) -> dict[Unit, Span]:
    """Every unit takes a second, or what is said, and starts when all it waits for has ended, or so much later."""
    ran: dict[Unit, Span] = {}
    for unit in whole.units:
        start = max((ran[each].end for each in whole.after[unit]), default=0.0) + late.get(unit.id, 0.0)
        ran[unit] = Span(start, start + seconds.get(unit.id, 1.0))
    return ran


def test_the_path_runs_through_the_slowest_part() -> None:
    whole = _whole()
    slow = "0000-execute-train-00001-of-00002"
    ran = _played(whole, {slow: 50.0}, {})
    path = [link.unit.id for link in critical_path(whole, ran)]
    assert path == [
        "prepare", "0000-generate-train-00001-of-00002", slow, "0000-build-00000-of-00001",
        "0000-train-00000-of-00001", "0001-generate-test-00000-of-00001", "0001-execute-test-00000-of-00001",
        "0001-evaluate-test-00000-of-00001",
    ]  # fmt: skip


def test_waits_and_seconds_of_the_path_sum_up_to_the_run() -> None:
    whole = _whole()
    ran = _played(whole, {"0000-train-00000-of-00001": 20.0}, {"0000-build-00000-of-00001": 7.0})
    links = critical_path(whole, ran)
    waits = {link.unit.id: link.waited for link in links if link.waited}
    assert waits == {"0000-build-00000-of-00001": 7.0}
    told = path_summary(links, ran)
    assert told["seconds"]["waiting"] == 7.0
    assert sum(told["seconds"].values()) == told["wall_seconds"] == max(span.end for span in ran.values())


def test_a_run_that_is_not_done_has_the_path_to_what_ended_last() -> None:
    whole = _whole()
    prepare = _named(whole)["prepare"]
    assert critical_path(whole, {prepare: Span(0.0, 3.0)}) == [Link(prepare, 0.0)]
    assert critical_path(whole, {}) == []
