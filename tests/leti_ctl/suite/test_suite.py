"""Suites: cells to runs, runs shared by their specs, trials, scores to values, values to tables."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leti_ctl import control, presets
from leti_ctl.config import specs
from leti_ctl.pipeline import plan
from leti_ctl.suite import book, drive, results, score
from leti_ctl.suite.book import Suite
from leti_ctl.suite.fleet import Fleet
from leti_ctl.suite.resolve import Resolver, Wanted, known_runs
from leti_ctl.suite.score import Gap, Scores, Value
from leti_ctl.suite.trial import Trial, find_sources
from stages.contract.artifacts import Input, Ref
from stages.contract.errors import SpecError, StoreError, UsageError
from stages.contract.records import Interval, Metrics
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import LocalStore
from stages.entrypoint import Job

TEXT = """
title: T
tables:
  curves:
    title: C
    source: S
    also: [figure9]
    columns:
      - {title: first, measure: initial}
      - {title: best, measure: best}
      - {title: at, measure: best_iteration, unit: iterations}
      - {title: gain, measure: gain}
      - {title: ratio, measure: gain_ratio, unit: ratio}
    rows:
      - {name: text, run: leti-350m, against: leti-350m-binary-only, published: [10, 40, 3, 10, null]}
      - {name: binary, run: leti-350m-binary-only, published: [10, null, null, null, null]}
    notes: [a note]
  tokens:
    title: K
    source: S
    columns:
      - {title: passed, evaluation: "mbpp-350m{token}", figure: "share:passed", out_of: 40}
      - {title: other, evaluation: "mbpp-350m{token}", figure: "share:other", listed: [KeyError]}
    rows:
      - {name: base, published: [10, null]}
      - {name: steered, run: leti-350m, at: 2, tokens: [-good, -bad], published: [null, 5]}
scaled:
  about: nothing
  set: {model: {source: tiny-random}}
  shrink: {iterations: 1, task.train_problems: 3, generate.samples_per_problem: 2, evaluate.samples_per_problem: 2,
           train.batch_size: 2}
  tasks: {mbpp: {name: basics}}
data: {mbpp: [mbpp.jsonl, "mbpp*.jsonl"], bbh: [bbh]}
"""


PAPER = book.load("paper")


@pytest.fixture
def suite() -> Suite:
    return book.parse(TEXT, "test")


def resolved(suite: Suite, scale: float = 1.0) -> Resolver:
    resolver = Resolver(Trial(suite, scale))
    for name, table in suite.tables.items():
        resolver.add(name, table)
    return resolver


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("published: [10, 40, 3, 10, null]", "published: [10]", "publishes 1 of 5"),
        ("measure: best}", "measure: bset}", "tables.curves.columns.1.measure"),
        ("tokens: [-good, -bad]", "tokens: [a, b, c]", "got 3"),
    ],
)
def test_a_broken_suite_is_one_line(old: str, new: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        book.parse(TEXT.replace(old, new), "test")


def test_tables_are_chosen_by_name_and_by_what_else_they_are_called(suite: Suite) -> None:
    assert list(suite.choose(["figure9"])) == ["curves"] and list(suite.choose([])) == ["curves", "tokens"]
    with pytest.raises(UsageError, match="did you mean curves"):
        suite.choose(["curve"])


def test_equal_specs_are_one_run_and_a_stores_run_is_found_whatever_its_name(suite: Suite, tmp_path: Path) -> None:
    resolver = resolved(suite)
    assert [(one.preset, one.spec.iterations) for one in resolver.runs.values()] == [
        ("leti-350m", 50),
        ("leti-350m-binary-only", 50),
        ("mbpp-350m", 0),
        ("mbpp-350m-good", 0),
        ("mbpp-350m-bad", 0),
    ]
    store, first = LocalStore(tmp_path), next(iter(resolver.runs.values()))
    Run(store, "made-by-hand").create(first.spec.model_copy(update={"iterations": 2}))
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "spec.json").write_text("{")
    other = Resolver(Trial(suite), known_runs(store))
    other.add("curves", suite.tables["curves"])
    assert next(iter(other.runs.values())).name == "made-by-hand"


def test_a_checkpoint_is_scored_under_the_name_of_what_trained_it(suite: Suite) -> None:
    runs = list(resolved(suite).runs.values())
    assert {one.parent for one in runs[3:]} == {runs[0].name}
    assert {one.spec.model.from_iteration for one in runs[3:]} == {2}
    # In a trial of one iteration, the last stands for those it does not reach.
    assert {one.spec.model.from_iteration for one in resolved(suite, 0.01).runs.values() if one.parent} == {1}


class Away(LocalStore):
    """A store that is away."""

    def get(self, key: str) -> bytes:
        raise StoreError("no answer")


def test_a_store_that_is_away_says_nothing_about_what_is_done(suite: Suite, tmp_path: Path) -> None:
    one = next(iter(resolved(suite).runs.values()))
    assert drive.state(LocalStore(tmp_path), one) == (0, len(plan(one.spec).units))
    with pytest.raises(StoreError):
        drive.state(Away(tmp_path), one)


def test_a_score_waits_for_a_training_that_is_still_to_be_made(suite: Suite, tmp_path: Path) -> None:
    """As it is where the store was away when the training's turn came."""
    runs = list(resolved(suite).runs.values())
    child = next(one for one in runs if one.parent)
    fleet = Fleet(LocalStore(tmp_path), runs, Any, at_once=9)  # type: ignore[arg-type]
    fleet.waiting = dict(fleet.wanted)
    assert fleet._has_to_wait(child)


def test_a_trial_shrinks_what_the_suite_says_down_to_a_least(suite: Suite) -> None:
    whole = specs.load_spec(preset="leti-350m", file=None, overrides=(), iterations=None)
    small = RunSpec.model_validate_json(specs.validate(Trial(suite, 0.05, ("seed=3",)).apply(whole)).model_dump_json())
    assert (small.iterations, small.task.train_problems, small.generate.samples_per_problem) == (3, 3, 7)
    assert (small.evaluate.samples_per_problem, small.evaluate.k, small.train.batch_size) == (2, (1, 2), 7)
    assert (small.task.name, small.model.source, small.seed) == ("basics", "tiny-random", 3)
    assert specs.validate(Trial(suite).apply(whole)) == whole


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_of_the_paper_survives_the_papers_trial(name: str) -> None:
    trial = Trial(PAPER, 0.01)
    spec = specs.load_spec(preset=name, file=None, overrides=(), iterations=None)
    small = specs.validate(trial.apply(spec))
    assert small.iterations <= 1 and small.generate.samples_per_problem <= 2
    examples = (small.task.train_problems or 0) * small.generate.samples_per_problem
    assert not small.trains() or examples >= small.train.batch_size


def test_data_sets_are_found_by_their_usual_names(suite: Suite, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"mbpp\.jsonl, bbh"):
        find_sources(suite, tmp_path)
    (tmp_path / "mbpp-small.jsonl").touch()
    (tmp_path / "bbh").mkdir()
    found = find_sources(suite, tmp_path)
    assert found == {"mbpp": str(tmp_path / "mbpp-small.jsonl"), "bbh": str(tmp_path / "bbh")}
    whole = specs.load_spec(preset="leti-350m", file=None, overrides=(), iterations=None)
    assert Trial(suite, 0.01, sources=found).apply(whole)["task"]["source"] == found["mbpp"]


def interval(value: float, half: float = 0.1) -> Interval:
    return Interval(value=value, low=value - half, high=value + half)


def metrics(iteration: int, rate: float, split: str = "test") -> Metrics:
    passed = round(rate * 20)
    return Metrics(
        iteration=iteration, split=split, temperature=0.1, reward_token="good",
        num_problems=10, num_samples=21, num_infra_errors=1,
        pass_at_k={"1": interval(rate)}, solve_rate=interval(rate), executable_rate=interval(rate),
        error_types={"KeyError": 4, "timed_out": 16 - passed}, outcomes={"passed": passed, "failed": 20 - passed},
        mean_solution_tokens=3.0, mean_feedback_characters=4.0, eos_rate=0.5, figures={"f1": interval(2 * rate)},
    )  # fmt: skip


def commit(store: LocalStore, one: Wanted, curve: Mapping[int, float], scratch: Path) -> None:
    run = Run(store, one.name)
    run.create(one.spec)
    for iteration, rate in curve.items():
        job = Job(run, "evaluate", iteration, "test", scratch=scratch)
        ref = Ref("metrics", iteration, "test")
        job.commit_rows(ref, [metrics(iteration, rate)], inputs=(Input(ref="made by a test", sha256="0" * 64),))


@pytest.fixture
def tables(suite: Suite, tmp_path: Path) -> dict[str, dict[str, object]]:
    """The suite's tables over runs whose scores a test made."""
    store, resolver = LocalStore(tmp_path / "store"), resolved(suite)
    text, binary, base, good, bad = resolver.runs.values()
    commit(store, text, {0: 0.1, 1: 0.3, 2: 0.5, 3: 0.5}, tmp_path)
    commit(store, binary, {0: 0.1, 1: 0.2}, tmp_path)
    for one, rate in ((base, 0.2), (good, 0.6), (bad, 0.35)):
        commit(store, one, {0: rate}, tmp_path)

    def open_run(one: Wanted) -> tuple[Run, RunSpec]:
        run = Run(store, one.name)
        made = {text.name: 3, binary.name: 1}.get(one.name, 0)
        return run, control.current_spec(run).model_copy(update={"iterations": made})

    return results.collect(suite.tables, resolver, Scores(open_run))


def cell(tables: Mapping[str, Mapping[str, object]], table: str, row: str, column: str) -> dict[str, object]:
    cells: list[dict[str, object]] = tables[table]["cells"]  # type: ignore[assignment]
    (found,) = [one for one in cells if (one["row"], one["column"]) == (row, column)]
    return found


def test_a_curve_gives_its_first_its_best_and_its_gain(tables: dict[str, dict[str, object]]) -> None:
    ours = {name: cell(tables, "curves", "text", name)["ours"] for name in ("first", "best", "at", "gain", "ratio")}
    assert ours == pytest.approx({"first": 10.0, "best": 50.0, "at": 2.0, "gain": 20.0, "ratio": 2.0})
    assert cell(tables, "curves", "binary", "ratio")["ours"] is None
    gain = cell(tables, "curves", "text", "gain")
    assert gain["high"] == pytest.approx(20 + math.hypot(10, 10) / 2, abs=1e-3)


def test_a_difference_carries_our_interval(tables: dict[str, dict[str, object]]) -> None:
    best = cell(tables, "curves", "text", "best")
    assert (best["difference"], best["difference_low"], best["difference_high"]) == pytest.approx((10.0, 0.0, 20.0))
    assert cell(tables, "curves", "binary", "best")["difference"] is None


def test_shares_leave_out_what_was_not_judged(tables: dict[str, dict[str, object]]) -> None:
    assert cell(tables, "tokens", "base", "passed")["ours"] == pytest.approx(20.0)
    assert cell(tables, "tokens", "base", "passed")["published"] == pytest.approx(25.0)
    assert cell(tables, "tokens", "base", "other")["ours"] == pytest.approx(60.0)
    assert cell(tables, "tokens", "steered", "passed")["ours"] == pytest.approx(25.0)


def test_tables_come_as_csv_and_markdown(tables: dict[str, dict[str, object]]) -> None:
    lines = list(csv.DictReader(io.StringIO(results.to_csv(tables))))
    assert len(lines) == 14 and {line["table"] for line in lines} == {"curves", "tokens"}
    text = results.to_markdown("T", "MEANS NOTHING", tables)
    assert "**MEANS NOTHING**" in text and "- a note" in text
    assert "| text | ours | 10.00 ±10.00 | 50.00 ±10.00 | 2 | 20.00 ±7.07 | 2.00 |" in text
    assert "|  | difference | +0.00 [-10.00, +10.00] | +10.00 [+0.00, +20.00] | -1 |" in text


def test_what_has_not_run_is_a_gap(suite: Suite, tmp_path: Path) -> None:
    def open_run(one: Wanted) -> tuple[Run, RunSpec]:
        run = Run(LocalStore(tmp_path), one.name)
        return run, control.current_spec(run)

    resolver = resolved(suite)
    found = results.collect(suite.tables, resolver, Scores(open_run))
    assert {one["note"] for one in found["curves"]["cells"]} == {"not run", ""}
    assert drive.state(LocalStore(tmp_path), next(iter(resolver.runs.values())))[0] == 0


def test_fewer_samples_than_k_give_the_largest_k_there_is_and_say_so() -> None:
    row = metrics(0, 0.5)
    assert score.figure(row, "pass@100") == Value(0.5, 0.4, 0.6, "pass@1")
    assert score.figure(row, "figures.f1") == Value(1.0, 0.9, 1.1)
    assert score.figure(row, "figures.nope") == Gap("the task has no nope")


@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=4, max_size=12))
def test_the_correlation_is_the_textbooks_and_lies_in_its_interval(pairs: list[tuple[int, int]]) -> None:
    first, second = ([float(pair[side]) for pair in pairs] for side in (0, 1))
    found = score.pearson(first, second)
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert isinstance(found, Gap)
        return
    assert isinstance(found, Value)
    assert found.value == pytest.approx(statistics.correlation(first, second), abs=1e-9)
    if found.low is not None and found.high is not None:
        assert -1 <= found.low <= found.value <= found.high <= 1
