"""What one machine cannot run is refused when it is submitted there."""

from __future__ import annotations

from pathlib import Path

import pytest

from leti_ctl.launch import check_machine, create
from stages.contract.errors import SpecError, UsageError
from stages.contract.spec import ExecuteSpec, RunSpec, TrainSpec


def test_training_on_several_machines_is_refused_on_one() -> None:
    without_gvisor = ExecuteSpec(sandbox="process")
    check_machine(RunSpec(execute=without_gvisor))
    with pytest.raises(SpecError, match=r"^train.nodes: 2, and this is one machine; set 1 .* --backend argo$"):
        check_machine(RunSpec(execute=without_gvisor, train=TrainSpec(nodes=2)))


NAMES = [
    "",
    ".",
    "..",
    ".a",
    "-a",
    "a/b",
    "a\\b",
    "a?b",
    "a b",
    "a\nb",
    "a\n",
    "a\x1b[2J",
    "<img>",
    "a'b",
    "a\u202eb",
    "a\0",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_runs_name_is_a_plain_word(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--name"):
        create(RunSpec(), str(tmp_path / "store"), name)
    assert not (tmp_path / "store").exists()
