"""What one machine cannot run is refused when it is submitted there."""

from __future__ import annotations

import pytest

from leti_ctl.launch import check_machine
from stages.contract.errors import SpecError
from stages.contract.spec import ExecuteSpec, RunSpec, TrainSpec


def test_training_on_several_machines_is_refused_on_one() -> None:
    without_gvisor = ExecuteSpec(sandbox="process")
    check_machine(RunSpec(execute=without_gvisor))
    with pytest.raises(SpecError, match=r"^train.nodes: 2, and this is one machine; set 1 .* --backend argo$"):
        check_machine(RunSpec(execute=without_gvisor, train=TrainSpec(nodes=2)))
