"""The paper's suite: its numbers against a second transcription, and every cell's run against the paper's settings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from leti_ctl.suite import book
from leti_ctl.suite.book import Spot
from leti_ctl.suite.resolve import Resolver, Wanted
from leti_ctl.suite.trial import Trial

SUITE = book.load("paper")

# Typed from the paper's tables and the poster, not from the suite's file: a row's cells in order, `-` for none.
PUBLISHED = {
    "table1": """
        12.56 23.11 35.19
        12.19 21.69 35.62
        13.19 23.36 36.95
        23.70 36.64 57.01
        19.90 35.62 58.48
        21.60 37.03 58.28
        21.60 39.51 61.4
    """,
    "table2": """
        4.50 28.00 6 3.92 2.24
        4.50 18.54 8 1.75 -
        7.40 13.96 14 0.47 1.57
        7.40 10.75 11 0.30 -
    """,
    "table3": """
        2.60 2.74 3.92 2.24
        0.95 - 1.75 -
        0.17 0.63 0.47 1.57
        0.27 - 0.30 -
    """,
    "table4": """
        40.03 29.67 36.81 7.14
        38.97 29.41 37.46 8.05
        42.99 29.81 36.72 6.91
        41.93 29.23 36.71 7.48
        32.15 30.06 35.82 5.76
        13.04 29.10 30.53 1.43
        16.68 28.89 28.86 -0.03
        16.07 28.81 28.72 -0.09
        7.88 28.00 28.31 0.31
    """,
    "a5": """
        1.00 -1.11 -0.39 -0.13 0.91 0.05 -0.14
        0.00 -0.23 0.01 -0.14 0.22 -0.17 0.28
        16.16 -17.45 -29.40 -48.25 1.74 -0.11 0.14
        3.54 -9.85 -17.24 -28.44 -0.61 0.02 0.09
        15.16 -16.35 -29.01 -48.12 0.83 -0.15 0.28
        3.54 -9.62 -17.25 -28.31 -0.83 0.18 -0.18
    """,
    "a5-official-code": """
        -1.11 -0.39 -0.13
        -0.23 0.01 -0.14
        -17.45 -29.40 -48.25
        -9.85 -17.24 -28.44
        -16.35 -29.01 -48.12
        -9.62 -17.25 -28.31
    """,
    "a6": "14\n12",
    "a7": "16.9\n20.5",
    "figure3": "64.7 8.2\n19.4 82.6",
    "eae": "21.2 8\n33.5 10.6",
    "figure6": "0.93 -0.08 0.51\n0.73 -0.24 0.29",
}
COUNTS = """
    1189 4356 3835 4376
    5179 652 437 458
    467 165 - -
    - - 810 94
    799 572 652 657
    366 2255 2266 2415
"""


def rows(text: str) -> Iterator[list[float | None]]:
    for line in text.strip().splitlines():
        yield [None if word == "-" else float(word) for word in line.split()]


def spots(table: str) -> list[Spot]:
    return list(SUITE.tables[table].spots())


def spot(table: str, row: str, column: str) -> Spot:
    (found,) = [one for one in spots(table) if (one.row, one.column) == (row, column)]
    return found


def sources(table: str, row: str, column: str) -> list[Wanted]:
    return Resolver(Trial(SUITE)).sources(spot(table, row, column).cell)


@pytest.mark.parametrize("table", PUBLISHED)
def test_published_numbers_are_the_papers(table: str) -> None:
    assert [list(row.published) for row in SUITE.tables[table].rows] == list(rows(PUBLISHED[table]))


def test_published_counts_are_the_posters_and_add_up_to_all_samples() -> None:
    found = [list(row.published) for row in SUITE.tables["errors"].rows]
    assert found == list(rows(COUNTS))
    assert [sum(value or 0 for value in column) for column in zip(*found, strict=True)] == [8000] * 4
    assert spot("errors", "passed", "pre-trained").published == pytest.approx(4.575)


def test_table_twos_gains_follow_from_its_other_columns() -> None:
    gains = {row.name: row.published[3] for row in SUITE.tables["table2"].rows}
    for row in SUITE.tables["table2"].rows:
        initial, best, iterations, gain, _ = row.published
        assert None not in (initial, best, iterations, gain)
        assert ((best or 0) - (initial or 0)) / (iterations or 1) == pytest.approx(gain, abs=0.006)
    assert (gains["2B"] or 0) / (gains["2B w/o textual feedback"] or 1) == pytest.approx(2.24, abs=0.005)


def test_the_difference_of_chain_of_thought_and_direct_is_that_of_its_columns() -> None:
    for row in SUITE.tables["table4"].rows:
        _, direct, thought, difference = row.published
        assert (thought or 0) - (direct or 0) == pytest.approx(difference, abs=0.011)


def test_reward_token_rows_of_a_model_add_up() -> None:
    published = {row.name: row.published for row in SUITE.tables["a5"].rows}
    for size in ("2B", "350M"):
        pairs = zip(published[f"good - none {size}"], published[f"bad - none {size}"], strict=True)
        for steer, (good, bad) in zip(published[f"good - bad {size}"], pairs, strict=True):
            assert (good or 0) - (bad or 0) == pytest.approx(steer, abs=0.025)


def test_every_cell_has_the_presets_it_names() -> None:
    resolver = Resolver(Trial(SUITE))
    for name, table in SUITE.tables.items():
        resolver.add(name, table)
    for one in resolver.runs.values():
        assert one.parent is None or one.parent in {other.name for other in resolver.runs.values()}
    # Whatever is scored has been trained before.
    order = [one.name for one in resolver.runs.values()]
    assert all(order.index(one.parent) < order.index(one.name) for one in resolver.runs.values() if one.parent)


def test_humaneval_is_scored_as_the_paper_says() -> None:
    (one,) = sources("table1", "LETI 2B", "pass@100")
    evaluate = one.spec.evaluate
    assert (one.spec.task.name, one.spec.iterations, one.spec.model.from_iteration) == ("humaneval", 0, 6)
    assert (evaluate.samples_per_problem, evaluate.temperatures, evaluate.top_p) == (256, (0.2, 0.6, 0.8), 0.95)
    assert (evaluate.max_new_tokens, evaluate.reward_token, evaluate.k) == (768, "none", (1, 10, 100))


def test_gsm8k_and_bbh_are_scored_as_the_paper_says() -> None:
    (gsm,) = sources("table4", "LETI 350M w/o regularisation", "GSM8K-PaL")
    evaluate = gsm.spec.evaluate
    assert (gsm.spec.task.name, gsm.spec.model.from_iteration, gsm.spec.task.tolerance) == ("gsm8k_pal", 14, 0.0)
    assert (evaluate.samples_per_problem, evaluate.temperature, evaluate.top_p) == (40, 0.7, 0.95)
    thought, direct = sources("table4", "Pre-trained 2B", "CoT - direct")
    assert (thought.spec.task.style, direct.spec.task.style, thought.parent) == ("cot", "direct", None)
    assert (thought.spec.evaluate.max_new_tokens, direct.spec.evaluate.max_new_tokens) == (2048, 1536)
    assert thought.spec.evaluate.temperature == 0 and thought.spec.evaluate.samples_per_problem == 1


def test_a_row_of_two_tokens_scores_one_checkpoint_under_both() -> None:
    good, none = sources("a5", "good - none 2B", "HumanEval @1")
    assert (good.spec.evaluate.reward_token, none.spec.evaluate.reward_token) == ("good", "none")
    assert good.parent == none.parent and good.spec.model.from_iteration == none.spec.model.from_iteration == 6


def test_the_supervised_baseline_takes_one_step_an_epoch() -> None:
    (one,) = sources("a7", "350M", "pass@1")
    train = one.spec.train
    assert (one.spec.iterations * train.epochs, train.batch_size, train.learning_rate) == (30, 374, 1e-4)
    assert (train.objective, one.spec.build.form, one.spec.generate.solutions) == ("fcft", "supervised", "reference")


def test_what_two_tables_need_is_one_run() -> None:
    both = Resolver(Trial(SUITE))
    for name in ("table2", "a6", "figure2"):
        both.add(name, SUITE.tables[name])
    alone = Resolver(Trial(SUITE))
    alone.add("table2", SUITE.tables["table2"])
    assert list(both.runs) == list(alone.runs) and len(alone.runs) == 4
    assert next(iter(both.runs.values())).tables == ["table2", "a6", "figure2"]


def test_a_run_is_trained_as_far_as_its_tables_look() -> None:
    def iterations(*tables: str) -> dict[str, int]:
        resolver = Resolver(Trial(SUITE))
        for name in tables:
            resolver.add(name, SUITE.tables[name])
        return {one.preset: one.spec.iterations for one in resolver.runs.values() if one.spec.iterations}

    shorter = {"leti-350m": 14, "leti-2b": 6, "leti-2b-binary-only": 6, "leti-2b-postprocess-legacy": 2}
    found = iterations("table1")
    assert {name: found[name] for name in shorter} == shorter
    assert iterations("figure3") == {"leti-2b": 6}
    # The best of all iterations asks for all of them, whichever table is looked at first.
    whole = {"leti-350m": 50, "leti-2b": 10, "leti-350m-binary-only": 50, "leti-2b-binary-only": 30}
    assert iterations("table2") == whole
    assert {name: iterations("table1", "table2", "figure3")[name] for name in whole} == whole


def test_other_scores_of_table_four_are_read_from_its_own_runs() -> None:
    def runs(table: str) -> set[str]:
        resolver = Resolver(Trial(SUITE))
        resolver.add(table, SUITE.tables[table])
        return {one.name for one in resolver.runs.values()}

    assert runs("table4-other-scores") == runs("table4")
    rows = [[row.name for row in SUITE.tables[table].rows] for table in ("table4", "table4-other-scores")]
    assert rows[0] == rows[1]


def test_official_code_takes_every_twin_there_is() -> None:
    resolver = Resolver(Trial(SUITE, official_code=True))
    for name, table in SUITE.tables.items():
        resolver.add(name, table)
    without = {one.preset for one in resolver.runs.values() if not one.preset.endswith("-official-code")}
    # Event arguments are scored as the official code does it anyway.
    assert without == {"eae-greedy-350m", "eae-greedy-350m-good"}
    good = next(one for one in resolver.runs.values() if one.preset == "humaneval-2b-good-official-code")
    assert good.spec.execute.reward_token_removal == "character_set"
    assert good.spec.model.tokens.feedback_open == "<|lang_feedback|>"
