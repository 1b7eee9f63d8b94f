"""The graph: what a run's units are, and what each waits for."""

from collections import Counter

import pytest

from leti_ctl.pipeline import GRAPH, Plan, Unit, plan
from stages.contract.artifacts import Ref
from stages.contract.flow import STAGES
from stages.contract.spec import BuildSpec, EvaluateSpec, GenerateSpec, RunSpec, TrainSpec


def make_spec(**changes: object) -> RunSpec:
    parts = {"generate": GenerateSpec(parts=2), "evaluate": EvaluateSpec(parts=3, splits=("test",)), "iterations": 2}
    return RunSpec().model_copy(update={**parts, **changes})


def ancestors(whole: Plan, unit: Unit) -> set[Unit]:
    found: set[Unit] = set()
    todo = [unit]
    while todo:
        for before in whole.after[todo.pop()]:
            if before not in found:
                found.add(before)
                todo.append(before)
    return found


def test_every_stage_is_in_the_graph() -> None:
    assert {node.stage for node in GRAPH} == set(STAGES)


def test_units_are_counted_per_iteration_pass_and_part() -> None:
    counts = Counter((unit.node, unit.iteration) for unit in plan(make_spec()).units)
    assert counts[("generate-train", 0)] == counts[("execute-train", 1)] == 2
    assert counts[("generate-test", 2)] == counts[("execute-test", 0)] == 3
    assert counts[("train", 1)] == 1
    assert counts[("train", 2)] == counts[("generate-train", 2)] == 0
    assert counts[("prepare", 0)] == 1


def test_a_unit_waits_for_everything_it_reads() -> None:
    spec = make_spec()
    whole = plan(spec)
    written = {ref: unit for unit in whole.units for ref in unit.outputs(spec)}
    for unit in whole.units:
        needed = {
            ref
            for name in STAGES[unit.stage].inputs
            for ref in (Ref(name, unit.iteration, unit.split), Ref(name, unit.iteration), Ref(name))
            if ref in written
        }
        assert {written[ref].node for ref in needed} <= {before.node for before in ancestors(whole, unit)}, unit.id


def test_execute_waits_for_its_own_part_only() -> None:
    whole = plan(make_spec())
    unit = next(unit for unit in whole.units if unit.node == "execute-train" and unit.part.number == 1)
    assert [before.id for before in whole.after[unit]] == ["0000-generate-train-00001-of-00002"]


def test_evaluation_is_off_the_critical_path() -> None:
    whole = plan(make_spec())
    last = next(unit for unit in whole.units if unit.node == "train" and unit.iteration == 1)
    assert not any(unit.node.endswith("-test") or unit.stage == "evaluate" for unit in ancestors(whole, last))


def test_the_model_of_the_last_training_is_evaluated() -> None:
    whole = plan(make_spec())
    unit = next(unit for unit in whole.units if unit.node == "evaluate-test" and unit.iteration == 2)
    assert ("train", 1) in {(before.node, before.iteration) for before in ancestors(whole, unit)}


def test_starting_order_never_puts_a_unit_before_what_it_waits_for() -> None:
    whole = plan(make_spec())
    place = {unit: number for number, unit in enumerate(whole.units)}
    assert all(place[before] < place[unit] for unit in whole.units for before in whole.after[unit])


def test_training_waits_for_every_part_of_the_build() -> None:
    whole = plan(make_spec(build=BuildSpec(parts=3)))
    train = next(unit for unit in whole.units if unit.node == "train" and unit.iteration == 1)
    waited_for = [unit for unit in whole.after[train] if unit.node == "build"]
    assert [str(unit.part) for unit in waited_for] == ["0/3", "1/3", "2/3"]
    judged = {unit for unit in whole.units if unit.node == "execute-train" and unit.iteration == 1}
    assert all(set(whole.after[unit]) == judged for unit in waited_for)


def test_only_pretraining_samples_nothing_for_training() -> None:
    units = plan(make_spec(train=TrainSpec(objective="pretraining"))).units
    assert not any(unit.node in ("generate-train", "execute-train", "build", "evaluate-train") for unit in units)
    assert {unit.iteration for unit in units if unit.node == "train"} == {0, 1}


def test_each_temperature_is_a_pass_of_its_own() -> None:
    units = plan(make_spec(evaluate=EvaluateSpec(temperatures=(0.2, 0.6), splits=("test",)))).units
    assert {unit.split for unit in units if unit.node == "evaluate-test"} == {"test-t0.2", "test-t0.6"}


def test_unit_ids_are_unique() -> None:
    units = plan(make_spec(evaluate=EvaluateSpec(splits=("validation", "test")))).units
    assert len({unit.id for unit in units}) == len(units)


@pytest.mark.parametrize("iterations", [1, 12])
def test_the_iterations_of_a_longer_run_begin_with_those_of_a_shorter(iterations: int) -> None:
    shorter = plan(make_spec(iterations=iterations))
    longer = plan(make_spec(iterations=iterations + 3))
    assert set(shorter.units) <= set(longer.units)


def test_arguments_are_the_container_command() -> None:
    unit = next(unit for unit in plan(make_spec()).units if unit.node == "generate-train")
    expected = "stages.generate --run s3://b/runs/r --iteration 0 --split train --part 0/2"
    assert " ".join(unit.arguments("s3://b/runs/r")) == expected
