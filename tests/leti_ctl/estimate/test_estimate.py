"""An estimate is arithmetic on a table: the formula by hand, the clock against other ways to reckon it, real runs."""

from __future__ import annotations

import json
import os
import struct
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from leti_ctl import estimate as reckoning
from leti_ctl import presets
from leti_ctl.commands.estimate import estimate as command
from leti_ctl.config import profiles, specs
from leti_ctl.estimate import layout, work
from leti_ctl.estimate.clock import finish_time
from leti_ctl.estimate.ranges import Range
from leti_ctl.estimate.rates import Rates, load_rates
from leti_ctl.pipeline import Plan, Unit, plan
from stages.contract.artifacts import Input, Made
from stages.contract.errors import LetiError, SpecError, UsageError
from stages.contract.run import Commit, Run
from stages.contract.spec import RunSpec, TaskSpec
from stages.tasks import load_problems
from tests.conftest import ROOT
from tests.leti_ctl.parts import finish, make_run

GOLDEN = ROOT / "tests" / "golden" / "estimate"
MBPP = ROOT.parent / "shared" / "data" / "mbpp.jsonl"
TWO_CORES = layout.Layout("two cores", dict.fromkeys(profiles.POOLS, layout.Pool("cpu", 2, 2, "free", False, None)),
                          {"accelerator": 1, "sandbox": 1, "light": 2}, plans=False)  # fmt: skip

ranges = st.lists(st.floats(0.001, 1e6), min_size=3, max_size=3).map(lambda values: Range(*sorted(values)))


def spec_of(preset: str, *overrides: str) -> RunSpec:
    return specs.load_spec(preset=preset, file=None, overrides=overrides, iterations=None)


def exact(rates: Rates, **values: float) -> Rates:
    """Return the table with every figure taken at its likely value, or at the one given."""
    figures = {
        name: one.model_copy(update={"range": (values.get(name, one.range[1]),) * 3})
        for name, one in rates.figures.items()
    }
    return rates.model_copy(update={"figures": figures})


def estimate_of(spec: RunSpec, where: layout.Layout, rates: Rates | None = None) -> reckoning.Estimate:
    table = rates or load_rates()
    return reckoning.estimate(spec, where, table, work.count_parameters(spec.model.source, table))


def seconds_of(spec: RunSpec, node: str, where: layout.Layout, rates: Rates) -> float:
    unit = next(unit for unit in plan(spec).units if unit.node == node)
    amounts = work.Work(spec, rates, work.count_parameters(spec.model.source, rates))
    return work.unit_seconds(unit, amounts, where).likely


@given(ranges, ranges)
def test_arithmetic_keeps_low_below_likely_below_high(one: Range, other: Range) -> None:
    for made in (one + other, one * other, one / other):
        assert made.low <= made.likely <= made.high


def test_generation_takes_its_tokens_over_its_rate_after_reading_the_model() -> None:
    rates = exact(load_rates(), solution_share=0.5, store_rate=100, generate_start=6)
    spec = spec_of("quickstart", "generate.parts=2")
    # 12 problems x 3 samples x 24 tokens on 2 cores of 50 tokens/s; 134.5 M parameters of 4 bytes at 100 MB/s.
    tokens = 12 * 3 * 24 / (2 * 50)
    assert seconds_of(spec, "generate-train", TWO_CORES, rates) == pytest.approx(6 + tokens + 134_515_008 * 4 / 100e6)


def test_training_takes_both_streams_and_its_state_in_out_and_between() -> None:
    rates = exact(load_rates(), prompt_tokens=100, solution_share=0.5, feedback_tokens=50, failed_share=0.8,
                  store_rate=1000, train_start=10)  # fmt: skip
    spec = spec_of("quickstart", "train.checkpoint_steps=3")
    examples = 72 * (100 + 24 + 40)  # 24 problems x 3 samples, one epoch
    steps = 72 // 16
    tokens = examples + steps * 4 * 128
    moved = (2 + (2 * steps - 1) // 3) * 134_515_008 * (4 + 8) / 1000e6
    found = seconds_of(spec, "train", TWO_CORES, rates)
    assert found == pytest.approx(10 + moved + tokens / (2 * 45))


def test_a_loop_holds_its_core_until_the_limit() -> None:
    rates = exact(load_rates(), gvisor_executions=100, timed_out_share=0.5, execute_start=0)
    spec = spec_of("quickstart", "execute.timeout_seconds=4")
    assert seconds_of(spec, "execute-train", TWO_CORES, rates) == pytest.approx(72 / 200 + 36 * 4 / 2)


def test_fp32_is_slower_than_bf16_and_more_devices_are_faster() -> None:
    where = layout.of_profile(
        profiles.load_profile("gke-h100"), spec_of("leti-350m", "train.processes=8"), load_rates()
    )
    fast, slow, alone = (
        seconds_of(spec_of("leti-350m", *overrides), "train", where, load_rates())
        for overrides in (["train.processes=8"], ["train.processes=8", "train.precision=fp32"], ["train.processes=1"])
    )
    assert fast < alone and fast < slow


def longest_path(whole: Plan, seconds: dict[Unit, float]) -> float:
    @cache
    def end(unit: Unit) -> float:
        return seconds[unit] + max((end(before) for before in whole.after[unit]), default=0.0)

    return max(map(end, whole.units))


@settings(max_examples=30)
@given(st.integers(1, 3), st.integers(1, 3), st.lists(st.integers(1, 50), min_size=1, max_size=30))
def test_with_room_for_all_the_clock_is_the_longest_path_and_with_one_place_the_sum(
    iterations: int, parts: int, times: list[int]
) -> None:
    spec = spec_of("quickstart", f"iterations={iterations}", f"generate.parts={parts}", f"evaluate.parts={parts}")
    whole = plan(spec)
    seconds = {unit: float(times[number % len(times)]) for number, unit in enumerate(whole.units)}
    assert finish_time(whole, seconds, lambda _: "any", {}) == longest_path(whole, seconds)
    assert finish_time(whole, seconds, lambda _: "one", {"one": 1}) == sum(seconds.values())
    two = finish_time(whole, seconds, lambda _: "two", {"two": 2})
    assert max(longest_path(whole, seconds), sum(seconds.values()) / 2) <= two <= sum(seconds.values())


def test_the_measured_quickstart_lies_within_its_estimate() -> None:
    found = estimate_of(spec_of("quickstart", "evaluate.splits=[test]"), TWO_CORES)
    # As committed by a run of 2026-11-21 on the machine that the table's figures were measured on.
    measured = {"prepare": 34.3, "generate": 200.9, "execute": 15.7, "build": 2.3, "train": 280.4}
    for stage, seconds in measured.items():
        span = found.stages[stage].seconds
        assert span.low <= seconds <= span.high, stage
    assert found.store_bytes.low <= 3_776_000_000 * 1.01 and found.store_bytes.high >= 3_776_000_000 * 0.99


def test_pods_are_the_graphs_units_and_on_argo_a_plan_for_each_iteration_and_the_last_scoring() -> None:
    spec = spec_of("leti-350m", "train.nodes=2", "iterations=3")
    units = plan(spec).units
    here = estimate_of(spec, TWO_CORES).as_dict()["total"]["pods"]
    there = estimate_of(spec, layout.of_profile(profiles.load_profile("gke-h100"), spec, load_rates()))
    assert here == len(units) + 3
    assert there.as_dict()["total"]["pods"] == len(units) + 3 + 4
    assert there.stages["plan"].accelerator_hours.high == 0


@pytest.mark.parametrize("profile", profiles.profile_names())
def test_every_profile_can_be_reckoned_with(profile: str) -> None:
    loaded = profiles.load_profile(profile)
    table = load_rates()
    tpu = (
        ("train.engine=torch", "generate.engine=static", "train.nodes=4", "train.processes=4")
        if loaded.accelerator == "tpu"
        else ()
    )
    spec = spec_of("leti-350m", "iterations=2", *tpu)
    if any(pool.device and pool.device.model not in table.accelerators for pool in loaded.pools.values()):
        with pytest.raises(UsageError, match="--rates FILE"):
            estimate_of(spec, layout.find(loaded, spec, table))
        return
    found = estimate_of(spec, layout.find(loaded, spec, table)).as_dict()
    total = found["total"]
    assert 0 < total["seconds"]["low"] < total["seconds"]["likely"] < total["seconds"]["high"]
    assert (total["accelerator_hours"]["low"] > 0) == (loaded.accelerator != "none")
    assert (total["dollars"]["low"] > 0) == (loaded.platform in ("gke", "eks"))


def test_the_table_knows_every_presets_model_and_task() -> None:
    table = load_rates()
    for name in presets.names():
        spec = spec_of(name)
        assert work.count_parameters(spec.model.source, table) > 1e6
        passes = spec.passes() if spec.trains() else spec.passes()[1:]
        assert {one.split for one in passes} <= table.problems[spec.task.name].keys()


@pytest.mark.parametrize("task", ["basics", "mbpp"])
def test_the_table_counts_problems_as_the_tasks_do(task: Any) -> None:
    if task == "mbpp" and not MBPP.is_file():
        pytest.skip(f"needs {MBPP}")
    source = str(MBPP) if task == "mbpp" else None
    counts = {split: len(load_problems(TaskSpec(name=task, source=source), split)) for split in ("train", "test")}
    assert counts.items() <= load_rates().problems[task].items()


def test_a_folders_parameters_are_counted_from_its_headers(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[3,4],"data_offsets":[0,48]},"__metadata__":{"format":"pt"}}'
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(48))
    assert work.count_parameters(str(tmp_path), load_rates()) == 12


def test_an_unknown_model_asks_for_its_size() -> None:
    with pytest.raises(UsageError, match="--parameters N"):
        work.count_parameters("someone/something", load_rates())


def test_a_measured_anchor_goes_before_the_model_and_is_scaled_by_size(tmp_path: Path) -> None:
    mine = tmp_path / "rates.yaml"
    mine.write_text("accelerators: {h100: {generate: {parameters: 1000000, range: [10, 20, 30], kind: measured, "
                    "source: my node}}}\n")  # fmt: skip
    rates = load_rates(mine)
    assert rates.generate_rate("h100", 2_000_000, vllm=False) == Range(5, 10, 15)
    assert rates.accelerators["h100"].bf16_tflops == 989
    assert rates.train_rate("h100", 10**9, bf16=True) == load_rates().train_rate("h100", 10**9, bf16=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("figures: {store_rate: {range: [3, 2, 1]}}", ("store_rate", "ascending")),
        ("figures: {store_rate: {rnage: [1, 2, 3]}}", ("figures.store_rate.rnage", "unknown")),
        ("figures: {train_mfu: {kind: guessed}}", ("train_mfu.kind", "guessed")),
        ("accelerators: {b200: {unit: GPU}}", ("bandwidth_gb",)),
        ("- a list", ("a table of rates", "mapping")),
    ],
)
def test_a_wrong_table_is_refused_in_one_line(text: str, words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises((SpecError, UsageError)) as caught:
        load_rates(tmp_path / "mine.yaml")
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value), caught.value


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", ("--preset", "-f")),
        ("--preset quickstart --profile gke-l5", ("gke-l5", "did you mean gke-l4")),
        ("--preset quickstart --rates absent.yaml", ("--rates", "absent.yaml")),
        ("--preset quickstart --like store", ("store", "STORE/runs/NAME")),
        ("--preset quickstart --profile gke-tpu-v6e", ("train.engine", "TPU")),
        ("--preset quickstart --set model.source=some/model", ("some/model", "--parameters")),
    ],
)
def test_a_mistake_is_one_line_with_the_remedy(arguments: str, words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(command, arguments.split())
    assert isinstance(done.exception, LetiError) and all(word in str(done.exception) for word in words), done.exception


def test_what_a_person_should_know_is_said() -> None:
    pools = profiles.load_profile("gke-h100")
    wasteful = spec_of("leti-2b", "train.checkpoint_steps=10", "stop.max_gpu_hours=1")
    frugal = spec_of("leti-2b", "train.checkpoint_steps=5000", "train.processes=8")
    said, silent = (
        reckoning.advice(spec, estimate_of(spec, layout.find(pools, spec, load_rates())), pools)
        for spec in (wasteful, frugal)
    )
    assert [line.split()[0] for line in said] == ["stop.max_gpu_hours", "train.checkpoint_steps", "train.processes"]
    assert silent == []


def test_this_machines_gpus_are_reckoned_with(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"0000:0{number}:00.0").mkdir()
        (tmp_path / f"0000:0{number}:00.0" / "information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ: 1\n")
    where = layout.this_machine(tmp_path)
    assert (where.pools["train"].accelerator, where.pools["train"].devices) == ("h100", 2)
    assert where.pools["sandbox"].accelerator == "cpu" and "2 x h100" in where.name
    assert layout.local_gpus(tmp_path / "absent") == []
    spec = spec_of("leti-350m", "iterations=1", "train.processes=2")
    assert estimate_of(spec, where).as_dict()["total"]["accelerator_hours"]["likely"] > 0


def test_the_contexts_profile_counts_where_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.yaml").write_text("current: c\ncontexts: {c: {backend: argo, profile: gke-l4}}\n")
    monkeypatch.setenv("LETI_CONFIG", str(tmp_path / "config.yaml"))
    done = CliRunner().invoke(command, ["--preset", "quickstart", "--json"])
    assert json.loads(done.output)["backend"] == "argo, profile gke-l4"
    monkeypatch.setenv("LETI_BACKEND", "local")
    done = CliRunner().invoke(command, ["--preset", "quickstart", "--json"])
    assert json.loads(done.output)["backend"].startswith("local")


def test_actuals_add_up_what_parts_recorded(tmp_path: Path) -> None:
    run = make_run(tmp_path / "store")
    units = [unit for unit in plan(run.spec).units if unit.iteration == 0 and unit.stage in ("generate", "train")]
    for unit in units:
        finish(run, unit, tmp_path, seconds=1800, accelerators=4)
    found = reckoning.actuals(run)
    trained = {"parts": 1, "seconds": 1800.0, "accelerator_hours": 2.0}
    assert found["stages"] == {"generate": {"parts": 3, "seconds": 5400.0, "accelerator_hours": 6.0}, "train": trained}
    assert found["total"] == {"parts": 4, "seconds": 7200.0, "accelerator_hours": 8.0}


def commit(run: Run, unit: Unit, scratch: Path, rows: int, facts: dict[str, int], **counters: float) -> None:
    """Commit a unit whose stage counted so much."""
    made = Made(started_at="2026-01-01T00:00:00+00:00", seconds=100.0, host="h", counters=counters)
    for ref in unit.outputs(run.spec):
        (scratch / "empty.bin").write_bytes(b"")
        files = {scratch / "empty.bin": rows}
        run.commit(Commit(ref, unit.part, files, (Input(ref="made", sha256="0" * 64),), 7, made, facts))


def measured_run(tmp_path: Path, accelerators: float) -> Run:
    """A run of one training pass in two parts, one held-out pass and one training."""
    run = make_run(tmp_path / "store", iterations=1)
    limit = run.spec.generate.max_new_tokens
    held = {"accelerators": accelerators} if accelerators else {}
    for unit in plan(run.spec).units:
        if unit.iteration == 0 and unit.stage == "generate":
            tokens = {"train": 8 * limit, "test": 2 * limit}[unit.split]
            commit(run, unit, tmp_path, 10, {}, tokens=tokens, generate_seconds=10.0 + unit.part.number * 10, **held)
        if unit.iteration == 0 and unit.stage == "execute":
            commit(run, unit, tmp_path, 10, {"num_passed": 4}, executions=10, execute_seconds=0.05)
        if unit.stage == "train":
            commit(run, unit, tmp_path, 0, {}, tokens=9000, train_seconds=10.0, **held)
    return run


def test_an_earlier_runs_speeds_take_the_place_of_the_tables(tmp_path: Path) -> None:
    run = measured_run(tmp_path, accelerators=4.0)
    spec = spec_of("quickstart")
    where = layout.of_profile(profiles.load_profile("gke-h100"), spec, load_rates())
    found = reckoning.like(run, where, load_rates())
    limit = run.spec.generate.max_new_tokens
    smol = 134_515_008
    # Three parts: 8 limits in 10 s, 8 in 20 s and 2 in 10 s, each on one of its accelerators; training on four.
    assert found.generate_rate("h100", smol, vllm=False) == Range(0.2 * limit, 18 / 40 * limit, 0.8 * limit)
    assert found.train_rate("h100", smol, bf16=True) == Range(225, 225, 225)
    assert found.figure("solution_share").low == 0.2 * limit / (run.spec.evaluate.max_new_tokens)
    assert found.figure("failed_share") == Range(0.6, 0.6, 0.6)
    assert found.figure("gvisor_executions").likely == pytest.approx(10 / 0.05 / where.pools["sandbox"].cores)
    assert found.figures["failed_share"].source == "run r, 3 parts"
    assert found.figures["train_mfu"] == load_rates().figures["train_mfu"]
    assert estimate_of(spec, where, found).stages["train"].seconds.likely > 0


def test_speeds_of_gpus_are_not_taken_for_processors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ran on accelerators"):
        reckoning.like(measured_run(tmp_path, accelerators=1.0), TWO_CORES, load_rates())


def test_speeds_of_processors_are_per_core(tmp_path: Path) -> None:
    found = reckoning.like(measured_run(tmp_path, accelerators=0.0), TWO_CORES, load_rates())
    assert found.train_rate("cpu", 134_515_008, bf16=False) == Range(450, 450, 450)


@pytest.mark.parametrize(("name", "profile"), [("leti-350m", "gke-l4"), ("leti-2b", "eks-h100")])
@pytest.mark.parametrize("extra", ["", "--sources"])
def test_what_is_printed_is_the_golden(name: str, profile: str, extra: str) -> None:
    arguments = ["--preset", name, "--profile", profile, *extra.split()]
    done = CliRunner().invoke(command, arguments, env={"COLUMNS": "160"})
    golden = GOLDEN / f"{name}-{profile}{extra}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(done.output)
    assert done.exit_code == 0 and done.output == golden.read_text(), done.output
