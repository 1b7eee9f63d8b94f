"""Rows reckoned from other rows."""

from __future__ import annotations

from leti_ctl.report.scores import learned_rows, loss_rows
from stages.contract.records import StepLog


def test_a_mistake_is_gone_when_a_tenth_of_its_peak_is_left() -> None:
    shares = {"SyntaxError": [0.6, 0.2, 0.05], "NameError": [0.1, 0.1], "TypeError": [0.0, 0.1, 0.2]}
    rows = [
        {"pass": "test", "kind": kind, "iteration": iteration, "share": share}
        for kind, found in shares.items()
        for iteration, share in enumerate(found)
        if share
    ]
    told = {row["kind"]: row for row in learned_rows(rows)}
    assert [name for name in told if told[name]["gone"]] == ["SyntaxError", "NameError"]
    assert told["TypeError"]["first_seen"] == 1 and told["TypeError"]["peak"] == 2


def test_steps_count_over_the_run() -> None:
    logs = [StepLog(step=number, stream="fcft", loss=1.0, num_targets=3, learning_rate=1e-5) for number in range(2)]
    rows = list(loss_rows([(iteration, log) for iteration in range(2) for log in logs]))
    assert [(row["iteration"], row["step"]) for row in rows] == [(0, 0), (0, 1), (1, 2), (1, 3)]
